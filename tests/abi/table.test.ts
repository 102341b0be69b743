import { handleOf, type NativeDevice } from '@spillway/device'
import { expect, test } from 'vitest'
import { disposeAll, expectCode, onDevice, PAGE, readBack, uniform } from '../../packages/device/test/device-rig.js'
import { probe } from './abi-probe.js'

const READ = 1
const INVALID_ARGUMENT = 1
const NO_KERNELS = 8

async function floats(device: NativeDevice, values: readonly number[] | Float32Array) {
  const buffer = await device.allocateHost(values.length * 4, { storage: 'mapped' })
  buffer.write(new Uint8Array(Float32Array.from(values).buffer))
  return buffer
}
const readFloats = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer)

test.each([1, 2, 5])('a launch runs its host twin over the declared buffers, on %i threads', (threads) =>
  onDevice({ threads }, async (device) => {
    const count = 100_003
    const stream = device.createStream()
    const x = await floats(
      device,
      Float32Array.from({ length: count }, (_, i) => i),
    )
    const yHost = await floats(
      device,
      Float32Array.from({ length: count }, () => 1),
    )
    const y = device.allocate(count * 4, { tag: 'y' })
    stream.copy(y, yHost)
    probe.saxpy(handleOf(stream), handleOf(x), handleOf(y), count, 2)
    probe.saxpy(handleOf(stream), handleOf(x), handleOf(y), count, 0.5)
    const result = readFloats(await readBack(device, y, stream))
    const wrong = result.findIndex((value, i) => value !== Math.fround(Math.fround(1 + 2 * i) + 0.5 * i))
    expect(wrong).toBe(-1)
    expect(device.counters()).toMatchObject({ launches: 2, hostToDeviceBytes: count * 4 })
    await disposeAll(stream, x, yHost, y)
  }),
)

test.each([
  [0, 4],
  [1, 0],
  [10, 100],
  [10, 0],
  [1000, 1],
  [100_001, 7],
  [5, Number.MAX_SAFE_INTEGER],
])('parallel_for over %i in pieces of %i visits every index once', (count, grain) =>
  onDevice({ threads: 4 }, async (device) => {
    const streams = [1, 2, 3].map(() => device.createStream())
    const visits = await Promise.all(
      streams.map(() => device.allocateHost(Math.max(1, count) * 4, { storage: 'mapped' })),
    )
    for (let round = 0; round < 5; round++) {
      for (const [i, stream] of streams.entries()) {
        probe.cover(handleOf(stream), handleOf(visits[i]!), count, grain)
      }
    }
    await Promise.all(streams.map((stream) => stream.synchronize()))
    for (const buffer of visits) {
      const seen = new Set(new Uint32Array(buffer.read(0, count * 4).buffer))
      expect([...seen]).toEqual(count === 0 ? [] : [5])
    }
    await disposeAll(...streams, ...visits)
  }),
)

test('a twin is given threads, grid, block and arguments aligned for any type', () =>
  onDevice({ threads: 3 }, async (device) => {
    const stream = device.createStream()
    const out = await device.allocateHost(80, { storage: 'mapped' })
    probe.context(handleOf(stream), handleOf(out))
    await stream.synchronize()
    const values = [...new BigUint64Array(out.read().buffer)].map(Number)
    expect(values).toEqual([3, 2, 3, 4, 5, 6, 7, 48, 0, 1])
    await disposeAll(stream, out)
  }))

test('launches are refused without a twin, outside of a buffer, with an access that is none, over unmapped memory', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const [s, x] = [handleOf(stream), await floats(device, [1, 2, 3, 4])]
    const y = device.allocate(16, { tag: 'y' })
    const noTwin = await expectCode('SPILLWAY_NO_KERNELS', () => probe.noTwin(s))
    expect(noTwin.message).toMatch(/only_on_device.*no host twin/)
    const saxpy = (mode: number, bytes: number, from = x as { dispose(): Promise<void> }, to = y as never) =>
      probe.saxpy(s, handleOf(from as never), handleOf(to), 4, 1, mode, bytes)
    const range = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(READ, 17))
    expect(range.message).toMatch(/saxpy.*outside a buffer of 16 bytes/)
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(READ, Number.MAX_SAFE_INTEGER))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(0, 16))
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(4, 16))
    for (const storage of ['pinned', 'pageable'] as const) {
      const host = await device.allocateHost(16, { storage })
      const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(READ, 16, host))
      expect(error.message).toMatch(/cannot read in place/)
      await host.dispose()
    }
    const virtual = device.virtualMemory.reserve(device.virtualMemory.granularityBytes)
    const hole = virtual.buffer(0, 16)
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => saxpy(READ, 16, hole))
    await onDevice({}, async (other) => {
      const elsewhere = other.allocate(16, { tag: 'y' })
      await expectCode('SPILLWAY_WRONG_DEVICE', () => saxpy(READ, 16, x, elsewhere as never))
      await elsewhere.dispose()
    })
    await stream.synchronize()
    expect(device.counters().launches).toBe(0)
    expect(uniform(await readBack(device, y, stream))).toBe(0xff)
    await disposeAll(stream, x, y, virtual, hole)
  }))

test('a launch keeps its buffers until it is done, and a captured one for as long as the graph', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const x = await floats(device, [1, 2, 3, 4])
    const y = await floats(device, [0, 0, 0, 0])
    const s = handleOf(stream)
    probe.beginCapture(s)
    expect(stream.capturing).toBe(true)
    probe.saxpy(s, handleOf(x), handleOf(y), 4, 3)
    probe.fill(s, handleOf(x), 0)
    expect(probe.endCapture(s)).toBe(2)
    await x.dispose()
    expect(device.counters().liveHandles).toMatchObject({ 'host-buffer': 2, graph: 1 })
    await stream.synchronize()
    expect([...readFloats(y.read())]).toEqual([0, 0, 0, 0])
    probe.replay(s)
    await stream.synchronize()
    expect([...readFloats(y.read())]).toEqual([3, 6, 9, 12])
    probe.replay(s)
    await stream.synchronize()
    // The fill was replayed too: x is 0 by now.
    expect([...readFloats(y.read())]).toEqual([3, 6, 9, 12])
    expect(device.counters()).toMatchObject({ launches: 2, graphLaunches: 2 })
    probe.dropGraph()
    await disposeAll(stream, y)
  }))

test('a reference an addon retained outlives the JavaScript handle', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const target = await device.allocateHost(PAGE, { storage: 'mapped' })
    const buffer = device.allocate(PAGE, { tag: 'kept' })
    probe.fill(handleOf(stream), handleOf(buffer), 0x5a)
    probe.keep(handleOf(buffer))
    await buffer.dispose()
    await expectCode('SPILLWAY_DISPOSED', () => probe.keep(handleOf(buffer)))
    expect(device.budget.usedBytesByTag).toEqual({ kept: PAGE })
    probe.useKept(handleOf(stream), handleOf(target))
    await stream.synchronize()
    expect(uniform(target.read())).toBe(0x5a)
    probe.letGo()
    expect(device.budget.usedBytes).toBe(0)
    await disposeAll(stream, target)
  }))

test('extensions are found by their names, up to their sizes', () =>
  onDevice({}, async (device) => {
    const handle = handleOf(device)
    for (const [name, bytes] of [
      ['graph', 48],
      ['virtual_memory', 56],
      ['timing', 32],
    ] as const) {
      expect(probe.extension(handle, name, 0)).toBe(true)
      expect(probe.extension(handle, name, bytes)).toBe(true)
      expect(probe.extension(handle, name, bytes + 1)).toBe(false)
    }
    for (const name of ['', 'Graph', 'graphs', 'ipc']) expect(probe.extension(handle, name, 0)).toBe(false)
  }))

test('an error struct of any size is filled as far as it goes, and no further', () =>
  onDevice({}, async (device) => {
    const whole = 584
    const messageOffset = 72
    const untouched = (block: Buffer, from: number) => expect(uniform(block.subarray(from))).toBe(0xaa)
    for (const bytes of [whole, whole - 1, messageOffset + 20, messageOffset + 1]) {
      const { status, block } = probe.failWithError(handleOf(device), bytes)
      expect(status).toBe(INVALID_ARGUMENT)
      expect([block.readUInt32LE(0), block.readUInt32LE(4)]).toEqual([bytes, INVALID_ARGUMENT])
      const message = block.subarray(messageOffset, bytes).toString().split('\0')
      expect(message.length, 'ends with a zero').toBeGreaterThan(1)
      expect('no such stream priority: 77'.startsWith(message[0]!)).toBe(true)
      expect(message[0]!.length).toBe(Math.min('no such stream priority: 77'.length, bytes - messageOffset - 1))
      untouched(block, bytes)
    }
    // A later version's, longer one.
    const longer = probe.failWithError(handleOf(device), whole + 32)
    expect(longer.status).toBe(INVALID_ARGUMENT)
    untouched(longer.block, whole)
    // Too short to hold a status and numbers: left alone.
    const tiny = probe.failWithError(handleOf(device), 8)
    expect(tiny.status).toBe(INVALID_ARGUMENT)
    untouched(tiny.block, 4)
    expect(probe.failWithError(handleOf(device), 0).status).toBe(INVALID_ARGUMENT)
  }))

test('calls that break the rules end in a status, and leave nothing behind', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const statuses = probe.hostileCalls(handleOf(device), handleOf(stream))
    const expected = Array(13).fill(INVALID_ARGUMENT)
    expected[10] = NO_KERNELS // a launch without a kernel
    expect(statuses).toEqual(expected)
    await stream.dispose()
  }))

test('a notification is called once, after what was enqueued before it', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const before = probe.notified()
    for (let i = 0; i < 100; i++) probe.notify(handleOf(stream))
    await stream.synchronize()
    expect(probe.notified() - before).toBe(100)
    probe.beginCapture(handleOf(stream))
    await expectCode('SPILLWAY_CAPTURE', () => probe.notify(handleOf(stream)))
    probe.endCapture(handleOf(stream))
    probe.dropGraph()
    expect(probe.notified() - before).toBe(100)
    await stream.dispose()
  }))
