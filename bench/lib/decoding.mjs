// @ts-check
import { openDummyModel } from './dummy-model.mjs'
import { promptOf } from './model-shape.mjs'

/** @import { Generation, Model } from '../../packages/decoder/dist/index.js' */
/** @import { Context } from './benchmark.ts' */
/** @import { DummyModelOptions } from './dummy-model.mjs' */
/** @import { ModelShape } from './model-shape.mjs' */

/**
 * A model of random weights, and one sequence that it goes on with a sample at a time. Between samples nothing is
 * computed, so other subjects take their turns. Dispose it.
 */
export class Decoding {
  /** Of the present sequence, generated ones only. @type {number[]} */
  tokens = []
  /** @readonly */ device
  /** @readonly */ model
  #shape
  #signal
  /** @type {Generation | undefined} */
  #generation
  #temperature = 0
  #sampled = { samples: 0, tokens: 0, positions: 0, onloadedBytes: 0, graphLaunches: 0 }

  /**
   * @param {Context} context
   * @param {ModelShape} shape
   * @param {string} directory
   * @param {DummyModelOptions} [options]
   */
  static async open(context, shape, directory, options) {
    const { device, model } = await openDummyModel(context, shape, directory, options)
    return new Decoding(device, model, shape, context.signal)
  }

  /**
   * @param {Awaited<ReturnType<typeof openDummyModel>>['device']} device
   * @param {Model} model
   * @param {ModelShape} shape
   * @param {AbortSignal} signal
   */
  constructor(device, model, shape, signal) {
    this.device = device
    this.model = model
    this.#shape = shape
    this.#signal = signal
  }

  /**
   * Reads the prompt and decodes until all that is made once has been made: kernels loaded, a graph captured. From now on
   * tokens are chosen at this temperature; 0: always the likeliest one.
   */
  async start(temperature = this.#temperature) {
    await this.#generation?.return?.()
    this.#temperature = temperature
    this.tokens = []
    this.#generation = this.model.generate(promptOf(this.#shape), { temperature, seed: 1, signal: this.#signal })
    for (let i = 0; i < 3; i++) await this.#next()
  }

  /** Tokens a second. */
  async sample() {
    const { sampleTokens, contextLength, promptTokens } = this.#shape
    const hasRoom = promptTokens + this.tokens.length + sampleTokens < contextLength
    if (this.#generation === undefined || !hasRoom) await this.start()
    // One token untimed: then copies for the next one are as much under way as they are after the last, and a sample
    // is not given bytes that were copied before it.
    await this.#next()
    const before = this.device.counters()
    const start = performance.now()
    for (let i = 0; i < sampleTokens; i++) await this.#next()
    const seconds = (performance.now() - start) / 1000
    const after = this.device.counters()
    const sampled = this.#sampled
    sampled.samples++
    sampled.tokens += sampleTokens
    // The nth token after the prompt is computed from keys and values of prompt + n - 1 positions.
    sampled.positions += sampleTokens * (promptTokens + this.tokens.length - (sampleTokens + 1) / 2)
    sampled.onloadedBytes += weightBytes(after) - weightBytes(before)
    sampled.graphLaunches += after.graphLaunches - before.graphLaunches
    return sampleTokens / seconds
  }

  /** Over all samples, as the device counted. */
  get sampled() {
    return this.#sampled
  }

  /** What a token moves over the link, by the device's counters. */
  get onloadedBytesPerToken() {
    return this.#sampled.onloadedBytes / this.#sampled.tokens
  }

  /** What a token cannot but read in device memory, on average over the samples: weights, keys and values. */
  get readBytesPerToken() {
    const { config, plan } = this.model
    const { vocabSize, hiddenSize, layers, kvHeads, headDim } = config
    // Two bytes an element. Of the embedding, one row.
    const weights = plan.weightBytes - 2 * (vocabSize - 1) * hiddenSize
    const cacheRow = 2 * 2 * layers * kvHeads * headDim
    return weights + cacheRow * (this.#sampled.positions / this.#sampled.tokens)
  }

  async dispose() {
    await this.#generation?.return?.()
    await this.model.dispose()
    await this.device.dispose()
  }

  async #next() {
    const step = await /** @type {Generation} */ (this.#generation).next()
    if (step.done) throw new Error('the sequence ended before its sample did')
    this.tokens.push(...step.value.tokens)
  }
}

/** @param {{ readonly hostToDeviceBytesByTag: Readonly<Record<string, number>> }} counters */
function weightBytes({ hostToDeviceBytesByTag }) {
  return hostToDeviceBytesByTag.weights ?? 0
}
