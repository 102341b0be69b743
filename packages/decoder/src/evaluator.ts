import {
  type Device,
  type Event,
  type HostArena,
  type HostBuffer,
  type Offloader,
  type Stream,
  throwIfAborted,
} from '@spillway/core'
import { DecodeGraph, type GraphDecision } from './decode-graph.js'
import type { Forward, ForwardShape } from './forward.js'
import type { KvCache } from './kv-cache.js'
import { Resources } from './resources.js'
import type { Workspace } from './workspace.js'

export interface EvaluatorOptions {
  readonly device: Device
  readonly forward: Forward
  readonly kvCache: KvCache
  readonly workspace: Workspace
  readonly stream: Stream
  readonly offloader: Offloader
  readonly vocabSize: number
  /** Asked once all host memory is there: the last of it may have turned out not to be pinned. */
  readonly decideGraph: () => GraphDecision
}

interface EvaluatorHandles {
  readonly logits: HostBuffer
  readonly ready: Event
  readonly readback: Stream
}

/** Runs token sequences through the model, `maxRows` at a time, and waits without blocking. One caller at a time. */
export class Evaluator implements AsyncDisposable {
  readonly #options: EvaluatorOptions
  readonly #logits: HostBuffer
  /** What `advance` returns: a vocabulary is half a megabyte, and new memory of that size costs more than to fill it. */
  readonly #lastLogits: Float32Array
  readonly #ready: Event
  /** Waits for logits, and for nothing that comes after them. */
  readonly #readback: Stream
  readonly #decodeGraph: DecodeGraph

  private constructor(options: EvaluatorOptions, { logits, ready, readback }: EvaluatorHandles) {
    const { forward, offloader, stream, vocabSize, decideGraph } = options
    this.#options = options
    this.#logits = logits
    this.#lastLogits = new Float32Array(vocabSize)
    this.#ready = ready
    this.#readback = readback
    this.#decodeGraph = new DecodeGraph({ forward, offloader, stream, logits, ready, decision: decideGraph() })
  }

  static async create(options: EvaluatorOptions, signal?: AbortSignal): Promise<Evaluator> {
    const { device, offloader, vocabSize } = options
    const resources = new Resources()
    try {
      const logits = resources.add(await allocateLogits(offloader.host, vocabSize, signal))
      const ready = resources.add(device.createEvent())
      const readback = resources.add(device.createStream())
      return new Evaluator(options, { logits, ready, readback })
    } catch (error) {
      await resources.dispose()
      throw error
    }
  }

  get graphDecision(): GraphDecision {
    return this.#decodeGraph.decision
  }

  /** Runs `body`; tokens that are replayed meanwhile take times. Within `Offloader.trace`, one at a time. */
  traced<T>(body: () => T | Promise<T>): Promise<T> {
    return this.#decodeGraph.traced(body)
  }

  /** Starts a new sequence. */
  reset(): void {
    this.#options.kvCache.clear()
  }

  /**
   * Evaluates what the cache does not hold yet of `tokens`, which begin as those of the last call since `reset` did, and
   * returns the logits of the last one, f32 [vocab], good until the next call. Prefill and decode are the same: one is
   * many tokens behind, the other is one; and after a sleep that discarded the cache it is all of them again. Stops after
   * the running step with SPILLWAY_ABORTED.
   */
  async advance(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { kvCache, workspace } = this.#options
    const { maxRows } = workspace.plan
    while (kvCache.length < tokens.length) {
      const position = kvCache.length
      const chunk = tokens.slice(position, position + maxRows)
      const isLast = position + chunk.length === tokens.length
      const wanted = isLast ? { logitsFrom: chunk.length - 1, logits: this.#logits, ready: this.#ready } : {}
      await this.#step(chunk, position, wanted)
      throwIfAborted(signal, 'generating')
    }
    const { buffer, byteOffset, byteLength } = this.#lastLogits
    this.#logits.readInto(new Uint8Array(buffer, byteOffset, byteLength))
    return this.#lastLogits
  }

  /** Logits at every position of a new sequence, each f32 [vocab]. */
  async all(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array[]> {
    const { kvCache, workspace, vocabSize, offloader } = this.#options
    const { maxRows } = workspace.plan
    const rowBytes = 4 * vocabSize
    const logits = await allocateLogits(offloader.host, vocabSize * Math.min(maxRows, tokens.length), signal)
    try {
      const rows: Float32Array[] = []
      this.reset()
      while (kvCache.length < tokens.length) {
        const position = kvCache.length
        const chunk = tokens.slice(position, position + maxRows)
        await this.#step(chunk, position, { logitsFrom: 0, logits, ready: this.#ready })
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

  async #step(tokens: readonly number[], position: number, wanted: Omit<ForwardShape, 'rows'>): Promise<void> {
    const { forward, kvCache, workspace, stream } = this.#options
    const { epoch } = kvCache
    const rows = tokens.length
    try {
      workspace.write(tokens, position)
      if (rows === 1 && wanted.logits === this.#logits) this.#decodeGraph.enqueue()
      else forward.enqueue({ rows, ...wanted })
      await this.#computed(wanted)
    } catch (error) {
      this.#decodeGraph.forwardFailed()
      // Part of it may be enqueued and use the buffers that the next step writes.
      await stream.synchronize().catch(() => {})
      throw error
    }
    kvCache.commit(position + rows, epoch)
  }

  /**
   * A forward ends with copies for the next one, and a graph ends only when they have: whoever waited for that would
   * leave the link idle while a token is chosen.
   */
  async #computed({ ready }: Pick<ForwardShape, 'ready'>): Promise<void> {
    if (ready === undefined) return this.#options.stream.synchronize()
    this.#readback.wait(ready)
    await this.#readback.synchronize()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.stream.synchronize().catch(() => {})
    await this.#decodeGraph[Symbol.asyncDispose]()
    await Promise.all([this.#logits, this.#ready, this.#readback].map((handle) => handle.dispose()))
  }
}

function allocateLogits(host: HostArena, count: number, signal: AbortSignal | undefined): Promise<HostBuffer> {
  return host.allocate(4 * count, signal === undefined ? {} : { signal })
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
}
