import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { attach, handleOf, openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { disposeAll, expectCode, expectNothingLeft, MiB, onDevice, PAGE, pinned, uniform } from './device-rig.js'

// Child processes and workers load what was built: vitest's transformation does not reach them.
const built = fileURLToPath(new URL('../dist/index.js', import.meta.url))
const slowBytes = 2 * MiB
const slow = { linkBytesPerSecond: 4 * MiB }

async function oneOfEach(options = {}) {
  const device = await openDevice('host', { threads: 1, memoryLimitBytes: 64 * MiB, ...options })
  const { virtualMemory } = device
  const bytes = virtualMemory.granularityBytes
  const stream = device.createStream()
  stream.beginCapture()
  const graph = stream.endCapture()
  return {
    device,
    stream,
    graph,
    event: device.createEvent(),
    buffer: device.allocate(PAGE, { tag: 'weights' }),
    host: await pinned(device, PAGE),
    range: virtualMemory.reserve(bytes),
    physical: virtualMemory.createPhysical(bytes, 'pool'),
    virtualMemory,
    bytes,
  }
}
type Handles = Awaited<ReturnType<typeof oneOfEach>>

async function close({ stream, graph, event, buffer, host, range, physical, device }: Handles) {
  await disposeAll(stream, graph, event, buffer, host, range, physical)
  if (!device.disposed) {
    expectNothingLeft(device)
    await device.dispose()
  }
}

/** Every call that takes a handle, by the handle it is given last. */
const uses: readonly [string, keyof Handles, (all: Handles, other: Handles) => unknown][] = [
  ['stream.record', 'stream', (all, { stream }) => stream.record(all.event)],
  ['stream.record of event', 'event', (all, { event }) => all.stream.record(event)],
  ['stream.wait', 'stream', (all, { stream }) => stream.wait(all.event)],
  ['stream.wait for event', 'event', (all, { event }) => all.stream.wait(event)],
  ['stream.copy', 'stream', (all, { stream }) => stream.copy(all.buffer, all.host)],
  ['stream.copy to device buffer', 'buffer', (all, { buffer }) => all.stream.copy(buffer, all.host)],
  ['stream.copy from host buffer', 'host', (all, { host }) => all.stream.copy(all.buffer, host)],
  ['stream.fill', 'stream', (all, { stream }) => stream.fill(all.buffer, 1)],
  ['stream.fill of buffer', 'buffer', (all, { buffer }) => all.stream.fill(buffer, 1)],
  ['stream.launch', 'stream', (all, { stream }) => stream.launch(all.graph)],
  ['stream.launch of graph', 'graph', (all, { graph }) => all.stream.launch(graph)],
  ['device.allocate for stream', 'stream', (all, { stream }) => all.device.allocate(1, { tag: 'x', stream })],
  ['range.map', 'range', (all, { range }) => range.map(0, all.physical)],
  ['range.map of memory', 'physical', (all, { physical }) => all.range.map(0, physical)],
]

test.each(uses)('%s: a disposed handle is SPILLWAY_DISPOSED', async (_name, kind, use) => {
  const all = await oneOfEach()
  const target = all[kind] as { dispose(): Promise<void>; disposed: boolean }
  await target.dispose()
  await target.dispose()
  expect(target.disposed).toBe(true)
  await expectCode('SPILLWAY_DISPOSED', () => use(all, all))
  await close(all)
})

test.each(uses)('%s: a handle of another device is SPILLWAY_WRONG_DEVICE', async (_name, _kind, use) => {
  const [all, other] = [await oneOfEach(), await oneOfEach()]
  await expectCode('SPILLWAY_WRONG_DEVICE', () => use(all, other))
  await Promise.all([close(all), close(other)])
})

test.each(uses.filter(([name]) => / of | to | from | for /.test(name)))(
  '%s: an object that is no handle is SPILLWAY_FOREIGN_HANDLE',
  async (_name, kind, use) => {
    const all = await oneOfEach()
    const forged = [{}, { kind, bytes: PAGE, storage: 'device' }, new Proxy(all[kind] as object, {}), null, 5, 'stream']
    for (const value of forged) {
      await expectCode('SPILLWAY_FOREIGN_HANDLE', () => use(all, { ...all, [kind]: value } as never))
    }
    await close(all)
  },
)

test('a handle of the wrong kind is refused by name', async () => {
  const all = await oneOfEach()
  const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => all.stream.record(all.buffer as never))
  expect(error.message).toMatch(/expected a event, got a device-buffer|expected an event, got a device-buffer/)
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => all.stream.copy(all.event as never, all.host, { bytes: 1 }))
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => all.stream.launch(all.stream as never))
  await close(all)
})

test('after its device, everything else is SPILLWAY_DISPOSED or lets go quietly', async () => {
  const all = await oneOfEach()
  const { device, stream, buffer, host, event, virtualMemory, range, bytes } = all
  await Promise.all([device.dispose(), device.dispose()])
  expect(device.disposed).toBe(true)
  for (const use of [
    () => device.createStream(),
    () => device.createEvent(),
    () => device.allocate(1, { tag: 'x' }),
    () => device.allocateHost(1, { storage: 'pinned' }),
    () => device.counters(),
    () => device.budget.usedBytes,
    () => virtualMemory.reserve(bytes),
    () => virtualMemory.createPhysical(bytes, 'x'),
    () => stream.copy(buffer, host),
    () => stream.fill(buffer, 1),
    () => stream.record(event),
    () => stream.beginCapture(),
    () => stream.launch(all.graph),
  ]) {
    await expectCode('SPILLWAY_DISPOSED', use)
  }
  expect(uniform(host.read())).toBe(0)
  await stream.synchronize()
  await disposeAll(range)
  await close(all)
  await expectCode('SPILLWAY_DISPOSED', () => host.read())
  await expectCode('SPILLWAY_DISPOSED', () => host.write(new Uint8Array(1)))
  await expectCode('SPILLWAY_DISPOSED', () => host.readInto(new Uint8Array(1)))
  await expectCode('SPILLWAY_DISPOSED', () => stream.synchronize())
})

test('disposing a device waits for what is enqueued', async () => {
  const device = await openDevice('host', { threads: 1, memoryLimitBytes: 8 * MiB, ...slow })
  const stream = device.createStream()
  const buffer = device.allocate(slowBytes, { tag: 'slot' })
  const host = await pinned(device, slowBytes)
  stream.fill(buffer, 7)
  stream.copy(host, buffer)
  await stream.dispose()
  await device.dispose()
  expect(host.read(slowBytes - 1)[0]).toBe(7)
  await disposeAll(buffer, host)
})

test('streams and their device disposed in one breath, again and again', async () => {
  for (let round = 0; round < 200; round++) {
    const device = await openDevice('host', { threads: 1, memoryLimitBytes: MiB })
    const streams = [1, 2, 3].map(() => device.createStream())
    const buffers = streams.map(() => device.allocate(PAGE, { tag: 'x' }))
    for (const [i, stream] of streams.entries()) stream.fill(buffers[i]!, round & 0xff)
    await Promise.all([disposeAll(...streams, ...buffers), device.dispose()])
  }
})

test('await using disposes', async () => {
  const device = await openDevice('host', { threads: 1, memoryLimitBytes: MiB })
  {
    await using buffer = device.allocate(PAGE, { tag: 'x' })
    expect(buffer.disposed).toBe(false)
  }
  expectNothingLeft(device)
  await device[Symbol.asyncDispose]()
})

test('a handle is an External that other addons can check, and nothing else', async () => {
  const { types } = await import('node:util')
  await onDevice({}, async (device) => {
    const event = device.createEvent()
    expect([handleOf(event), handleOf(device), attach()].map(types.isExternal)).toEqual([true, true, true])
    await event.dispose()
  })
})

describe('the process', () => {
  const run = (code: string) =>
    promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code], { timeout: 30_000 })
  const opening = `
    const { openDevice } = await import(${JSON.stringify(built)})
    const device = await openDevice('host', { threads: 2, memoryLimitBytes: ${8 * MiB}, linkBytesPerSecond: ${2 * MiB} })
    const stream = device.createStream()
    const buffer = device.allocate(${MiB}, { tag: 'x' })
    const host = await device.allocateHost(${MiB}, { storage: 'pinned' })
    stream.copy(buffer, host)`

  test('ends with devices, streams and enqueued work left open', async () => {
    const { stdout } = await run(`${opening}
      process.on('exit', () => console.log('copied', device.counters().hostToDeviceBytes))`)
    // Ended before the copy did: nothing waited for it.
    expect(stdout).toBe('copied 0\n')
  })

  test('stays for a pending promise', async () => {
    const { stdout } = await run(`${opening}
      stream.synchronize().then(() => console.log('done', device.counters().hostToDeviceBytes))`)
    expect(stdout).toBe(`done ${MiB}\n`)
  })

  test('may exit at once with promises pending', async () => {
    const { stdout } = await run(`${opening}
      stream.synchronize().then(() => console.log('never'))
      device.dispose().then(() => console.log('never'))
      device.allocateHost(1000, { storage: 'pinned' }).then(() => {}, () => {})
      console.log('leaving')
      process.exit(0)`)
    expect(stdout).toBe('leaving\n')
  })
})

describe('worker threads', () => {
  const body = (end: string) => `
    const { parentPort } = require('node:worker_threads')
    import(${JSON.stringify(built)}).then(async ({ openDevice }) => {
      const device = await openDevice('host', { threads: 2, memoryLimitBytes: ${8 * MiB}, linkBytesPerSecond: ${2 * MiB} })
      const streams = [1, 2, 3].map(() => device.createStream())
      const buffer = device.allocate(${MiB}, { tag: 'x' })
      const host = await device.allocateHost(${MiB}, { storage: 'pinned' })
      // Long and short ones: some settle while the environment is being torn down.
      for (const [i, stream] of streams.entries()) {
        for (let n = 0; n < 20; n++) {
          stream.copy(buffer, host, { bytes: 1 + i * 40_000 })
          stream.synchronize()
        }
      }
      for (let n = 0; n < 10; n++) device.allocateHost(4096, { storage: 'mapped' })
      parentPort.postMessage('busy')
      ${end}
    })`

  test.each([
    ['is terminated', '', (worker: Worker) => worker.terminate()],
    ['exits', 'process.exit(0)', () => undefined],
    ['throws', "setImmediate(() => { throw new Error('planned') })", () => undefined],
  ])('a worker that %s with work in flight leaves the main thread’s device alone', async (_how, end, stop) => {
    await onDevice({}, async (device) => {
      const stream = device.createStream()
      const buffer = device.allocate(PAGE, { tag: 'main' })
      const host = await pinned(device, PAGE)
      for (let round = 0; round < 8; round++) {
        const worker = new Worker(body(end), { eval: true })
        worker.on('error', (error) => expect(error.message).toBe('planned'))
        const ended = new Promise((resolve) => worker.on('exit', resolve))
        await new Promise((resolve) => worker.once('message', resolve))
        await stop(worker)
        stream.fill(buffer, round)
        stream.copy(host, buffer)
        await ended
        await stream.synchronize()
        expect(uniform(host.read())).toBe(round)
      }
      await disposeAll(stream, buffer, host)
    })
  })
})
