import type { Graph } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { NativeRing } from '../src/native-ring.js'
import { failure, onDevice, onloadedSince } from './device-rig.js'
import { elementBytes, RingRig } from './ring-rig.js'

const count = (length: number): number[] => Array.from({ length }, (_, i) => i)

function capture(rig: RingRig, ring: NativeRing, order: readonly number[], slots: number): Graph {
  rig.compute.beginCapture()
  rig.forward(ring, order, slots)
  return rig.compute.endCapture()
}

describe('a captured forward', () => {
  it('copies nothing while it is captured, and at each replay what shares a slot', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      for (const [elements, step] of [
        [1, 1],
        [2, 1],
        [5, 2],
        [5, 3],
        [8, 3],
        [3, 8],
        [64, 16],
      ] as const) {
        const slots = Math.min(elements, step)
        const order = count(elements)
        const shared = order.filter((i) => i >= slots || i + slots < elements)
        const bytes = shared.reduce((total, i) => total + elementBytes(i), 0)
        await rig.wipeLog()
        const ring = rig.ring(elements, step)
        rig.forward(ring, order, slots)
        await rig.settle()
        const before = device.counters()
        const graph = capture(rig, ring, order, slots)
        await rig.settle()
        expect(onloadedSince(device, before)).toEqual({ copies: 0, bytes: 0 })
        for (let replay = 1; replay <= 3; replay++) {
          await rig.wipeLog(true)
          rig.forward(ring, [], slots)
          rig.compute.launch(graph)
          await rig.settle()
          expect(onloadedSince(device, before)).toEqual({ copies: replay * shared.length, bytes: replay * bytes })
        }
        expect(rig.counters(ring)).toMatchObject({ capturedOnloads: shared.length, demandOnloads: 0, resets: 0 })
        await graph.dispose()
      }
    })
  })

  it('mixes with replays and other forwards in any order, without a wait between them', async () => {
    const orders = fc.array(fc.nat(11), { maxLength: 8 })
    const actions = fc.array(
      fc.oneof(
        fc.record({ kind: fc.constant('forward' as const), order: orders }),
        fc.record({ kind: fc.constant('capture' as const), order: orders, breaksOff: fc.boolean() }),
        fc.record({ kind: fc.constant('replay' as const), graph: fc.nat(4) }),
      ),
      { maxLength: 12 },
    )
    const cases = fc.record({
      elements: fc.integer({ min: 1, max: 12 }),
      step: fc.integer({ min: 1, max: 5 }),
      actions,
    })
    await onDevice({ linkLatencyMs: 0.1 }, async (device) => {
      await using rig = await RingRig.open(device)
      await fc.assert(
        fc.asyncProperty(cases, async ({ elements, step, actions }) => {
          await rig.wipeLog()
          const slots = Math.min(elements, step)
          const ring = rig.ring(elements, step)
          const graphs: Graph[] = []
          for (const action of actions) {
            if (action.kind === 'forward') {
              rig.forward(
                ring,
                action.order.map((i) => i % elements),
                slots,
              )
            } else if (action.kind === 'replay') {
              if (graphs.length > 0) rig.compute.launch(graphs[action.graph % graphs.length]!)
            } else {
              rig.compute.beginCapture()
              rig.begin(ring)
              for (const i of action.order) {
                rig.addon.before(ring, i % elements)
                rig.read(i % elements, slots)
                if (action.breaksOff) break
                rig.addon.after(ring, i % elements)
              }
              rig.addon.end(ring, !action.breaksOff)
              graphs.push(rig.compute.endCapture())
            }
          }
          // A graph's reads land in the log when it is replayed.
          for (const graph of graphs) rig.compute.launch(graph)
          rig.forward(ring, count(elements), slots)
          await rig.expectRightBytes()
          expect(rig.counters(ring).onloads).toBeGreaterThanOrEqual(slots)
          await Promise.all(graphs.map((graph) => graph.dispose()))
        }),
        { numRuns: 60 },
      )
    })
  })

  it('writes its reads again at every replay', async () => {
    await onDevice({ linkLatencyMs: 0.1 }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(7, 3)
      const graph = capture(rig, ring, count(7), 3)
      for (let i = 0; i < 4; i++) {
        await rig.wipeLog(true)
        rig.compute.launch(graph)
        await rig.expectRightBytes()
      }
      await graph.dispose()
    })
  })

  it('waits at a replay for copies that are on their way from a forward before it', async () => {
    await onDevice({ linkLatencyMs: 3 }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(6, 3)
      const graph = capture(rig, ring, [2, 5, 1], 3)
      await rig.wipeLog(true)
      rig.begin(ring)
      rig.visit(ring, 0, 3) // 3 is on its way into the slot of 0, and end() sends 0 after it
      rig.addon.end(ring, false)
      rig.compute.launch(graph)
      rig.forward(ring, [0, 3], 3)
      await rig.expectRightBytes()
      await graph.dispose()
    })
  })

  it('waits for a copy of before it once, however often its element is read', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(3, 3)
      const nodes = async (order: readonly number[]): Promise<number> => {
        await using graph = capture(rig, ring, order, 3)
        return graph.nodeCount
      }
      const each = await nodes([0, 1, 2])
      const again = (await nodes([0, 1, 2, 0])) - each
      expect(await nodes([0, 1, 2, 0, 1, 0])).toBe(each + 3 * again)
      expect(each).toBe(3 * again + 3)
    })
  })

  it('that is dropped changes nothing: what it would have copied is not taken for copied', async () => {
    await onDevice({ check: false }, async (device) => {
      await using rig = await RingRig.open(device)
      const before = device.counters()
      const ring = rig.ring(6, 2)
      rig.compute.beginCapture()
      rig.begin(ring)
      rig.addon.before(ring, 0)
      rig.addon.after(ring, 0) // records 2 into the slot of 0
      const other = device.createStream()
      const event = device.createEvent()
      rig.compute.record(event)
      other.wait(event)
      other.fill(rig.scratch, 0) // never joined: the device drops the capture
      rig.addon.end(ring, false)
      await failure('SPILLWAY_CAPTURE', () => rig.compute.endCapture())
      await rig.settle()
      expect(onloadedSince(device, before).copies).toBe(2) // the first onloads
      rig.forward(ring, count(6), 2)
      await rig.expectRightBytes()
      // The one reset was recorded, at the end that broke off.
      expect(rig.counters(ring)).toMatchObject({ demandOnloads: 0, resets: 1, capturedOnloads: 2 })
      await Promise.all([other.dispose(), event.dispose()])
    })
  })
})

describe('what a capture cannot hold is refused', () => {
  it('a capture that begins or ends within a forward; the forward after it is right', async () => {
    await onDevice({ check: false }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(6, 2)

      rig.begin(ring)
      rig.visit(ring, 0, 2)
      rig.compute.beginCapture()
      const began = await failure('SPILLWAY_CAPTURE', () => rig.addon.before(ring, 1))
      expect(began.message).toContain('before beginForward()')
      rig.addon.end(ring, false)
      await rig.compute.endCapture().dispose()
      // Slot 0 was left with element 2 in it: nothing to record a replay on.
      rig.compute.beginCapture()
      const disorder = await failure('SPILLWAY_CAPTURE', () => rig.begin(ring))
      expect(disorder.message).toContain('run one forward outside of the capture first')
      await rig.compute.endCapture().dispose()

      rig.forward(ring, [0, 1, 2, 3, 4, 5], 2)
      rig.compute.beginCapture()
      rig.begin(ring)
      rig.addon.before(ring, 0)
      rig.addon.after(ring, 0)
      await failure('SPILLWAY_CAPTURE', () => rig.compute.endCapture()) // the copy stream is not joined yet
      await failure('SPILLWAY_CAPTURE', () => rig.addon.before(ring, 1))
      await failure('SPILLWAY_CAPTURE', () => rig.addon.end(ring, true))
      rig.forward(ring, [0, 1, 2, 3, 4, 5], 2)
      await rig.expectRightBytes()
      expect(rig.counters(ring).demandOnloads).toBe(1) // 0, which the very first forward left out of its slot
    })
  })

  it('a forward on another stream while a capture that holds one is open', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      const ring = rig.ring(6, 2)
      rig.compute.beginCapture()
      rig.forward(ring, count(6), 2)
      const error = await failure('SPILLWAY_CAPTURE', () => rig.begin(ring, other))
      expect(error.message).toContain('end that capture before this forward')
      const graph = rig.compute.endCapture()
      rig.forward(ring, count(6), 2, other)
      rig.forward(ring, [], 2)
      rig.compute.launch(graph)
      await rig.expectRightBytes()
      await other.dispose()
      await graph.dispose()
    })
  })

  it('a forward on another stream while the stream of the last one is captured for something else', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      const ring = rig.ring(6, 2)
      rig.forward(ring, count(6), 2)
      rig.compute.beginCapture()
      await failure('SPILLWAY_CAPTURE', () => rig.begin(ring, other))
      expect(other.capturing).toBe(false)
      await rig.compute.endCapture().dispose()
      rig.forward(ring, count(6), 2, other)
      await other.synchronize()
      await rig.expectRightBytes()
      await other.dispose()
    })
  })

  it('unpinned host memory, unless nothing of it is ever copied again', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device, 'pageable')
      const sharing = rig.ring(6, 2)
      rig.forward(sharing, count(6), 2)
      rig.compute.beginCapture()
      const error = await failure('SPILLWAY_CAPTURE', () => rig.begin(sharing))
      expect(error.message).toContain('--pin-memory on')
      await rig.compute.endCapture().dispose()
      rig.forward(sharing, count(6), 2)
      await rig.expectRightBytes()

      await rig.wipeLog()
      const alone = rig.ring(3, 4)
      const graph = capture(rig, alone, [0, 1, 2], 3)
      rig.compute.launch(graph)
      await rig.expectRightBytes()
      await graph.dispose()
    })
  })

  it('starting the ring inside of one', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      rig.compute.beginCapture()
      await failure('SPILLWAY_CAPTURE', () => rig.ring(4, 2))
      await rig.compute.endCapture().dispose()
    })
  })
})
