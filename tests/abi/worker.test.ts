import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { disposeAll, MiB, onDevice, readBack } from '../../packages/device/test/device-rig.js'
import { launchTouch } from './abi-probe.js'
import { touched } from './touch-model.js'

const built = (name: string) => fileURLToPath(new URL(`../../packages/${name}/dist/index.js`, import.meta.url))
const prologue = `
  const { parentPort, workerData } = require('node:worker_threads')
  const start = async () => {
    const { attach, handleOf, openDevice, NativeStream } = await import(${JSON.stringify(built('device'))})
    const { loadNative } = await import(${JSON.stringify(built('core'))})
    const probe = loadNative({ from: ${JSON.stringify(new URL('./abi-probe.ts', import.meta.url).href)}, name: 'abi_probe' })
    probe.attach(attach())`

function ended(worker: Worker): Promise<unknown> {
  return new Promise((resolve) => worker.on('exit', resolve))
}

test.each([
  ['terminated', '', (worker: Worker) => worker.terminate()],
  ['exiting', 'process.exit(0)', () => undefined],
])(
  'kernels in flight when a worker is %s run to their end, the main thread’s device goes on',
  async (_how, end, stop) => {
    const code = `${prologue}
    const device = await openDevice('host', { threads: 2, memoryLimitBytes: ${8 * MiB} })
    const stream = device.createStream()
    const buffer = device.allocate(${MiB}, { tag: 'x' })
    const ranges = BigUint64Array.of(probe.address(handleOf(buffer)), ${MiB}n, 3n)
    const declared = BigUint64Array.of(0n, ${MiB}n, 3n)
    for (let n = 0; n < 100; n++) probe.touch(handleOf(stream), ranges, [handleOf(buffer)], declared, n % 2 === 0, 0n)
    probe.notify(handleOf(stream))
    stream.synchronize()
    // Kept by the addon, given back with its environment; a graph, too.
    probe.keep(handleOf(buffer))
    const other = device.createStream()
    probe.beginCapture(handleOf(other))
    probe.touch(handleOf(other), ranges, [handleOf(buffer)], declared, false, 0n)
    probe.endCapture(handleOf(other))
    parentPort.postMessage('busy')
    ${end}
  }
  start()`
    await onDevice({}, async (device) => {
      const stream = device.createStream()
      for (let round = 0; round < 5; round++) {
        const worker = new Worker(code, { eval: true })
        const exit = ended(worker)
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
        await stop(worker)
        const buffer = device.allocate(1000, { tag: 'main' })
        launchTouch(stream, { touch: [{ buffer, mode: 'write' }], seed: round })
        const expected = new Uint8Array(1000)
        touched([{ bytes: expected, mode: 'write' }], round)
        expect(Buffer.compare(await readBack(device, buffer, stream), expected)).toBe(0)
        await exit
        await buffer.dispose()
      }
      await disposeAll(stream)
    })
  },
)

test('objects do not travel to another thread: what arrives is foreign there, and a handle does not arrive', async () => {
  const code = `${prologue}
    const codeOf = (action) => {
      try {
        action()
        return 'nothing was thrown'
      } catch ({ name, code }) {
        return name + ' ' + code
      }
    }
    const device = await openDevice('host', { threads: 1, memoryLimitBytes: ${MiB} })
    const stream = device.createStream()
    const { buffer, event, kind } = workerData
    parentPort.postMessage([
      codeOf(() => handleOf(buffer)),
      codeOf(() => stream.fill(buffer, 1)),
      codeOf(() => stream.record(event)),
      codeOf(() => NativeStream.prototype.fill.call(event, buffer, 1)),
      codeOf(() => probe.fill(handleOf(stream), buffer, 1)),
      kind,
    ])
    await stream.dispose()
    await device.dispose()
  }
  start()`
  await onDevice({}, async (device) => {
    const buffer = device.allocate(4096, { tag: 'x' })
    const event = device.createEvent()
    const worker = new Worker(code, { eval: true, workerData: { buffer, event, kind: buffer.kind } })
    const exit = ended(worker)
    const answer = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    expect(answer).toEqual([
      'SpillwayError SPILLWAY_FOREIGN_HANDLE',
      'SpillwayError SPILLWAY_FOREIGN_HANDLE',
      'SpillwayError SPILLWAY_FOREIGN_HANDLE',
      'SpillwayError SPILLWAY_FOREIGN_HANDLE',
      'SpillwayError SPILLWAY_INVALID_ARGUMENT',
      'device-buffer',
    ])
    await exit
    await disposeAll(buffer, event)
  })
})
