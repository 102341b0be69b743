// @ts-check
import { randomFillSync } from 'node:crypto'
import { throughput } from './samplers.mjs'
import { Kernels } from './spillway.mjs'

/** @import { Device, DeviceBuffer, DType, Graph, HostBuffer, Stream, TensorView } from '../../packages/core/dist/index.js' */
/** @import { Check } from './result.ts' */

const MiB = 2 ** 20
/** The one input that is not zero: what comes out are the weights that it meets. */
const lit = 123

/**
 * Memory read by a kernel, to be timed: the decoder's product of a bf16 matrix with one row, which reads every weight
 * once. One large matrix, or many of a given shape, one after another in a graph. Dispose it.
 */
export class Reading {
  /** Enqueued since `create`. */
  launches = 0
  /** @readonly */ bytes
  #kernels = new Kernels()
  #pattern = makeWeights()
  #stream
  #inputs
  #outputs
  /** @type {Graph | undefined} */
  #graph
  #x
  #weights
  #y
  #results

  /**
   * @param {Device} device
   * @param {{ from: 'device' | 'mapped', bytes: number, inputs?: number, outputs?: number, signal: AbortSignal }} options
   *   `bytes`: whole MiB, and whole matrices; `outputs` default: one matrix of all bytes
   */
  static async create(device, { from, bytes, inputs = 4096, outputs = bytes / 2 / inputs, signal }) {
    const rows = bytes / 2 / inputs
    /** @param {number} size */
    const allocate = (size) => device.allocate(size, { tag: 'workspace' })
    const reading = new Reading({
      inputs,
      outputs,
      stream: device.createStream(),
      x: allocate(4 * inputs),
      weights: from === 'device' ? allocate(bytes) : await device.allocateHost(bytes, { storage: from, signal }),
      y: allocate(4 * rows),
      results: await device.allocateHost(Math.max(MiB, 4 * rows), { storage: 'pinned', signal }),
    })
    await reading.#initialize(signal)
    return reading
  }

  /** @param {{ inputs: number, outputs: number, stream: Stream, x: DeviceBuffer, weights: DeviceBuffer | HostBuffer, y: DeviceBuffer, results: HostBuffer }} parts */
  constructor({ inputs, outputs, stream, x, weights, y, results }) {
    this.bytes = weights.bytes
    this.#inputs = inputs
    this.#outputs = outputs
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
    const matrices = this.#rows / this.#outputs
    const enqueue = () => {
      this.launches += matrices
      if (this.#graph === undefined) this.#launchAll()
      else this.#stream.launch(this.#graph)
    }
    return throughput({ enqueue, work: this.bytes, streams: [this.#stream], seconds, signal })
  }

  /**
   * Whether every row gave the weight that it had to. The stream must be idle.
   * @param {string} name
   * @returns {Promise<Check>}
   */
  async check(name) {
    const [rows, inputs] = [this.#rows, this.#inputs]
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
    const handles = [this.#graph, this.#x, this.#weights, this.#y, this.#results, this.#stream]
    await Promise.all(handles.map((handle) => handle?.dispose()))
  }

  get #rows() {
    return this.bytes / 2 / this.#inputs
  }

  #launchAll() {
    const [inputs, outputs] = [this.#inputs, this.#outputs]
    for (let row = 0; row < this.#rows; row += outputs) {
      this.#kernels.linear(this.#stream, {
        x: view(this.#x, 'f32', 1, inputs),
        weight: view(this.#weights, 'bf16', outputs, inputs, 2 * row * inputs),
        y: view(this.#y, 'f32', 1, outputs, 4 * row),
      })
    }
  }

  /** @param {AbortSignal} signal */
  async #initialize(signal) {
    const x = new Float32Array(this.#inputs)
    x[lit] = 1
    this.#results.write(new Uint8Array(x.buffer))
    this.#stream.copy(this.#x, this.#results, { bytes: 4 * this.#inputs })
    await this.#stream.synchronize({ signal })
    this.#results.write(this.#pattern)
    for (let offset = 0; offset < this.bytes; offset += MiB) {
      if (this.#weights.kind === 'host-buffer') this.#weights.write(this.#pattern, offset)
      else this.#stream.copy(this.#weights, this.#results, { toOffset: offset, bytes: MiB })
    }
    if (this.#outputs < this.#rows) {
      // A kernel is loaded by its first launch, which must not be one in a capture.
      this.#launchAll()
      this.#stream.beginCapture()
      this.#launchAll()
      this.#graph = this.#stream.endCapture()
    }
    // NaN in every row.
    this.#stream.fill(this.#y, 0xff)
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
 * @param {number} [offset]
 * @returns {TensorView}
 */
function view(buffer, dtype, rows, columns, offset = 0) {
  return { buffer, offset, dtype, shape: [rows, columns], stride: [columns, 1] }
}
