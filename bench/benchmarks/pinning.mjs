// @ts-check
import { readFileSync } from 'node:fs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Peer } from '../lib/peer.mjs'
import { formatBytes, openDevice, systemMemory } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { NativeDevice } from '../../packages/device/dist/index.js' */
/** @import { Benchmark, Context } from '../lib/benchmark.ts' */

const MiB = 2 ** 20
const GiB = 1024 * MiB

/** @type {Benchmark} */
export const pinning = {
  summary: 'pinned memory: how fast it is had and given back, beside the driver’s own; how much of it is used',
  run: (context, recorder) =>
    using(async (use) => {
      const device = use(await openDevice(context.device))
      const sizes = sizesOf(context)
      const allocations = sizes.map((bytes) => new Allocation(device, bytes, context.signal))
      // Before anything else touches the machine's memory.
      for (const allocation of allocations) await allocation.sample()
      context.progress('touching the memory of the machine')
      await touchMemory(device, context)
      const peer = use(await Peer.startPython('pinned.py', [context.device, ...sizes], context.signal))
      const { hugePages, numaNode } = device.hostMemory()
      recorder.peer(peer)
      recorder.parameters({ hugePages: hugePages?.reason ?? 'not probed', numaNode: numaNode ?? 'one' })
      const other = context.device === 'cuda' ? 'the driver’s own' : 'one thread, small pages'
      const peers = Object.fromEntries(sizes.map((bytes) => [bytes, peer.samplers[bytes]]))
      for (const allocation of allocations) {
        const { bytes } = allocation
        const name = formatBytes(bytes)
        const theirs = peers[bytes]
        // One round: the driver takes seconds for each.
        const samples = await interleave(
          { ours: () => allocation.sample(), ...(theirs && { theirs }) },
          { ...context, rounds: context.quick || bytes > 16 * GiB ? 1 : 2 },
        )
        const [first = 0] = allocation.samples
        if (theirs === undefined) {
          recorder.figure(`${name}, ours`, 'bytes/s', samples('ours'))
        } else {
          const limit = recorder.figure(`${name}, ${other}`, 'bytes/s', samples('theirs'))
          recorder.figure(`${name}, ours`, 'bytes/s', samples('ours'), against('peer', limit))
          recorder.figure(`${name}, ours, cold`, 'bytes/s', [first], against('peer', limit))
        }
        recorder.figure(`${name}, ours, given back`, 'bytes/s', allocation.releases.slice(1))
        recorder.check(allocation.check(name))
      }
      recorder.checkEqual('pinned bytes left', device.counters().pinnedBytes, 0)
    }),
}

/**
 * Half of what is free at most: the system would have to make room first.
 * @param {Context} context
 */
function sizesOf({ device, quick }) {
  const wanted = quick ? [64 * MiB] : device === 'cuda' ? [8 * GiB, 32 * GiB] : [256 * MiB, GiB]
  return wanted.filter((bytes) => bytes <= systemMemory().availableBytes / 2)
}

/**
 * Most of what the machine has, and gives it back. A virtual machine has no memory behind its own before that, and what
 * would be measured is how fast it gets some: which of the two it meets is chance.
 * @param {NativeDevice} device
 * @param {Context} context
 */
async function touchMemory(device, { device: kind, quick, signal }) {
  if (quick || kind === 'host') return
  const parts = new Array(Math.floor((systemMemory().availableBytes * 0.8) / GiB)).fill(GiB)
  /** @type {{ dispose(): Promise<void> }[]} */
  const buffers = []
  try {
    for await (const buffer of device.allocateHostParts(parts, { storage: 'pinned', signal })) buffers.push(buffer)
  } finally {
    for (const buffer of buffers) await buffer.dispose()
  }
}

/** Pinned memory of one size, had and given back again and again. */
class Allocation {
  /** Bytes a second, the first of a fresh process included. @type {number[]} */
  samples = []
  /** @type {number[]} */
  releases = []
  #used = 0
  #device
  #signal

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

  async sample() {
    const before = anonymousBytes()
    const start = performance.now()
    const buffer = await this.#device.allocateHost(this.bytes, { storage: 'pinned', signal: this.#signal })
    const ready = performance.now()
    this.#used = Math.max(this.#used, anonymousBytes() - before)
    const release = performance.now()
    await buffer.dispose()
    this.releases.push((this.bytes * 1000) / (performance.now() - release))
    this.samples.push((this.bytes * 1000) / (ready - start))
    return this.samples.at(-1) ?? 0
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
