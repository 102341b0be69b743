import { handleOf, openDevice } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import { failure, liveHandles, onDevice, onloadedSince } from './device-rig.js'
import { RingRig } from './ring-rig.js'

describe('forwards on different streams', () => {
  it('come one after another, however slow the first is', async () => {
    await onDevice({ linkLatencyMs: 0.5 }, async (device) => {
      await using rig = await RingRig.open(device)
      const streams = [device.createStream(), device.createStream({ priority: 'high' })]
      const ring = rig.ring(5, 2)
      for (let i = 0; i < 6; i++) {
        const stream = [rig.compute, ...streams][i % 3]!
        rig.begin(ring, stream)
        for (const element of [0, 1, 2, 3, 4]) {
          rig.addon.before(ring, element)
          if (element === 1) rig.delay(stream)
          rig.read(element, 2, stream)
          rig.addon.after(ring, element)
        }
        rig.addon.end(ring, true)
      }
      await Promise.all(streams.map((stream) => stream.synchronize()))
      await rig.expectRightBytes()
      await Promise.all(streams.map((stream) => stream.dispose()))
    })
  })

  it('come after the replays enqueued on the last one', async () => {
    await onDevice({ linkLatencyMs: 1 }, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      const ring = rig.ring(5, 2)
      rig.compute.beginCapture()
      rig.begin(ring)
      for (const element of [0, 1, 2, 3, 4]) {
        rig.addon.before(ring, element)
        rig.delay()
        rig.read(element, 2)
        rig.addon.after(ring, element)
      }
      rig.addon.end(ring, true)
      const graph = rig.compute.endCapture()
      rig.compute.launch(graph)
      rig.forward(ring, [4, 3, 0], 2, other)
      await other.synchronize()
      await rig.expectRightBytes()
      await graph.dispose()
      await other.dispose()
    })
  })

  it('may be captured on one stream and run on another', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      const ring = rig.ring(5, 2)
      rig.forward(ring, [0, 1, 2, 3, 4], 2)
      other.beginCapture()
      rig.forward(ring, [0, 1, 2, 3, 4], 2, other)
      const graph = other.endCapture()
      other.launch(graph)
      other.launch(graph)
      rig.forward(ring, [0, 2, 4], 2)
      await other.synchronize()
      await rig.expectRightBytes()
      await graph.dispose()
      await other.dispose()
    })
  })

  it('take no more events the more often one is captured', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      const ring = rig.ring(5, 2)
      const eventsAfterCapture = async (): Promise<number> => {
        other.beginCapture()
        rig.forward(ring, [0, 1, 2, 3, 4], 2, other)
        await other.endCapture().dispose()
        return liveHandles(device).event ?? 0
      }
      const events = await eventsAfterCapture()
      for (let i = 0; i < 3; i++) expect(await eventsAfterCapture()).toBe(events)
      await other.dispose()
    })
  })

  it('belong to the device of the slots', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const elsewhere = await openDevice('host', { memoryLimitBytes: 2 ** 20 })
      const stream = elsewhere.createStream()
      const ring = rig.ring(3, 2)
      await failure('SPILLWAY_WRONG_DEVICE', () => rig.begin(ring, stream))
      rig.forward(ring, [0, 1, 2], 2)
      await rig.expectRightBytes()
      await stream.dispose()
      await elsewhere.dispose()
    })
  })
})

describe('rebuild', () => {
  it('brings back what a slot held, and everything later comes after it', async () => {
    await onDevice({ linkLatencyMs: 1 }, async (device) => {
      await using rig = await RingRig.open(device)
      const waking = device.createStream()
      const ring = rig.ring(5, 3)
      rig.forward(ring, [0, 1, 2, 3, 4], 3)
      rig.compute.beginCapture()
      rig.forward(ring, [1, 4, 2], 3)
      const graph = rig.compute.endCapture()
      await rig.settle()
      const before = device.counters()
      const { onloads } = rig.counters(ring)
      for (const slot of [0, 1, 2]) {
        rig.wreck(slot, waking)
        rig.addon.rebuild(ring, slot, handleOf(waking))
      }
      rig.compute.launch(graph)
      rig.forward(ring, [0, 1, 2], 3)
      await rig.expectRightBytes()
      expect(onloadedSince(device, before).copies).toBe(3 + 2 + 4) // rebuilt, replayed, and the forward
      expect(rig.counters(ring).onloads - onloads).toBe(3 + 4)
      await graph.dispose()
      await waking.dispose()
    })
  })

  it('is waited for by the very next read, though the slot had been waited for before', async () => {
    await onDevice({ linkLatencyMs: 3 }, async (device) => {
      await using rig = await RingRig.open(device)
      const waking = device.createStream()
      const ring = rig.ring(3, 3)
      rig.forward(ring, [0, 1, 2], 3)
      await rig.settle()
      for (const slot of [0, 1, 2]) {
        rig.wreck(slot, waking)
        rig.addon.rebuild(ring, slot, handleOf(waking))
      }
      rig.forward(ring, [2, 1, 0], 3)
      await rig.expectRightBytes()
      await waking.dispose()
    })
  })

  it('comes after a copy that is still on its way into the slot: two would write at once', async () => {
    await onDevice({ linkLatencyMs: 3 }, async (device) => {
      await using rig = await RingRig.open(device)
      const waking = device.createStream()
      const ring = rig.ring(5, 2)
      rig.forward(ring, [0, 1, 2, 3, 4], 2)
      for (const slot of [0, 1]) rig.addon.rebuild(ring, slot, handleOf(waking))
      rig.forward(ring, [0, 1, 2, 3, 4], 2)
      await rig.expectRightBytes()
      await waking.dispose()
    })
  })

  it('is refused while a capture that holds a forward is open, and leaves the slots in order', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const waking = device.createStream()
      const ring = rig.ring(5, 3)
      rig.compute.beginCapture()
      rig.forward(ring, [0, 1, 2, 3, 4], 3)
      await failure('SPILLWAY_CAPTURE', () => rig.addon.rebuild(ring, 1, handleOf(waking)))
      rig.forward(ring, [4, 2], 3) // refused if a slot were in disorder
      const graph = rig.compute.endCapture()
      rig.compute.launch(graph)
      await rig.expectRightBytes()
      await graph.dispose()
      await waking.dispose()
    })
  })

  it('is refused within a forward or a capture, and for a slot that is not there', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(5, 3)
      const rebuild = (slot: number): void => rig.addon.rebuild(ring, slot, handleOf(rig.compute))
      rig.begin(ring)
      await failure('SPILLWAY_CAPTURE', () => rebuild(0))
      rig.addon.end(ring, true)
      rig.compute.beginCapture()
      await failure('SPILLWAY_CAPTURE', () => rebuild(0))
      await rig.compute.endCapture().dispose()
      await failure('SPILLWAY_INVALID_ARGUMENT', () => rebuild(3))
    })
  })
})

describe('misuse', () => {
  it('is answered with a code', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const { addon } = rig
      const ring = rig.ring(4, 2)
      await failure('SPILLWAY_INVALID_ARGUMENT', () => addon.before(ring, 0)) // no forward is open
      await failure('SPILLWAY_INVALID_ARGUMENT', () => addon.end(ring, true))
      rig.begin(ring)
      await failure('SPILLWAY_INVALID_ARGUMENT', () => rig.begin(ring))
      for (const element of [4, -1, 0.5, Number.NaN, 2 ** 32, '0' as unknown as number]) {
        await failure('SPILLWAY_INVALID_ARGUMENT', () => addon.before(ring, element))
        await failure('SPILLWAY_INVALID_ARGUMENT', () => addon.after(ring, element))
      }
      addon.end(ring, true)
      for (const notRing of [undefined, {}, handleOf(rig.compute), 'ring']) {
        await failure('SPILLWAY_INVALID_ARGUMENT', () => addon.before(notRing as never, 0))
      }
      await failure('SPILLWAY_ABI_FOREIGN', () => addon.attach({}))
      await failure('SPILLWAY_ABI_FOREIGN', () => addon.attach(handleOf(rig.compute)))
      rig.forward(ring, [0, 1, 2, 3], 2)
      await rig.expectRightBytes()
    })
  })

  it('refuses a ring whose slabs do not fit their slots, or that are no slabs, and keeps nothing', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const slab = await device.allocateHost(64, { storage: 'pinned' })
      const slot = device.allocate(32, { tag: 'slots' })
      const before = liveHandles(device)
      const create = (slabs: unknown[], bytes: number[], slots: unknown[]): unknown =>
        rig.addon.createRing(handleOf(rig.copyStream), slabs, bytes, slots)
      const [host, onDevice] = [handleOf(slab), handleOf(slot)]
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([host], [64], [onDevice])) // too large for the slot
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([onDevice], [32], [onDevice]))
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([host], [32], [host]))
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([host], [32], []))
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([host], [32], [onDevice, onDevice]))
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([host], [], [onDevice]))
      await failure('SPILLWAY_INVALID_ARGUMENT', () => create([], [], []))
      expect(liveHandles(device)).toEqual(before)
      await slab.dispose()
      await slot.dispose()
      await failure('SPILLWAY_DISPOSED', () => create([host], [32], [onDevice]))
    })
  })

  it('gives everything back when it is closed, while its copies are still on their way', async () => {
    await onDevice({ linkLatencyMs: 5 }, async (device) => {
      const before = liveHandles(device)
      {
        await using rig = await RingRig.open(device)
        const ring = rig.ring(6, 3)
        rig.forward(ring, [0, 1, 2, 3, 4, 5], 3)
        rig.addon.close(ring)
        rig.addon.close(ring) // again does nothing
        await failure('SPILLWAY_DISPOSED', () => rig.addon.counters(ring))
        await failure('SPILLWAY_DISPOSED', () => rig.begin(ring))
        await rig.expectRightBytes()
      }
      expect(liveHandles(device)).toEqual(before)
    })
  })
})
