import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { expectCode, MiB, onDevice, PAGE, uniform } from './device-rig.js'

/** What the process really has: pages, not addresses. */
function residentBytes(): number {
  return Number(/^Anonymous:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))![1]) * 1024
}
// What the rest of the process may take or give meanwhile.
const noise = 24 * MiB
const large = 512 * MiB

test.each(['pinned', 'mapped'] as const)(
  'large %s memory is there at once, exactly, and goes back at once',
  (storage) =>
    onDevice({ check: false }, async (device) => {
      const before = residentBytes()
      const buffer = await device.allocateHost(large + 5, { storage })
      const grown = residentBytes() - before
      expect(grown).toBeGreaterThan(large - noise)
      expect(grown).toBeLessThan(large + noise)
      expect([buffer.bytes, buffer.storage]).toEqual([large + 5, storage])
      expect(device.counters()[`${storage}Bytes`]).toBe(large + 5)
      for (const offset of [0, large / 2, large + 5 - PAGE]) expect(uniform(buffer.read(offset, PAGE))).toBe(0)
      buffer.write(Uint8Array.of(7), large + 4)
      expect(buffer.read(large + 4)).toEqual(Uint8Array.of(7))
      await buffer.dispose()
      expect(residentBytes() - before).toBeLessThan(noise)
      expect(device.hostMemory().hugePages).toEqual({ used: expect.any(Boolean), reason: expect.stringMatching(/\w/) })
    }),
)

test('pageable memory takes pages when it is written', () =>
  onDevice({}, async (device) => {
    const before = residentBytes()
    const buffer = await device.allocateHost(large, { storage: 'pageable' })
    expect(residentBytes() - before).toBeLessThan(noise)
    await buffer.dispose()
  }))

test('progress grows to the end', () =>
  onDevice({}, async (device) => {
    const seen: { touchedBytes: number; readyBytes: number; totalBytes: number }[] = []
    const sizes = [large / 2, 3, large / 2]
    const total = large + 3
    for await (const buffer of device.allocateHostParts(sizes, {
      storage: 'pinned',
      onProgress: (progress) => seen.push(progress),
    })) {
      await buffer.dispose()
    }
    expect(seen.at(-1)).toEqual({ touchedBytes: total, readyBytes: total, totalBytes: total })
    for (const [i, { touchedBytes, readyBytes, totalBytes }] of seen.entries()) {
      expect(totalBytes).toBe(total)
      expect(touchedBytes).toBeGreaterThanOrEqual(Math.max(readyBytes, seen[i - 1]?.touchedBytes ?? 0))
      expect(readyBytes).toBeGreaterThanOrEqual(seen[i - 1]?.readyBytes ?? 0)
    }
    expect(new Set(seen.map(({ readyBytes }) => readyBytes))).toEqual(
      new Set([...(seen[0]!.readyBytes === 0 ? [0] : []), large / 2, large / 2 + 3, total]),
    )
  }))

test('an abort gives back what was touched, before the promise rejects', () =>
  onDevice({}, async (device) => {
    const before = residentBytes()
    const reason = new Error('no longer wanted')
    // Some pages are touched at one millisecond, all at none of these.
    for (const delayMs of [0, 1, 5, 20]) {
      const abort = new AbortController()
      const allocation = device.allocateHost(4 * large, { storage: 'pinned', signal: abort.signal })
      setTimeout(() => abort.abort(reason), delayMs)
      const error = await expectCode('SPILLWAY_ABORTED', () => allocation)
      expect(error.cause).toBe(reason)
      expect(residentBytes() - before).toBeLessThan(noise)
      expect(device.hostMemory().reservedBytes).toBe(0)
      expect(device.counters()).toMatchObject({ pinnedBytes: 0, liveHandles: { 'host-buffer': 0 } })
    }
    // It stopped: what was not wanted was not touched to the end.
    const peak = Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
    expect(peak - before).toBeLessThan(4 * large)
  }))

test('parts are usable one by one, and leaving early gives back the rest', () =>
  onDevice({}, async (device) => {
    const before = residentBytes()
    const stream = device.createStream()
    const target = device.allocate(MiB, { tag: 'slot' })
    for await (const part of device.allocateHostParts([MiB, large, large], { storage: 'pinned' })) {
      expect([part.bytes, part.storage]).toEqual([MiB, 'pinned'])
      part.write(new Uint8Array(MiB).fill(9))
      stream.copy(target, part)
      await stream.synchronize()
      await part.dispose()
      break
    }
    expect(residentBytes() - before).toBeLessThan(noise)
    expect(device.counters()).toMatchObject({ pinnedBytes: 0, hostToDeviceBytes: MiB })
    expect(device.hostMemory().reservedBytes).toBe(0)
    await Promise.all([target.dispose(), stream.dispose()])
  }))

test.each(['allocation', 'pinning'] as const)('the k-th %s fails: what was delivered stays, the rest goes back', (at) =>
  onDevice({}, async (device) => {
    const sizes = [2 * MiB, 3 * MiB + 1, 20 * MiB, 1]
    for (let number = 1; number <= sizes.length; number++) {
      device.failures.arm({ at, number })
      const kept: { dispose(): Promise<void> }[] = []
      await expectCode('SPILLWAY_OUT_OF_MEMORY', async () => {
        for await (const part of device.allocateHostParts(sizes, { storage: 'pinned' })) kept.push(part)
      })
      expect(device.failures.fired).toBe(true)
      expect(kept).toHaveLength(number - 1)
      expect(device.counters().pinnedBytes).toBe(sizes.slice(0, number - 1).reduce((sum, bytes) => sum + bytes, 0))
      expect(device.hostMemory().reservedBytes).toBe(0)
      await Promise.all(kept.map((part) => part.dispose()))
    }
    device.failures.disarm()
    const all = []
    for await (const part of device.allocateHostParts(sizes, { storage: 'pinned' })) all.push(part)
    expect(all.map(({ bytes }) => bytes)).toEqual(sizes)
    await Promise.all(all.map((part) => part.dispose()))
  }),
)

test('an onProgress that throws ends the allocation', () =>
  onDevice({}, async (device) => {
    const mistake = new RangeError('of the caller')
    const onProgress = (): void => {
      throw mistake
    }
    const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () =>
      device.allocateHost(large, { storage: 'pinned', onProgress }),
    )
    expect(error.cause).toBe(mistake)
    expect(device.counters()).toMatchObject({ pinnedBytes: 0, liveHandles: { 'host-buffer': 0 } })
  }))

test('memory that enqueued work uses outlives its handle', () =>
  onDevice({ linkBytesPerSecond: 256 * MiB }, async (device) => {
    const [buffer, target] = [
      await device.allocateHost(32 * MiB, { storage: 'pinned' }),
      device.allocate(32 * MiB, { tag: 'x' }),
    ]
    buffer.write(new Uint8Array(32 * MiB).fill(5))
    const stream = device.createStream()
    stream.copy(target, buffer)
    await buffer.dispose()
    await buffer.dispose()
    await expectCode('SPILLWAY_DISPOSED', () => buffer.read())
    expect(device.counters().pinnedBytes).toBe(32 * MiB)
    await stream.synchronize()
    const back = await device.allocateHost(32 * MiB, { storage: 'pinned' })
    stream.copy(back, target)
    await stream.synchronize()
    expect(uniform(back.read())).toBe(5)
    await Promise.all([back.dispose(), target.dispose(), stream.dispose()])
  }))

test('arguments from outside are checked before anything is made', () =>
  onDevice({}, async (device) => {
    const foreign = (value: unknown): never => value as never
    const storage = 'pinned'
    for (const call of [
      () => device.allocateHost(1, { storage, onProgress: foreign(1) }),
      () => device.allocateHostParts(foreign('12'), { storage }).next(),
      () => device.allocateHostParts([1, 0], { storage }).next(),
      () => device.allocateHostParts([1, -1], { storage }).next(),
      () => device.allocateHostParts([1, foreign('1')], { storage }).next(),
      () => device.allocateHostParts([2 ** 52, 2 ** 52], { storage }).next(),
      () => device.allocateHostParts(new Array(2 ** 20 + 1).fill(1), { storage }).next(),
      () => device.allocateHostParts([1], foreign({ storage: 'device' })).next(),
      () => device.allocateHostParts([1], { storage, signal: foreign({}) }).next(),
    ]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', call)
    }
    expect(await device.allocateHostParts([], { storage }).next()).toEqual({ done: true, value: undefined })
  }))
