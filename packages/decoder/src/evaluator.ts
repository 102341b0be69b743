import { type HostArena, type HostBuffer, type Stream, throwIfAborted } from '@spillway/core'
import type { Forward } from './forward.js'
import type { KvCache } from './kv-cache.js'

export interface EvaluatorOptions {
  readonly forward: Forward
  readonly kvCache: KvCache
  readonly stream: Stream
  readonly host: HostArena
  readonly maxRows: number
  readonly vocabSize: number
}

/** Runs token sequences through the model, `maxRows` at a time, and waits without blocking. One caller at a time. */
export class Evaluator implements AsyncDisposable {
  readonly #options: EvaluatorOptions
  readonly #logits: HostBuffer

  private constructor(options: EvaluatorOptions, logits: HostBuffer) {
    this.#options = options
    this.#logits = logits
  }

  static async create(options: EvaluatorOptions, signal?: AbortSignal): Promise<Evaluator> {
    const bytes = 4 * options.vocabSize
    return new Evaluator(options, await options.host.allocate(bytes, signal === undefined ? {} : { signal }))
  }

  /** Starts a new sequence. */
  reset(): void {
    this.#options.kvCache.clear()
  }

  /**
   * Evaluates what the cache does not hold yet of `tokens`, which begin as those of the last call since `reset` did, and
   * returns the logits of the last one, f32 [vocab]. Prefill and decode are the same: one is many tokens behind, the
   * other is one; and after a sleep that discarded the cache it is all of them again. Stops after the running step with
   * SPILLWAY_ABORTED.
   */
  async advance(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { kvCache, maxRows } = this.#options
    while (kvCache.length < tokens.length) {
      const position = kvCache.length
      const chunk = tokens.slice(position, position + maxRows)
      const isLast = position + chunk.length === tokens.length
      await this.#step(chunk, position, isLast ? { logitsFrom: chunk.length - 1, logits: this.#logits } : {})
      throwIfAborted(signal, 'generating')
    }
    return floatsOf(this.#logits.read())
  }

  /** Logits at every position of a new sequence, each f32 [vocab]. */
  async all(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array[]> {
    const { kvCache, maxRows, vocabSize, host } = this.#options
    const rowBytes = 4 * vocabSize
    const bytes = rowBytes * Math.min(maxRows, tokens.length)
    const logits = await host.allocate(bytes, signal === undefined ? {} : { signal })
    try {
      const rows: Float32Array[] = []
      this.reset()
      while (kvCache.length < tokens.length) {
        const position = kvCache.length
        const chunk = tokens.slice(position, position + maxRows)
        await this.#step(chunk, position, { logitsFrom: 0, logits })
        throwIfAborted(signal, 'computing logits')
        // By position: a cache that was lost meanwhile makes them come again.
        for (let row = 0; row < chunk.length; row++)
          rows[position + row] = floatsOf(logits.read(row * rowBytes, rowBytes))
      }
      return rows
    } finally {
      await logits.dispose()
    }
  }

  async #step(
    tokens: readonly number[],
    position: number,
    wanted: { readonly logitsFrom?: number; readonly logits?: HostBuffer },
  ): Promise<void> {
    const { forward, kvCache, stream } = this.#options
    const { epoch } = kvCache
    try {
      forward.enqueue({ tokens, position, ...wanted })
    } catch (error) {
      // Part of it may be enqueued and use the buffers that the next step writes.
      await stream.synchronize().catch(() => {})
      throw error
    }
    await stream.synchronize()
    kvCache.commit(position + tokens.length, epoch)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#logits.dispose()
  }
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
}
