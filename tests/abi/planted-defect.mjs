// Commits one defect that a sanitizer must find, in a process of its own: scripts/sanitize.mjs starts it.
//   planted-defect.mjs <name>

import { loadNative } from '../../packages/core/dist/index.js'
import { attach, handleOf, openDevice } from '../../packages/device/dist/index.js'

const bytes = 1 << 20
const rounds = 20
const READ = 1n
const WRITE = 2n

const probe = loadNative({ from: import.meta.url, name: 'abi_probe' })
probe.attach(attach())

/** A kernel over the whole of a mapped buffer. */
function touch(stream, buffer, mode) {
  const ranges = BigUint64Array.of(probe.address(handleOf(buffer)), BigInt(bytes), mode)
  probe.touch(handleOf(stream), ranges, [handleOf(buffer)], BigUint64Array.of(0n, BigInt(bytes), mode), false, 0n)
}

async function onDevice(body) {
  const device = await openDevice('host', { threads: 2, memoryLimitBytes: 1 << 24 })
  const streams = [device.createStream(), device.createStream()]
  const buffer = await device.allocateHost(bytes, { storage: 'mapped' })
  await body(streams, buffer)
  await Promise.all(streams.map((stream) => stream.synchronize()))
  await Promise.all([...streams, buffer].map((handle) => handle.dispose()))
  await device.dispose()
}

const defects = {
  /** The process must live, else whatever ends it would be taken for a find. */
  'no defect': () =>
    onDevice(async ([stream], buffer) => {
      buffer.write(new Uint8Array(bytes))
      touch(stream, buffer, READ | WRITE)
      await stream.synchronize()
      buffer.read()
    }),
  /** Work of two streams on the same bytes, and no event between. */
  'race of streams': () =>
    onDevice(([one, other], buffer) => {
      for (let round = 0; round < rounds; round++) {
        touch(one, buffer, WRITE)
        touch(other, buffer, WRITE)
      }
    }),
  /** JavaScript reads what a kernel is still writing: the suppressions for Node must not hide that. */
  'race with the host': () =>
    onDevice(([stream], buffer) => {
      for (let round = 0; round < rounds; round++) touch(stream, buffer, WRITE)
      for (let round = 0; round < rounds; round++) buffer.read()
    }),
}

const [, , name] = process.argv
await (defects[name] ?? (() => probe.plantedDefect(name)))()
console.log('survived')
