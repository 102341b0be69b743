// @ts-check
import { readFileSync } from 'node:fs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Peer } from '../lib/peer.mjs'
import { formatBytes, openDevice, systemMemory } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { NativeDevice, NativeHostBuffer } from '../../packages/device/dist/index.js' */
/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */

const MiB = 2 ** 20
const GiB = 1024 * MiB

/** @type {Benchmark} */
export const pinning = {
  summary: 'pinned memory: how fast it is had and given back, beside the driver’s own; how much of it is used',
  run: (context, recorder) =>
    using(async (use) => {
      const device = use(await openDevice(context.device))
      const sizes = sizesOf(context, recorder)
      const allocations = sizes.map((bytes) => use(new Allocation(device, bytes, context.signal)))
      // Before anything else uses the machine's memory; none of it twice.
      /** @type {number[]} */
      const cold = []
      for (const allocation of allocations) cold.push(await allocation.make())
      for (const allocation of allocations) await allocation.dispose()
      const peer = use(await Peer.startPython('pinned.py', [context.device, ...sizes], context.signal))
      const { hugePages, numaNode } = device.hostMemory()
      recorder.peer(peer)
      recorder.parameters({ hugePages: hugePages?.reason ?? 'not probed', numaNode: numaNode ?? 'one' })
      const other = context.device === 'cuda' ? 'the driver’s own' : 'one thread, small pages'
      for (const [index, allocation] of allocations.entries()) {
        const { bytes } = allocation
        const name = formatBytes(bytes)
        const theirs = peer.samplers[bytes]
        const samples = await interleave(
          {
            ours: () => allocation.warm().then(() => allocation.sample()),
            ...(theirs && { theirs: () => allocation.warm().then(theirs) }),
          },
          // The driver takes seconds for each.
          { ...context, rounds: context.quick || bytes > 16 * GiB ? 1 : 2 },
        )
        const limit = theirs && recorder.figure(`${name}, ${other}`, 'bytes/s', samples('theirs'))
        const beside = limit && against('peer', limit)
        recorder.figure(`${name}, ours`, 'bytes/s', samples('ours'), beside)
        recorder.figure(`${name}, ours, cold`, 'bytes/s', cold.slice(index, index + 1), beside)
        recorder.figure(`${name}, ours, given back`, 'bytes/s', allocation.releases)
        recorder.check(allocation.check(name))
      }
      recorder.checkEqual('pinned bytes left', device.counters().pinnedBytes, 0)
    }),
}

/**
 * Half of what is free at most: the system would have to make room first.
 * @param {Context} context
 * @param {Recorder} recorder
 */
function sizesOf({ device, quick }, recorder) {
  const wanted = quick ? [64 * MiB] : device === 'cuda' ? [8 * GiB, 32 * GiB] : [256 * MiB, GiB]
  const { availableBytes } = systemMemory()
  for (const bytes of wanted.filter((bytes) => bytes > availableBytes / 2)) {
    recorder.note(`not measured: ${formatBytes(bytes)}, more than half of the ${formatBytes(availableBytes)} left`)
  }
  return wanted.filter((bytes) => bytes <= availableBytes / 2)
}

/** Pinned memory of one size, had and given back again and again. */
class Allocation {
  /** Bytes a second. @type {number[]} */
  releases = []
  #used = 0
  #device
  #signal
  /** @type {NativeHostBuffer | undefined} */
  #buffer

  /**
   * @param {NativeDevice} device
   * @param {number} bytes
   * @param {AbortSignal} signal
   */
  constructor(device, bytes, signal) {
    this.#device = device
    /** @readonly */ this.bytes = bytes
    this.#signal = signal
  }

  /** Bytes a second. The memory stays until it is disposed. */
  async make() {
    const before = anonymousBytes()
    const start = performance.now()
    this.#buffer = await this.#device.allocateHost(this.bytes, { storage: 'pinned', signal: this.#signal })
    const rate = this.#rateSince(start)
    this.#used = Math.max(this.#used, anonymousBytes() - before)
    return rate
  }

  async dispose() {
    await this.#buffer?.dispose()
    this.#buffer = undefined
  }

  /** Had, and given back: bytes a second of the first. */
  async sample() {
    const rate = await this.make()
    const start = performance.now()
    await this.dispose()
    this.releases.push(this.#rateSince(start))
    return rate
  }

  /**
   * A virtual machine returns memory to its host, often a second or two after it was freed (free page reporting). Who
   * takes that next waits for the host, many times as long. So all samples take memory that was freed just before.
   */
  async warm() {
    await this.make()
    await this.dispose()
  }

  /** @param {number} start */
  #rateSince(start) {
    return (this.bytes * 1000) / (performance.now() - start)
  }

  /**
   * That no more than what was asked for was used; below 1 GiB the rest of the process counts as much.
   * @param {string} name
   */
  check(name) {
    const allowed = 1.01 * this.bytes + (this.bytes < GiB ? 16 * MiB : 0)
    return {
      name: `memory used for ${name}`,
      passed: this.#used >= this.bytes * 0.99 && this.#used <= allowed,
      detail: `${(this.#used / this.bytes).toFixed(4)} of what was asked for, by the system's count`,
    }
  }
}

/** Pages of this process that are of no file. */
function anonymousBytes() {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8')
  return 1024 * Number(/^Anonymous:\s*(\d+) kB$/m.exec(rollup)?.[1])
}
