import { readFileSync } from 'node:fs'
import { openDevice, systemMemory } from '@spillway/device'
import { expect, test } from 'vitest'
import {
  collectGarbage,
  disposeAll,
  expectCode,
  KiB,
  MiB,
  memoryFileBytes,
  onDevice,
  PAGE,
  readBack,
  uniform,
} from './device-rig.js'

test('fresh device memory is poison in every byte, the second time too', () =>
  onDevice({}, async (device) => {
    for (let round = 0; round < 2; round++) {
      const buffer = device.allocate(3 * PAGE + 5, { tag: 'weights' })
      expect([buffer.kind, buffer.storage, buffer.bytes, buffer.tag]).toEqual([
        'device-buffer',
        'device',
        3 * PAGE + 5,
        'weights',
      ])
      expect(buffer.pointer).not.toBe(0n)
      expect(uniform(await readBack(device, buffer))).toBe(0xff)
      const stream = device.createStream()
      stream.fill(buffer, 0x11)
      await stream.synchronize()
      await stream.dispose()
      await buffer.dispose()
    }
  }))

test.each(['mapped', 'pinned', 'pageable'] as const)(
  '%s host memory: exact size in its own counter, zeroed',
  (storage) =>
    onDevice({}, async (device) => {
      const buffer = await device.allocateHost(12_345, { storage })
      expect([buffer.kind, buffer.storage, buffer.bytes]).toEqual(['host-buffer', storage, 12_345])
      const counters = device.counters()
      const expected = { mappedBytes: 0, pinnedBytes: 0, pageableBytes: 0, [`${storage}Bytes`]: 12_345 }
      expect(counters).toMatchObject(expected)
      expect(device.budget.usedBytes).toBe(0)
      expect(uniform(buffer.read())).toBe(0)
      buffer.write(Uint8Array.of(1, 2, 3), 12_342)
      expect([...buffer.read(12_341)]).toEqual([0, 1, 2, 3])
      const target = new Uint8Array(6).fill(9)
      buffer.readInto(target.subarray(1, 4), 12_342)
      buffer.readInto(target.subarray(5, 5), 12_345)
      expect([...target]).toEqual([9, 1, 2, 3, 9, 9])
      for (const offset of [12_340, -1, 2 ** 53]) {
        await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.readInto(target, offset))
      }
      expect([...target]).toEqual([9, 1, 2, 3, 9, 9])
      for (const wrong of ['text', new Float32Array(1), new ArrayBuffer(4), undefined]) {
        await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.readInto(wrong as unknown as Uint8Array))
      }
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.write(Uint8Array.of(1, 2), 12_344))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.read(-1, 1))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.read(0, 12_346))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => buffer.write('text' as unknown as Uint8Array))
      await buffer.dispose()
    }),
)

test('the budget charges whole pages, by tag, and keeps the peak', () =>
  onDevice({ memoryLimitBytes: 10 * PAGE }, async (device) => {
    expect(device.budget.limitBytes).toBe(10 * PAGE)
    const one = device.allocate(1, { tag: 'weights' })
    expect(device.budget.usedBytes).toBe(PAGE)
    const two = device.allocate(PAGE + 1, { tag: 'kv_cache' })
    const three = device.allocate(2 * PAGE, { tag: 'weights' })
    expect(device.budget.usedBytes).toBe(5 * PAGE)
    expect(device.budget.usedBytesByTag).toEqual({ weights: 3 * PAGE, kv_cache: 2 * PAGE })
    await two.dispose()
    await two.dispose()
    expect(device.budget.usedBytes).toBe(3 * PAGE)
    expect(device.budget.usedBytesByTag).toEqual({ weights: 3 * PAGE })
    expect(device.budget.peakBytes).toBe(5 * PAGE)
    await Promise.all([one.dispose(), three.dispose()])
  }))

test('out of memory says what was asked, what is free and who holds the rest; the next one that fits works', () =>
  onDevice({ memoryLimitBytes: 8 * PAGE }, async (device) => {
    const weights = device.allocate(4 * PAGE, { tag: 'weights' })
    const cache = device.allocate(PAGE, { tag: 'kv_cache' })
    const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () =>
      device.allocate(3 * PAGE + 1, { tag: 'scratch', module: 'layers.3.mlp' }),
    )
    expect(error.details).toMatchObject({
      requestedBytes: 4 * PAGE,
      freeBytes: 3 * PAGE,
      totalBytes: 8 * PAGE,
      heldBytesByTag: { weights: 4 * PAGE, kv_cache: PAGE },
      module: 'layers.3.mlp',
    })
    expect(error.message).toMatch(/16\.00 KiB requested, 12\.00 KiB free.*weights 16\.00 KiB.*raise the device memory/)
    expect(device.budget.peakBytes).toBe(5 * PAGE)
    const fits = device.allocate(3 * PAGE, { tag: 'scratch' })
    expect(device.budget.usedBytes).toBe(8 * PAGE)
    const full = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocate(1, { tag: 'scratch' }))
    expect(full.details).toMatchObject({ freeBytes: 0 })
    await Promise.all([weights, cache, fits].map((buffer) => buffer.dispose()))
  }))

test('a limit above the machine’s memory ends in an error, not in the system’s killer', () =>
  onDevice({ memoryLimitBytes: Number.MAX_SAFE_INTEGER }, async (device) => {
    const { totalBytes } = systemMemory()
    const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocate(totalBytes, { tag: 'weights' }))
    expect(error.message).toMatch(/the system has none left/)
    expect(error.details.freeBytes).toBeLessThan(totalBytes)
    const bytes = Math.ceil(totalBytes / device.virtualMemory.granularityBytes) * device.virtualMemory.granularityBytes
    const physical = await expectCode('SPILLWAY_OUT_OF_MEMORY', () =>
      device.virtualMemory.createPhysical(bytes, 'pool'),
    )
    expect(physical.details).toMatchObject({ requestedBytes: bytes, heldBytesByTag: {} })
    expect(device.budget.usedBytes).toBe(0)
  }))

test('host memory beyond the machine is refused before the system kills', () =>
  onDevice({}, async (device) => {
    const { totalBytes } = systemMemory()
    const before = device.counters()
    for (const storage of ['mapped', 'pinned', 'pageable'] as const) {
      const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocateHost(totalBytes * 2, { storage }))
      expect(error.details).toMatchObject({ requestedBytes: totalBytes * 2, totalBytes })
    }
    expect(device.counters()).toEqual(before)
  }))

test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, Number.MAX_SAFE_INTEGER])(
  'a size of %s is refused with a code',
  (bytes) =>
    onDevice({}, async (device) => {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(bytes, { tag: 'weights' }))
      for (const storage of ['mapped', 'pinned', 'pageable'] as const) {
        await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocateHost(bytes, { storage }))
      }
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.virtualMemory.reserve(bytes))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.virtualMemory.createPhysical(bytes, 'pool'))
    }),
)

test('other hostile arguments are refused with a code', () =>
  onDevice({}, async (device) => {
    const foreign = (value: unknown) => value as never
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(foreign('1'), { tag: 'weights' }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(foreign(1n), { tag: 'weights' }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(1, { tag: '' }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(1, { tag: 'x'.repeat(64) }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocate(1, { tag: foreign(undefined) }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocateHost(1, { storage: foreign('device') }))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.createStream({ priority: foreign('urgent') }))
    await expectCode('SPILLWAY_ABORTED', () =>
      device.allocateHost(1, { storage: 'pinned', signal: AbortSignal.abort() }),
    )
    const abort = new AbortController()
    const allocation = device.allocateHost(1 * MiB, { storage: 'pinned', signal: abort.signal })
    abort.abort()
    await expectCode('SPILLWAY_ABORTED', () => allocation)
  }))

test.each([
  { memoryLimitBytes: 0 },
  { memoryLimitBytes: Number.NaN },
  { memoryLimitBytes: 1.5 },
  { threads: 0 },
  { threads: 1025 },
  { linkBytesPerSecond: 0 },
  { linkBytesPerSecond: Number.NaN },
  { linkLatencyMs: -1 },
  { linkLatencyMs: Number.POSITIVE_INFINITY },
])('openDevice refuses %o', async (options) => {
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('host', options))
})

test('openDevice refuses names that are no device, and a GPU that is not there, with the reason', async () => {
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('gpu'))
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('cuda:-1'))
  const error = await expectCode('SPILLWAY_DEVICE_UNAVAILABLE', () => openDevice('cuda:99'))
  expect(error.message).toMatch(/cuda:99 cannot be used: \w+/)
})

function sharedMemoryBytes(): number {
  return Number(/^Shmem:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1]) * KiB
}

test('disposed device memory is cached, and goes back to the system when asked: blocks of the file and shared memory fall', () =>
  onDevice({ memoryLimitBytes: 256 * MiB }, async (device) => {
    const blocks = memoryFileBytes()
    const moved = async () => {
      const before = sharedMemoryBytes()
      const buffers = [96 * MiB, 32 * MiB, 64 * MiB].map((bytes) => device.allocate(bytes, { tag: 'weights' }))
      expect(memoryFileBytes() - blocks).toBe(192 * MiB)
      const held = sharedMemoryBytes()
      await buffers[1]!.dispose()
      expect(memoryFileBytes() - blocks).toBe(192 * MiB)
      expect(device.budget.cachedBytes).toBe(32 * MiB)
      expect(device.releaseCachedMemory()).toBe(32 * MiB)
      expect(memoryFileBytes() - blocks).toBe(160 * MiB)
      await disposeAll(buffers[0]!, buffers[2]!)
      expect(device.releaseCachedMemory()).toBe(160 * MiB)
      expect(memoryFileBytes() - blocks).toBe(0)
      return { roseBytes: held - before, fellBytes: held - sharedMemoryBytes() }
    }
    // The file's blocks are this process's own and exact. Shared memory is the whole system's, and other programs take and
    // give some meanwhile: one quiet round in twenty must show most of the rise and of the fall.
    const rounds: { roseBytes: number; fellBytes: number }[] = []
    const quiet = () => rounds.some(({ roseBytes, fellBytes }) => Math.min(roseBytes, fellBytes) > 150 * MiB)
    while (!quiet() && rounds.length < 20) rounds.push(await moved())
    expect(quiet(), JSON.stringify(rounds)).toBe(true)
  }))

test('freed extents are used again, whatever the order', () =>
  onDevice({ memoryLimitBytes: 1 * MiB }, async (device) => {
    let state = 7
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31
      return state % below
    }
    const held: { buffer: ReturnType<typeof device.allocate>; value: number }[] = []
    const stream = device.createStream()
    for (let step = 0; step < 400; step++) {
      const bytes = 1 + random(40 * KiB)
      if (held.length < 20 && device.budget.usedBytes + bytes + PAGE <= MiB) {
        const value = random(255)
        const buffer = device.allocate(bytes, { tag: `t${step % 3}` })
        stream.fill(buffer, value)
        held.push({ buffer, value })
      } else {
        const [{ buffer, value }] = held.splice(random(held.length), 1) as [(typeof held)[number]]
        // Nobody else wrote there: no two live buffers share a byte.
        expect(uniform(await readBack(device, buffer, stream))).toBe(value)
        await buffer.dispose()
      }
    }
    for (const { buffer, value } of held) {
      expect(uniform(await readBack(device, buffer, stream))).toBe(value)
      await buffer.dispose()
    }
    await stream.dispose()
  }))

test('a forgotten buffer is given back by the garbage collector', () =>
  onDevice({}, async (device) => {
    ;(() => {
      for (let i = 0; i < 10; i++) device.allocate(PAGE, { tag: 'forgotten' })
    })()
    expect(device.budget.usedBytesByTag).toEqual({ forgotten: 10 * PAGE })
    await collectGarbage(() => device.budget.usedBytes === 0)
  }))
