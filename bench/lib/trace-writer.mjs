// @ts-check
/** @import { ReplayableTrace, TraceOperation } from './memory-trace.ts' */

/** Writes a trace down while a program makes believe that it runs. */
export class TraceWriter {
  /** @type {TraceOperation[]} */
  #operations = []
  /** Bytes of what is live, by id. @type {Map<number, number>} */
  #live = new Map()
  /** @type {Set<number>} */
  #streams = new Set()
  #next = 0
  #scale
  #liveBytes = 0
  #peakBytes = 0

  /** @param {number} scale what all sizes are multiplied by */
  constructor(scale) {
    this.#scale = scale
  }

  get liveBytes() {
    return this.#liveBytes
  }

  /**
   * @param {number} bytes before they are scaled
   * @param {string} tag
   * @param {number} [stream]
   * @returns {number} its id
   */
  allocate(bytes, tag, stream = 1) {
    const id = this.#next++
    const scaled = Math.max(1, Math.round(bytes * this.#scale))
    this.#operations.push({ operation: 'allocate', id, bytes: scaled, tag, stream })
    this.#live.set(id, scaled)
    this.#streams.add(stream)
    this.#liveBytes += scaled
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes)
    return id
  }

  /**
   * @param {number} id
   * @param {number} stream
   */
  use(id, stream) {
    this.#operations.push({ operation: 'use', id, stream })
    this.#streams.add(stream)
  }

  /** @param {...number} ids */
  free(...ids) {
    for (const id of ids) {
      const bytes = this.#live.get(id)
      if (bytes === undefined) throw new Error(`block ${id} of a trace is freed, but not live`)
      this.#live.delete(id)
      this.#liveBytes -= bytes
      this.#operations.push({ operation: 'free', id })
    }
  }

  synchronize() {
    this.#operations.push({ operation: 'synchronize' })
  }

  /**
   * @param {string} name
   * @param {{ load?: boolean }} [options]
   * @returns {ReplayableTrace}
   */
  end(name, { load = false } = {}) {
    return {
      name,
      load,
      streams: [...this.#streams].sort(),
      operations: this.#operations,
      peakRequestedBytes: this.#peakBytes,
    }
  }
}
