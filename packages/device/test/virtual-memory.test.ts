import { expect, test } from 'vitest'
import {
  collectGarbage,
  disposeAll,
  expectCode,
  MiB,
  memoryFileBytes,
  onDevice,
  pinned,
  readBack,
  uniform,
} from './device-rig.js'

const G = 64 * 1024

test('reserved addresses are free of charge; physical memory is charged', () =>
  onDevice({ memoryLimitBytes: 4 * G }, async (device) => {
    const { virtualMemory } = device
    expect(virtualMemory.granularityBytes).toBe(G)
    const range = virtualMemory.reserve(1024 * MiB)
    expect(range.bytes).toBe(1024 * MiB)
    expect(device.budget.usedBytes).toBe(0)
    const memory = virtualMemory.createPhysical(3 * G, 'pool')
    expect(memory.bytes).toBe(3 * G)
    expect(device.budget.usedBytesByTag).toEqual({ pool: 3 * G })
    const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => virtualMemory.createPhysical(2 * G, 'pool'))
    expect(error.details).toMatchObject({
      requestedBytes: 2 * G,
      freeBytes: G,
      totalBytes: 4 * G,
      heldBytesByTag: { pool: 3 * G },
    })
    await Promise.all([range.dispose(), memory.dispose()])
  }))

test('contents stay with the physical memory over unmap and map, at a fixed address', () =>
  onDevice({}, async (device) => {
    const range = device.virtualMemory.reserve(4 * G)
    const one = device.virtualMemory.createPhysical(G, 'pool')
    const two = device.virtualMemory.createPhysical(G, 'pool')
    const low = range.buffer(0, G)
    const high = range.buffer(2 * G, G)
    const address = low.pointer
    expect(high.pointer - low.pointer).toBe(BigInt(2 * G))
    range.map(0, one)
    range.map(2 * G, two)
    expect(uniform(await readBack(device, low))).toBe(0xff)
    const stream = device.createStream()
    stream.fill(low, 1)
    stream.fill(high, 2)
    await stream.synchronize()
    range.unmap(0, G)
    range.unmap(2 * G, G)
    range.map(0, two)
    range.map(2 * G, one)
    expect(uniform(await readBack(device, low))).toBe(2)
    expect(uniform(await readBack(device, high))).toBe(1)
    expect(low.pointer).toBe(address)
    await disposeAll(range, one, two, low, high, stream)
  }))

test('two ranges, and two places of one range, see the same physical memory', () =>
  onDevice({}, async (device) => {
    const first = device.virtualMemory.reserve(2 * G)
    const second = device.virtualMemory.reserve(G)
    const memory = device.virtualMemory.createPhysical(G, 'pool')
    first.map(0, memory)
    first.map(G, memory)
    second.map(0, memory)
    expect(device.budget.usedBytes).toBe(G)
    const buffers = [first.buffer(0, G), first.buffer(G, G), second.buffer(0, G)]
    const stream = device.createStream()
    stream.fill(buffers[0]!, 9)
    expect(uniform(await readBack(device, buffers[1]!, stream))).toBe(9)
    expect(uniform(await readBack(device, buffers[2]!, stream))).toBe(9)
    await disposeAll(first, second, memory, stream, ...buffers)
  }))

test('a buffer across two mappings works; with a hole in it, it is refused', () =>
  onDevice({}, async (device) => {
    const range = device.virtualMemory.reserve(3 * G)
    const pieces = [0, 1, 2].map(() => device.virtualMemory.createPhysical(G, 'pool'))
    const buffer = range.buffer(100, 3 * G - 200)
    const stream = device.createStream()
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, 1))
    range.map(0, pieces[0]!)
    range.map(2 * G, pieces[2]!)
    const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, 1))
    expect(error.message).toMatch(/no memory is mapped.*map it/)
    const host = await pinned(device, 10, 1)
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.copy(buffer, host))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.copy(host, buffer))
    range.map(G, pieces[1]!)
    stream.fill(buffer, 5)
    expect(uniform(await readBack(device, buffer, stream))).toBe(5)
    range.unmap(G, G)
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.fill(buffer, 1))
    await disposeAll(range, buffer, stream, host, ...pieces)
  }))

test('unmapping what a copy in flight uses is refused; afterwards it is not', () =>
  onDevice({ linkBytesPerSecond: 4 * MiB, check: false }, async (device) => {
    const range = device.virtualMemory.reserve(32 * G)
    const memory = device.virtualMemory.createPhysical(32 * G, 'pool')
    range.map(0, memory)
    const buffer = range.buffer(0, 32 * G)
    const host = await pinned(device, 32 * G, 6)
    const stream = device.createStream()
    stream.copy(buffer, host)
    const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => range.unmap(0, 32 * G))
    expect(error.message).toMatch(/enqueued work still uses/)
    await stream.synchronize()
    expect(uniform(await readBack(device, buffer, stream))).toBe(6)
    range.unmap(0, 32 * G)
    await disposeAll(range, memory, buffer, host, stream)
  }))

test('memory is charged until its last mapping and its handle are gone; then its blocks go back', () =>
  onDevice({}, async (device) => {
    const blocks = memoryFileBytes()
    const range = device.virtualMemory.reserve(64 * G)
    const memory = device.virtualMemory.createPhysical(64 * G, 'pool')
    range.map(0, memory)
    expect(memoryFileBytes() - blocks).toBe(64 * G)
    await memory.dispose()
    expect(device.budget.usedBytes).toBe(64 * G)
    expect(memoryFileBytes() - blocks).toBe(64 * G)
    range.unmap(0, 64 * G)
    expect(device.budget.usedBytes).toBe(0)
    expect(memoryFileBytes() - blocks).toBe(0)
    // A range disposed with memory mapped takes its mappings with it.
    range.map(0, device.virtualMemory.createPhysical(G, 'pool'))
    const buffer = range.buffer(0, G)
    await range.dispose()
    expect(uniform(await readBack(device, buffer))).toBe(0xff)
    await buffer.dispose()
    await collectGarbage(() => device.budget.usedBytes === 0)
    expect(memoryFileBytes() - blocks).toBe(0)
  }))

test('sizes and offsets off the granularity, beyond the range or mapped already are refused', () =>
  onDevice({}, async (device) => {
    const { virtualMemory } = device
    for (const bytes of [1, G - 1, G + 1, 2 ** 50]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => virtualMemory.reserve(bytes))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => virtualMemory.createPhysical(bytes, 'pool'))
    }
    const range = virtualMemory.reserve(4 * G)
    const memory = virtualMemory.createPhysical(2 * G, 'pool')
    for (const offset of [1, 3 * G, 4 * G, -G, Number.NaN, Number.MAX_SAFE_INTEGER]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => range.map(offset, memory))
    }
    range.map(G, memory)
    for (const offset of [0, G, 2 * G]) {
      const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => range.map(offset, memory))
      expect(error.message).toMatch(/mapped already/)
    }
    for (const [offset, bytes] of [
      [0, 4 * G],
      [G, G],
      [2 * G, G],
      [G, 3 * G],
      [G, 0],
      [3 * G, G],
    ] as const) {
      const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => range.unmap(offset, bytes))
      expect(error.message).toMatch(/unmapped whole/)
    }
    for (const [offset, bytes] of [
      [0, 0],
      [0, 4 * G + 1],
      [4 * G, 1],
      [Number.MAX_SAFE_INTEGER, 2],
      [-1, 1],
    ] as const) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => range.buffer(offset, bytes))
    }
    range.unmap(G, 2 * G)
    await Promise.all([range.dispose(), memory.dispose()])
  }))
