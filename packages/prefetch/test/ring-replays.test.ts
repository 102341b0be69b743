// Graphs that hold a forward belong between forwards: within one, neither could rely on what is in the slots.
import { describe, expect, it } from 'vitest'
import { onDevice, onloadedSince } from './device-rig.js'
import { capture, refusedCalls, runRefusedCall, slots } from './replays-run.js'
import { RingRig } from './ring-rig.js'

describe('a graph with a forward that is launched while another forward is open', () => {
  it.each(refusedCalls)('is refused by %s, and forwards and replays after it are right', async (...call) => {
    for (const adversarialSeed of [undefined, 1, 2, 3]) {
      const order = adversarialSeed === undefined ? { linkLatencyMs: 0.2 } : { adversarialSeed }
      await onDevice(order, (device) => runRefusedCall(device, call))
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
