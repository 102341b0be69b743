// @ts-check
import { randomFillSync } from 'node:crypto'
import { expectedOf, productForms } from './product-forms.mjs'
import { throughput } from './samplers.mjs'
import { Kernels } from './spillway.mjs'

/** @import { Device, DeviceBuffer, DType, Graph, HostBuffer, Stream, TensorView } from '../../packages/core/dist/index.js' */
/** @import { ProductForm } from './product-forms.mjs' */
/** @import { Check } from './result.ts' */

const MiB = 2 ** 20
/** The one input that is not zero, but one: what comes out are the weights that it meets. */
const lit = 123
const word = Buffer.alloc(4)

/**
 * Memory read by a kernel, to be timed: the decoder's product of a bf16 matrix with one row, which reads every weight
 * once. One large matrix, or many of a given shape, one after another in a graph, with what else the form of the product
 * takes. Dispose it.
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
  #form
  /** @type {Graph | undefined} */
  #graph
  #x
  #weights
  #y
  /** The normed activations, the product of one matrix, the weight of the norm. */
  #scratch
  #results

  /**
   * @param {Device} device
   * @param {{ from: 'device' | 'mapped', bytes: number, inputs?: number, outputs?: number, form?: ProductForm, signal: AbortSignal }} options
   *   `bytes`: whole MiB, and whole matrices; `outputs` default: one matrix of all bytes
   */
  static async create(
    device,
    { from, bytes, inputs = 4096, outputs = bytes / 2 / inputs, form = productForms.linear, signal },
  ) {
    const rows = bytes / 2 / inputs
    /** @param {number} size */
    const allocate = (size) => device.allocate(size, { tag: 'workspace' })
    const reading = new Reading({
      inputs,
      outputs,
      form,
      stream: device.createStream(),
      x: allocate(4 * inputs),
      weights: from === 'device' ? allocate(bytes) : await device.allocateHost(bytes, { storage: from, signal }),
      y: allocate(4 * rows),
      scratch: allocate(4 * inputs + 4 * outputs + 2 * inputs),
      results: await device.allocateHost(Math.max(MiB, 4 * rows), { storage: 'pinned', signal }),
    })
    await reading.#initialize(signal)
    return reading
  }

  /** @param {{ inputs: number, outputs: number, form: ProductForm, stream: Stream, x: DeviceBuffer, weights: DeviceBuffer | HostBuffer, y: DeviceBuffer, scratch: DeviceBuffer, results: HostBuffer }} parts */
  constructor({ inputs, outputs, form, stream, x, weights, y, scratch, results }) {
    this.bytes = weights.bytes
    this.#inputs = inputs
    this.#outputs = outputs
    this.#form = form
    this.#scratch = scratch
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
    const launches = (this.#rows / this.#outputs) * this.#form.launches
    const enqueue = () => {
      this.launches += launches
      if (this.#graph === undefined) this.#launchAll()
      else this.#stream.launch(this.#graph)
    }
    return throughput({ enqueue, work: this.bytes, streams: [this.#stream], seconds, signal })
  }

  /**
   * Whether every row gave the weight that it had to, or what the form makes of it. The stream must be idle.
   * @param {string} name
   * @returns {Promise<Check>}
   */
  async check(name) {
    const [rows, inputs, outputs, columns] = [this.#rows, this.#inputs, this.#outputs, this.#columns]
    const count = (rows / outputs) * columns
    this.#stream.copy(this.#results, this.#y, { bytes: 4 * count })
    await this.#stream.synchronize()
    const found = Buffer.from(this.#results.read(0, 4 * count))
    let right = 0
    for (let first = 0; first < rows; first += outputs) {
      const weights = Array.from({ length: outputs }, (_, i) => this.#weight((first + i) * inputs + lit))
      for (const [i, expected] of expectedOf(this.#form, weights).entries()) {
        const error = Math.abs(found.readFloatLE(4 * ((first / outputs) * columns + i)) - expected)
        if (error <= this.#form.tolerance * Math.abs(expected)) right++
      }
    }
    return { name, passed: right === count, detail: `${right} of ${count} results are right` }
  }

  async dispose() {
    const handles = [this.#graph, this.#x, this.#weights, this.#y, this.#scratch, this.#results, this.#stream]
    await Promise.all(handles.map((handle) => handle?.dispose()))
  }

  get #rows() {
    return this.bytes / 2 / this.#inputs
  }

  /** Of y, for one matrix. */
  get #columns() {
    return this.#form.gated ? this.#outputs / 2 : this.#outputs
  }

  /** @param {number} index */
  #weight(index) {
    // A bf16 is the upper half of an f32.
    word.writeUInt32LE(this.#pattern.readUInt16LE((2 * index) % MiB) * 2 ** 16)
    return word.readFloatLE()
  }

  #launchAll() {
    const [inputs, outputs, columns] = [this.#inputs, this.#outputs, this.#columns]
    for (let row = 0; row < this.#rows; row += outputs) {
      this.#form.enqueue(this.#kernels, this.#stream, {
        x: view(this.#x, 'f32', 1, inputs),
        normed: view(this.#scratch, 'f32', 1, inputs),
        product: view(this.#scratch, 'f32', 1, outputs, 4 * inputs),
        norm: this.#norm,
        weight: view(this.#weights, 'bf16', outputs, inputs, 2 * row * inputs),
        y: view(this.#y, 'f32', 1, columns, 4 * (row / outputs) * columns),
      })
    }
  }

  /** @returns {TensorView} */
  get #norm() {
    const [inputs, outputs] = [this.#inputs, this.#outputs]
    return { buffer: this.#scratch, offset: 4 * inputs + 4 * outputs, dtype: 'bf16', shape: [inputs], stride: [1] }
  }

  /** @param {AbortSignal} signal */
  async #initialize(signal) {
    const x = new Float32Array(this.#inputs)
    x[lit] = 1
    this.#results.write(new Uint8Array(x.buffer))
    this.#stream.copy(this.#x, this.#results, { bytes: 4 * this.#inputs })
    await this.#stream.synchronize({ signal })
    this.#results.write(new Uint8Array(new Uint16Array(this.#inputs).fill(0x3f80).buffer))
    this.#stream.copy(this.#scratch, this.#results, { toOffset: this.#norm.offset, bytes: 2 * this.#inputs })
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
