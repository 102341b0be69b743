// @ts-check
import { randomFillSync } from 'node:crypto'
import { throughput } from './samplers.mjs'

/** @import { CopyRange, Device, DeviceBuffer, HostBuffer, HostStorage, Stream } from '../../packages/core/dist/index.js' */
/** @import { Check } from './result.ts' */

const MiB = 2 ** 20
const poison = 0xa5
const windowBytes = 4096

/**
 * A copy to be timed, with two buffers of its own: the source full of random bytes (zeros may go faster), the target
 * full of poison, so that `check` sees whether it was done. Dispose it.
 */
export class Copy {
  /** What the device must have counted since `create`. */
  enqueuedBytes = 0
  /** @readonly */ stream
  /** @readonly */ bytes
  #from
  #to
  #pattern
  #staging

  /**
   * @param {Device} device
   * @param {object} options
   * @param {'device' | HostStorage} options.from
   * @param {'device' | HostStorage} options.to not pageable: a GPU cannot poison it
   * @param {number} options.bytes whole MiB
   * @param {AbortSignal} options.signal
   */
  static async create(device, { from, to, bytes, signal }) {
    const pattern = makePattern(Math.min(bytes, 64 * MiB))
    const staging = await device.allocateHost(pattern.length, { storage: 'pinned', signal })
    staging.write(pattern)
    const copy = new Copy(device.createStream(), {
      from: await allocate(device, from, bytes, signal),
      to: await allocate(device, to, bytes, signal),
      pattern,
      staging,
    })
    await copy.#initialize(signal)
    return copy
  }

  /**
   * @param {Stream} stream
   * @param {{ from: DeviceBuffer | HostBuffer, to: DeviceBuffer | HostBuffer, pattern: Buffer, staging: HostBuffer }} parts
   */
  constructor(stream, { from, to, pattern, staging }) {
    this.stream = stream
    this.bytes = from.bytes
    this.#from = from
    this.#to = to
    this.#pattern = pattern
    this.#staging = staging
  }

  /** @param {CopyRange} [range] */
  enqueue(range) {
    this.stream.copy(this.#to, this.#from, range)
    this.enqueuedBytes += range?.bytes ?? this.bytes
  }

  /**
   * Bytes a second. A copy within the device reads and writes: both count.
   * @param {{ seconds: number, signal: AbortSignal, pieceBytes?: number, waitForEach?: boolean }} options
   */
  sampler({ seconds, signal, pieceBytes = this.bytes, waitForEach = false }) {
    const pieces = this.bytes / pieceBytes
    const within = this.#from.kind === 'device-buffer' && this.#to.kind === 'device-buffer'
    return throughput({
      enqueue: (index) => {
        const offset = (index % pieces) * pieceBytes
        this.enqueue({ fromOffset: offset, toOffset: offset, bytes: pieceBytes })
      },
      work: within ? 2 * pieceBytes : pieceBytes,
      streams: [this.stream],
      waitForEach,
      seconds,
      signal,
    })
  }

  /**
   * Bytes a second, in batches of pieces. Not for copies within the device.
   * @param {{ seconds: number, signal: AbortSignal, pieceBytes: number, batch: number }} options
   */
  batchSampler({ seconds, signal, pieceBytes, batch }) {
    const bytes = batch * pieceBytes
    const batches = Math.floor(this.bytes / bytes)
    return throughput({
      enqueue: (index) => {
        const start = (index % batches) * bytes
        const copies = Array.from({ length: batch }, (_, i) => {
          const offset = start + i * pieceBytes
          return { from: this.#from, to: this.#to, fromOffset: offset, toOffset: offset, bytes: pieceBytes }
        })
        this.stream.copyBatch(copies)
        this.enqueuedBytes += bytes
      },
      work: bytes,
      streams: [this.stream],
      seconds,
      signal,
    })
  }

  /**
   * Whether the target holds what the source does, looked at both ends of each MiB. The stream must be idle.
   * @param {string} name
   * @returns {Promise<Check>}
   */
  async check(name) {
    const offsets = []
    for (let start = 0; start < this.bytes; start += MiB) offsets.push(start, start + MiB - windowBytes)
    const windows = await this.#read(offsets)
    const right = offsets.filter((offset, i) => {
      const at = offset % this.#pattern.length
      return windows[i]?.equals(this.#pattern.subarray(at, at + windowBytes))
    })
    return {
      name,
      passed: right.length === offsets.length,
      detail: `${right.length} of ${offsets.length} places hold the source's bytes`,
    }
  }

  async dispose() {
    await Promise.all([this.#from, this.#to, this.#staging, this.stream].map((handle) => handle.dispose()))
  }

  /** @param {AbortSignal} signal */
  async #initialize(signal) {
    const { stream } = this
    const period = this.#staging.bytes
    for (let offset = 0; offset < this.bytes; offset += period) {
      const bytes = Math.min(period, this.bytes - offset)
      if (this.#from.kind === 'device-buffer') stream.copy(this.#from, this.#staging, { toOffset: offset, bytes })
      else this.#from.write(this.#pattern.subarray(0, bytes), offset)
    }
    stream.fill(this.#to, poison)
    await stream.synchronize({ signal })
  }

  /**
   * `windowBytes` at each of the target's offsets.
   * @param {readonly number[]} offsets
   */
  async #read(offsets) {
    const target = this.#to
    if (target.kind === 'host-buffer') return offsets.map((offset) => Buffer.from(target.read(offset, windowBytes)))
    for (const [i, offset] of offsets.entries()) {
      this.stream.copy(this.#staging, target, { fromOffset: offset, toOffset: i * windowBytes, bytes: windowBytes })
    }
    await this.stream.synchronize()
    return offsets.map((_, i) => Buffer.from(this.#staging.read(i * windowBytes, windowBytes)))
  }
}

/** @param {number} bytes whole MiB; every MiB has its number in it, so that none can stand for another */
function makePattern(bytes) {
  const pattern = Buffer.alloc(bytes)
  randomFillSync(pattern, 0, MiB)
  for (let offset = MiB; offset < bytes; offset += MiB) pattern.copyWithin(offset, 0, MiB)
  for (let offset = 0; offset < bytes; offset += MiB) pattern.writeUInt32LE(offset / MiB, offset)
  return pattern
}

/**
 * @param {Device} device
 * @param {'device' | HostStorage} storage
 * @param {number} bytes
 * @param {AbortSignal} signal
 */
async function allocate(device, storage, bytes, signal) {
  if (storage === 'device') return device.allocate(bytes, { tag: 'workspace' })
  return device.allocateHost(bytes, { storage, signal })
}
