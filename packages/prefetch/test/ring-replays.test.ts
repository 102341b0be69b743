// Graphs that hold a forward belong between forwards: within one, neither could rely on what is in the slots.
import type { Graph } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import type { NativeRing } from '../src/native-ring.js'
import { failure, onDevice, onloadedSince } from './device-rig.js'
import { RingRig } from './ring-rig.js'

const slots = 2

function capture(rig: RingRig, ring: NativeRing, order: readonly number[], of = slots): Graph {
  rig.compute.beginCapture()
  rig.forward(ring, order, of)
  return rig.compute.endCapture()
}

describe('a graph with a forward that is launched while another forward is open', () => {
  // What a piece of layers 2 and 3 would do in the midst of 0 … 5.
  const calls: readonly (readonly [string, (rig: RingRig, ring: NativeRing, launch: () => void) => void])[] = [
    [
      'before() of the next layer',
      (rig, ring, launch) => {
        for (const i of [0, 1]) rig.visit(ring, i, slots)
        launch()
        rig.addon.before(ring, 4)
      },
    ],
    [
      'after() of a layer',
      (rig, ring, launch) => {
        rig.visit(ring, 0, slots)
        rig.addon.before(ring, 1)
        launch()
        rig.addon.after(ring, 1)
      },
    ],
    [
      'end()',
      (rig, ring, launch) => {
        for (const i of [0, 1]) rig.visit(ring, i, slots)
        launch()
        rig.addon.end(ring, true)
      },
    ],
    [
      'end() of a forward that has done nothing yet',
      (rig, ring, launch) => {
        launch()
        rig.addon.end(ring, true)
      },
    ],
  ]

  it.each(calls)('is refused by %s, and forwards and replays after it are right', async (call, body) => {
    for (const adversarialSeed of [undefined, 1, 2, 3]) {
      await onDevice(adversarialSeed === undefined ? { linkLatencyMs: 0.2 } : { adversarialSeed }, async (device) => {
        await using rig = await RingRig.open(device)
        const ring = rig.ring(6, slots)
        const graph = capture(rig, ring, [2, 3])
        rig.begin(ring)
        const error = await failure('SPILLWAY_CAPTURE', () => body(rig, ring, () => rig.compute.launch(graph)))
        expect(error.message).toContain('launch it between forwards')
        if (call.startsWith('end')) await failure('SPILLWAY_INVALID_ARGUMENT', () => rig.addon.end(ring, false))
        else rig.addon.end(ring, false)
        // What those two have read is not known, and nobody was told that it is right.
        await rig.wipeLog()
        await using again = capture(rig, ring, [2, 3])
        rig.forward(ring, [0, 1], slots)
        rig.compute.launch(again)
        rig.forward(ring, [4, 5, 0], slots)
        await rig.expectRightBytes()
        await graph.dispose()
      })
    }
  })

  it('is not told from one before it when the forward ends in a failure: the next one is right', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(6, slots)
      await using graph = capture(rig, ring, [2, 3])
      rig.begin(ring)
      rig.addon.before(ring, 0)
      rig.addon.after(ring, 0)
      rig.compute.launch(graph)
      rig.addon.end(ring, false)
      await rig.wipeLog()
      rig.forward(ring, [0, 1, 2, 3, 4, 5], slots)
      await rig.expectRightBytes()
      expect(rig.counters(ring)).toMatchObject({ failedForwards: 1, demandOnloads: 2 }) // of the captured 2 and 3
    })
  })
})

describe('may be launched while a forward is open', () => {
  it('a graph that moves no layer, since each has a slot of its own', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(5, 8)
      await using graph = capture(rig, ring, [2, 3], 5)
      await rig.settle()
      const before = device.counters()
      rig.begin(ring)
      for (const i of [0, 1]) rig.visit(ring, i, 5)
      rig.compute.launch(graph)
      rig.visit(ring, 4, 5)
      rig.addon.end(ring, true)
      await rig.expectRightBytes()
      expect(onloadedSince(device, before).copies).toBe(0)
    })
  })

  it('a graph of something else', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(6, slots)
      rig.compute.beginCapture()
      rig.delay()
      await using graph = rig.compute.endCapture()
      rig.begin(ring)
      for (const i of [0, 1, 2, 3, 4, 5]) {
        rig.compute.launch(graph)
        rig.visit(ring, i, slots)
      }
      rig.addon.end(ring, true)
      await rig.expectRightBytes()
    })
  })

  it('a graph with a forward of another ring', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      await using other = await RingRig.open(device)
      const rings = [rig.ring(6, slots), other.ring(6, slots)] as const
      await using graph = capture(other, rings[1], [0, 1, 2, 3, 4, 5])
      rig.begin(rings[0])
      for (const i of [0, 1, 2, 3, 4, 5]) {
        other.compute.launch(graph)
        rig.visit(rings[0], i, slots)
      }
      rig.addon.end(rings[0], true)
      await rig.expectRightBytes()
      await other.expectRightBytes()
    })
  })
})
