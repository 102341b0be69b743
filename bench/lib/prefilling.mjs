// @ts-check
import { openDummyModel } from './dummy-model.mjs'
import { promptOf } from './model-shape.mjs'

/** @import { TraceEvent } from '../../packages/core/dist/index.js' */
/** @import { Model } from '../../packages/decoder/dist/index.js' */
/** @import { Context } from './benchmark.ts' */
/** @import { DummyModelOptions } from './dummy-model.mjs' */
/** @import { ModelShape } from './model-shape.mjs' */

/**
 * A model of random weights that reads the same prompt again and again, all of it in one forward: a step of as many rows
 * as one likes. Dispose it.
 */
export class Prefilling {
  /** @readonly */ device
  /** @readonly */ model
  /** Of the last one, that it led to. @type {readonly number[]} */
  tokens = []
  /** Over all timed ones, as the device counted. */
  sampled = { samples: 0, steps: 0, onloadedBytes: 0 }
  #shape
  #signal

  /**
   * @param {Context} context
   * @param {ModelShape} shape its context length is the most rows
   * @param {string} directory
   * @param {DummyModelOptions} [options]
   */
  static async open(context, shape, directory, options) {
    const maxRows = shape.contextLength
    const { device, model } = await openDummyModel(context, shape, directory, { ...options, maxRows })
    return new Prefilling(device, model, shape, context.signal)
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
   * Seconds a step, of so many one after another. Two untimed ones come first: then copies for the next are as much under
   * way as they are after the last.
   * @param {{ rows: number, steps: number }} options
   */
  async sample({ rows, steps }) {
    for (let i = 0; i < 2; i++) await this.#step(rows)
    return this.#timed(rows, steps)
  }

  /**
   * As `sample`, and what the steps' modules did on the device meanwhile.
   * @param {{ rows: number, steps: number }} options
   * @returns {Promise<{ seconds: number, events: readonly TraceEvent[] }>}
   */
  async tracedSample({ rows, steps }) {
    for (let i = 0; i < 2; i++) await this.#step(rows)
    const { result: seconds, events } = await this.model.trace(() => this.#timed(rows, steps))
    return { seconds, events }
  }

  async dispose() {
    await this.model.dispose()
    await this.device.dispose()
  }

  /**
   * @param {number} rows
   * @param {number} steps
   */
  async #timed(rows, steps) {
    const before = this.#onloadedBytes()
    const start = performance.now()
    for (let i = 0; i < steps; i++) await this.#step(rows)
    const seconds = (performance.now() - start) / 1000
    this.sampled.samples++
    this.sampled.steps += steps
    this.sampled.onloadedBytes += this.#onloadedBytes() - before
    return seconds / steps
  }

  /** @param {number} rows */
  async #step(rows) {
    const prompt = promptOf({ ...this.#shape, promptTokens: rows })
    const generation = this.model.generate(prompt, { maxTokens: 1, temperature: 0, signal: this.#signal })
    for await (const { tokens } of generation) this.tokens = tokens
  }

  #onloadedBytes() {
    return this.device.counters().hostToDeviceBytesByTag.weights ?? 0
  }
}
