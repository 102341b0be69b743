// @ts-check
import { randomFillSync } from 'node:crypto'
import { throughput } from './samplers.mjs'
import { Kernels } from './spillway.mjs'

/** @import { Device, DeviceBuffer, DType, HostBuffer, Stream, TensorView } from '../../packages/core/dist/index.js' */
/** @import { Check } from './result.ts' */

const MiB = 2 ** 20
const inputs = 4096
/** The one input that is not zero: what comes out are the weights that it meets. */
const lit = 1234

/**
 * Memory read by a kernel, to be timed: the decoder's product of a bf16 matrix with one row, which reads every weight
 * once. Dispose it.
 */
export class Reading {
  /** Enqueued since `create`. */
  launches = 0
  /** @readonly */ bytes
  #kernels = new Kernels()
  #pattern = makeWeights()
  #stream
  #x
  #weights
  #y
  #results

  /**
   * @param {Device} device
   * @param {{ from: 'device' | 'mapped', bytes: number, signal: AbortSignal }} options whole MiB
   */
  static async create(device, { from, bytes, signal }) {
    const rows = bytes / 2 / inputs
    /** @param {number} size */
    const allocate = (size) => device.allocate(size, { tag: 'workspace' })
    const reading = new Reading({
      stream: device.createStream(),
      x: allocate(4 * inputs),
      weights: from === 'device' ? allocate(bytes) : await device.allocateHost(bytes, { storage: from, signal }),
      y: allocate(4 * rows),
      results: await device.allocateHost(Math.max(MiB, 4 * rows), { storage: 'pinned', signal }),
    })
    await reading.#initialize(signal)
    return reading
  }

  /** @param {{ stream: Stream, x: DeviceBuffer, weights: DeviceBuffer | HostBuffer, y: DeviceBuffer, results: HostBuffer }} parts */
  constructor({ stream, x, weights, y, results }) {
    this.bytes = weights.bytes
    this.#stream = stream
    this.#x = x
    this.#weights = weights
    this.#y = y
    this.#results = results
  }

  /**
   * Bytes a second.
   * @param {{ seconds: number, signal: AbortSignal }} options
   */
  sampler({ seconds, signal }) {
    const rows = this.bytes / 2 / inputs
    const views = {
      x: view(this.#x, 'f32', 1, inputs),
      weight: view(this.#weights, 'bf16', rows, inputs),
      y: view(this.#y, 'f32', 1, rows),
    }
    const enqueue = () => {
      this.#kernels.linear(this.#stream, views)
      this.launches++
    }
    return throughput({ enqueue, work: this.bytes, streams: [this.#stream], seconds, signal })
  }

  /**
   * Whether every row gave the weight that it had to. The stream must be idle.
   * @param {string} name
   * @returns {Promise<Check>}
   */
  async check(name) {
    const rows = this.bytes / 2 / inputs
    this.#stream.copy(this.#results, this.#y, { bytes: 4 * rows })
    await this.#stream.synchronize()
    const found = Buffer.from(this.#results.read(0, 4 * rows))
    let right = 0
    for (let row = 0; row < rows; row++) {
      const at = (2 * (row * inputs + lit)) % MiB
      // A bf16 is the upper half of an f32.
      if (found.readUInt32LE(4 * row) === this.#pattern.readUInt16LE(at) * 2 ** 16) right++
    }
    return { name, passed: right === rows, detail: `${right} of ${rows} rows are right` }
  }

  async dispose() {
    const handles = [this.#x, this.#weights, this.#y, this.#results, this.#stream]
    await Promise.all(handles.map((handle) => handle.dispose()))
  }

  /** @param {AbortSignal} signal */
  async #initialize(signal) {
    const x = new Float32Array(inputs)
    x[lit] = 1
    this.#results.write(new Uint8Array(x.buffer))
    this.#stream.copy(this.#x, this.#results, { bytes: 4 * inputs })
    // NaN in every row.
    this.#stream.fill(this.#y, 0xff)
    await this.#stream.synchronize({ signal })
    this.#results.write(this.#pattern)
    for (let offset = 0; offset < this.bytes; offset += MiB) {
      if (this.#weights.kind === 'host-buffer') this.#weights.write(this.#pattern, offset)
      else this.#stream.copy(this.#weights, this.#results, { toOffset: offset, bytes: MiB })
    }
    await this.#stream.synchronize({ signal })
  }
}

/** One MiB of random numbers between 0.5 and 2: zeros may be read faster. */
function makeWeights() {
  const pattern = randomFillSync(Buffer.alloc(MiB))
  for (let i = 1; i < MiB; i += 2) pattern[i] = 0x3f
  return pattern
}

/**
 * Row-major.
 * @param {DeviceBuffer | HostBuffer} buffer
 * @param {DType} dtype
 * @param {number} rows
 * @param {number} columns
 * @returns {TensorView}
 */
function view(buffer, dtype, rows, columns) {
  return { buffer, offset: 0, dtype, shape: [rows, columns], stride: [columns, 1] }
}
