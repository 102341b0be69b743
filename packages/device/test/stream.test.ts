import { readFile } from 'node:fs/promises'
import type { NativeDevice, NativeStream } from '@spillway/device'
import { expect, test } from 'vitest'
import { disposeAll, expectCode, MiB, onDevice, PAGE, pinned, readBack, uniform } from './device-rig.js'

test('a stream does its work in the order it came', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const buffer = device.allocate(64 * PAGE, { tag: 'weights' })
    const host = await pinned(device, 64 * PAGE)
    for (let value = 0; value < 250; value++) {
      stream.fill(buffer, value)
      stream.fill(buffer, value + 1, { offset: 10, bytes: 20 })
    }
    stream.copy(host, buffer)
    stream.fill(buffer, 0)
    await stream.synchronize()
    const bytes = host.read()
    expect([bytes[9], bytes[10], bytes[29], bytes[30], bytes[64 * PAGE - 1]]).toEqual([249, 250, 250, 249, 249])
    await disposeAll(stream, buffer, host)
  }))

test('offsets and lengths of copies and fills are exact; empty ones do nothing', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const host = await device.allocateHost(16, { storage: 'mapped' })
    host.write(Uint8Array.from({ length: 16 }, (_, i) => i))
    const buffer = device.allocate(16, { tag: 'weights' })
    stream.copy(buffer, host, { toOffset: 3, fromOffset: 8, bytes: 4 })
    stream.copy(buffer, buffer, { toOffset: 10, fromOffset: 3, bytes: 4 })
    stream.fill(buffer, 7, { offset: 15 })
    stream.copy(buffer, host, { bytes: 0 })
    stream.fill(buffer, 1, { bytes: 0 })
    const read = [...(await readBack(device, buffer, stream))]
    expect(read).toEqual([255, 255, 255, 8, 9, 10, 11, 255, 255, 255, 8, 9, 10, 11, 255, 7])
    await disposeAll(stream, host, buffer)
  }))

test('ranges outside of their buffers, overlaps and values that are no byte are refused', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const host = await pinned(device, 16)
    const buffer = device.allocate(16, { tag: 'weights' })
    const before = device.counters()
    for (const range of [
      { bytes: 17 },
      { toOffset: 1, bytes: 16 },
      { fromOffset: 16, bytes: 1 },
      { toOffset: -1 },
      { toOffset: Number.NaN },
      { bytes: 0.5 },
      { toOffset: 17 },
      { fromOffset: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER },
    ]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.copy(buffer, host, range))
    }
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.copy(buffer, buffer))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.copy(buffer, buffer, { toOffset: 1, bytes: 2 }))
    for (const byte of [-1, 256, 1.5, Number.NaN]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, byte))
    }
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, 1, { offset: 17 }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, 1, { offset: 1, bytes: 16 }))
    await stream.synchronize()
    expect(device.counters()).toEqual(before)
    await disposeAll(stream, host, buffer)
  }))

// A copy over the link that takes half a second, and one on the device that takes none: who waits shows in the bytes.
const slowBytes = 2 * MiB
const slow = { linkBytesPerSecond: 4 * MiB }

test('a stream sees another’s copy after waiting for its event; one that does not wait runs ahead', () =>
  onDevice(slow, async (device) => {
    const [writer, reader, other] = [device.createStream(), device.createStream(), device.createStream()]
    const event = device.createEvent()
    const host = await pinned(device, slowBytes, 5)
    const target = device.allocate(slowBytes, { tag: 'slot' })
    const seen = device.allocate(PAGE, { tag: 'seen' })
    const order: string[] = []
    writer.copy(target, host)
    writer.record(event)
    reader.wait(event)
    reader.copy(seen, target, { fromOffset: slowBytes - PAGE, bytes: PAGE })
    await Promise.all([
      writer.synchronize().then(() => order.push('writer')),
      reader.synchronize().then(() => order.push('reader')),
      other.synchronize().then(() => order.push('other')),
    ])
    expect(order[0]).toBe('other')
    expect(uniform(await readBack(device, seen))).toBe(5)
    await disposeAll(writer, reader, other, event, host, target, seen)
  }))

test('waiting for an event never recorded is no wait', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const event = device.createEvent()
    stream.wait(event)
    stream.wait(event, { external: true })
    await stream.synchronize()
    await disposeAll(stream, event)
  }))

test('a wait means the record made before it, not a later one', () =>
  onDevice(slow, async (device) => {
    const [writer, reader] = [device.createStream(), device.createStream()]
    const event = device.createEvent()
    const host = await pinned(device, slowBytes, 1)
    const target = device.allocate(slowBytes, { tag: 'slot' })
    const order: string[] = []
    writer.record(event)
    reader.wait(event)
    const early = reader.synchronize().then(() => order.push('first record'))
    writer.copy(target, host)
    writer.record(event)
    reader.wait(event)
    const late = reader.synchronize().then(() => order.push('second record'))
    const copied = writer.synchronize().then(() => order.push('copy'))
    await Promise.all([early, late, copied])
    expect(order[0]).toBe('first record')
    expect(order.indexOf('second record')).toBeGreaterThan(0)
    await disposeAll(writer, reader, event, host, target)
  }))

test('an event disposed after the wait still counts', () =>
  onDevice(slow, async (device) => {
    const [writer, reader] = [device.createStream(), device.createStream()]
    const event = device.createEvent()
    const host = await pinned(device, slowBytes, 8)
    const target = device.allocate(slowBytes, { tag: 'slot' })
    const seen = device.allocate(slowBytes, { tag: 'seen' })
    writer.copy(target, host)
    writer.record(event)
    reader.wait(event)
    await event.dispose()
    reader.copy(seen, target)
    await reader.synchronize()
    const check = device.allocate(PAGE, { tag: 'seen' })
    reader.copy(check, seen, { fromOffset: slowBytes - PAGE, bytes: PAGE })
    expect(uniform(await readBack(device, check, reader))).toBe(8)
    await disposeAll(writer, reader, host, target, seen, check)
  }))

test('on a busy link, a copy of a high-priority stream overtakes an earlier one of a low', () =>
  onDevice({ ...slow, check: false }, async (device) => {
    const host = await pinned(device, slowBytes, 4)
    const target = device.allocate(slowBytes, { tag: 'big' })
    const small = device.allocate(PAGE, { tag: 'small' })
    const low = device.createStream({ priority: 'low' })
    const high = device.createStream({ priority: 'high' })
    const normal = device.createStream()
    expect([low.priority, high.priority, normal.priority]).toEqual(['low', 'high', 'normal'])
    const order: string[] = []
    low.copy(target, host)
    const lowDone = low.synchronize().then(() => order.push('low'))
    high.copy(small, host, { bytes: PAGE })
    const highDone = high.synchronize().then(() => order.push('high'))
    await Promise.all([lowDone, highDone])
    expect(order).toEqual(['high', 'low'])
    await disposeAll(host, target, small, low, normal, high)
  }))

test('synchronize stops waiting when its signal fires; the work goes on', () =>
  onDevice(slow, async (device) => {
    const stream = device.createStream()
    const host = await pinned(device, slowBytes, 3)
    const target = device.allocate(slowBytes, { tag: 'slot' })
    const reason = new Error('enough')
    await expectCode('SPILLWAY_ABORTED', () => stream.synchronize({ signal: AbortSignal.abort(reason) }))
    stream.copy(target, host)
    const abort = new AbortController()
    const waiting = stream.synchronize({ signal: abort.signal })
    abort.abort(reason)
    const error = await expectCode('SPILLWAY_ABORTED', () => waiting)
    expect(error.cause).toBe(reason)
    expect(device.counters().hostToDeviceBytes).toBe(0)
    await stream.synchronize({ signal: new AbortController().signal })
    expect(device.counters().hostToDeviceBytes).toBe(slowBytes)
    await disposeAll(stream, host, target)
  }))

test('pending promises block neither the event loop nor libuv’s pool', () =>
  onDevice(slow, async (device) => {
    const host = await pinned(device, slowBytes, 1)
    const buffers = Array.from({ length: 8 }, () => device.allocate(MiB, { tag: 'slot' }))
    const streams = buffers.map(() => device.createStream())
    const order: string[] = []
    const done = streams.map((stream, i) => {
      stream.copy(buffers[i]!, host, { bytes: MiB })
      return stream.synchronize().then(() => order.push('copy'))
    })
    // Four reads: as many as libuv has threads.
    const reads = [1, 2, 3, 4].map(() => readFile(new URL(import.meta.url)).then(() => order.push('read')))
    for (let tick = 0; tick < 20; tick++) await new Promise((resolve) => setImmediate(resolve))
    order.push('ticks')
    await Promise.all([...done, ...reads])
    expect(order.slice(0, 5).sort()).toEqual(['read', 'read', 'read', 'read', 'ticks'])
    expect(order.slice(5)).toEqual(Array(8).fill('copy'))
    await disposeAll(host, ...buffers, ...streams)
  }))

test('what enqueued work uses may be disposed at once: device memory is free in the order of streams, host memory when the work is done', () =>
  onDevice(slow, async (device) => {
    const stream = device.createStream()
    const result = await pinned(device, PAGE)
    const source = await pinned(device, slowBytes, 9)
    const target = device.allocate(slowBytes, { tag: 'slot' })
    stream.copy(target, source)
    stream.copy(result, target, { fromOffset: slowBytes - PAGE })
    await disposeAll(source, target)
    expect(device.budget.usedBytesByTag).toEqual({})
    expect(device.budget.cachedBytes).toBeGreaterThanOrEqual(slowBytes)
    expect(device.releaseCachedMemory()).toBe(0)
    // Its stream may have it at once, nobody else before the work is done.
    const next = device.allocate(slowBytes, { tag: 'next', stream })
    expect(next.pointer).toBe(target.pointer)
    const other = device.allocate(slowBytes, { tag: 'other' })
    expect(other.pointer).not.toBe(target.pointer)
    await disposeAll(next, other)
    expect(device.counters().pinnedBytes).toBe(slowBytes + PAGE)
    await stream.synchronize()
    expect(uniform(result.read())).toBe(9)
    expect(device.budget.usedBytes).toBe(0)
    expect(device.counters().pinnedBytes).toBe(PAGE)
    // A stream disposed with work enqueued does it all the same.
    const again = device.allocate(PAGE, { tag: 'slot' })
    const second = device.createStream()
    const event = device.createEvent()
    stream.fill(again, 7)
    stream.copy(result, again)
    stream.record(event)
    second.wait(event)
    await stream.dispose()
    await second.synchronize()
    expect(uniform(result.read())).toBe(7)
    await disposeAll(again, second, event, result)
  }))

test('counters: bytes and copies each way, exact, and by the tag of the target', () =>
  onDevice({ linkBytesPerSecond: 1024 * MiB, linkLatencyMs: 1 }, async (device) => {
    const stream = device.createStream()
    const hosts = await Promise.all(
      (['mapped', 'pinned', 'pageable'] as const).map((storage) => device.allocateHost(1000, { storage })),
    )
    const weights = device.allocate(1000, { tag: 'weights' })
    const cache = device.allocate(1000, { tag: 'kv_cache' })
    for (const host of hosts) {
      stream.copy(weights, host)
      stream.copy(host, weights, { bytes: 11 })
    }
    stream.copy(cache, hosts[0]!, { bytes: 7 })
    stream.copy(cache, weights, { bytes: 500 })
    stream.copy(hosts[1]!, hosts[0]!, { bytes: 3 })
    stream.fill(cache, 1)
    await stream.synchronize()
    expect(device.counters()).toMatchObject({
      hostToDeviceBytes: 3007,
      hostToDeviceCopies: 4,
      deviceToHostBytes: 33,
      deviceToHostCopies: 3,
      deviceToDeviceBytes: 500,
      hostToHostBytes: 3,
      hostToDeviceBytesByTag: { weights: 3000, kv_cache: 7 },
      launches: 0,
      graphLaunches: 0,
      liveHandles: { stream: 1, 'device-buffer': 2, 'host-buffer': 3 },
    })
    await disposeAll(stream, weights, cache, ...hosts)
  }))

test('two directions and several streams of a throttled link lose and mix nothing', () =>
  onDevice({ linkBytesPerSecond: 256 * MiB }, async (device) => {
    const bytes = MiB + 123
    const lanes: { stream: NativeStream; run: () => Promise<void> }[] = []
    for (let lane = 0; lane < 4; lane++) {
      const stream = device.createStream({ priority: (['low', 'normal', 'high'] as const)[lane % 3]! })
      lanes.push({ stream, run: () => roundTrips(device, stream, bytes, lane) })
    }
    await Promise.all(lanes.map(({ run }) => run()))
    expect(device.counters()).toMatchObject({
      hostToDeviceBytes: 12 * bytes,
      deviceToHostBytes: 12 * bytes,
      hostToDeviceCopies: 12,
      deviceToHostCopies: 12,
    })
    await disposeAll(...lanes.map(({ stream }) => stream))
  }))

async function roundTrips(device: NativeDevice, stream: NativeStream, bytes: number, lane: number): Promise<void> {
  const out = await device.allocateHost(bytes, { storage: 'pinned' })
  const back = await device.allocateHost(bytes, { storage: 'pinned' })
  const target = device.allocate(bytes, { tag: `lane${lane}` })
  for (let round = 0; round < 3; round++) {
    const content = Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + lane * 7 + round) & 0xff)
    out.write(content)
    stream.copy(target, out)
    stream.copy(back, target)
    await stream.synchronize()
    expect(Buffer.compare(back.read(), content)).toBe(0)
  }
  await disposeAll(out, back, target)
}
