import type { SpillwayError } from '@spillway/core'
import type { SamplingOptions } from './sampler.js'

export interface GenerateOptions extends SamplingOptions {
  /** Default: until the context is full. */
  readonly maxTokens?: number
  /** Texts that end the generation; they are not part of the text. At most 64, each of at most 1024 characters. */
  readonly stop?: readonly string[]
  readonly signal?: AbortSignal
}

/** One step: one token, and the text that became certain with it, which may be empty. */
export interface GeneratedStep {
  /** Of special tokens: none. */
  readonly text: string
  /** Of length 1. An end-of-sequence token is among them. */
  readonly tokens: readonly number[]
}

/**
 * `eos`: the model ended the text; `stop`: a stop string came; `length`: maxTokens; `context`: no room for more;
 * `cancelled`: the caller left the loop early.
 */
export type FinishReason = 'eos' | 'stop' | 'length' | 'context' | 'cancelled'

export interface GenerationResult {
  readonly finishReason: FinishReason
  /** Which one, when `finishReason` is `stop`. */
  readonly stopString?: string
  readonly promptTokens: number
  readonly generatedTokens: number
  readonly timings: {
    /** From the start of this generation's turn to the first token. */
    readonly prefillMs: number
    /** Of the tokens after the first; 0 when there were none. */
    readonly decodeTokensPerSecond: number
  }
}

/** What a generation does, one step per `next`; it frees everything in its finally. */
export type GenerationSteps = AsyncGenerator<GeneratedStep, GenerationResult>

/**
 * Text as it comes. Nothing runs before the first `next()` and no further than one step ahead of it; the model is held
 * from then on until the end, an abort, or until the loop is left.
 */
export interface Generation extends AsyncIterableIterator<GeneratedStep, GenerationResult | undefined> {
  /** Settles when the generation is over: rejects with what ended it, unless it ended as it should or was left. */
  readonly result: Promise<GenerationResult>
}

/** Makes a generation of its steps: abort works also while nobody asks for the next one. */
export class RunningGeneration implements Generation {
  readonly result: Promise<GenerationResult>
  readonly #steps: GenerationSteps
  readonly #progress: () => GenerationResult
  readonly #resolve: (result: GenerationResult) => void
  readonly #reject: (error: unknown) => void
  readonly #unlisten: () => void
  #over = false
  #stopped: { readonly error: unknown } | undefined
  /** The error that stopped it has come out of a next(): after that it is done, as iterators are. */
  #thrown = false

  /**
   * `start` gets the signal that its steps watch; `progress` says how far they came. Each of `signals` stops the
   * generation with the error beside it.
   */
  constructor(
    start: (signal: AbortSignal) => { readonly steps: GenerationSteps; readonly progress: () => GenerationResult },
    signals: readonly {
      readonly signal: AbortSignal | undefined
      readonly error: (reason: unknown) => SpillwayError
    }[],
  ) {
    const { promise, resolve, reject } = withResolvers<GenerationResult>()
    // Nobody has to look at it: the same error comes out of next().
    promise.catch(() => {})
    this.result = promise
    this.#resolve = resolve
    this.#reject = reject
    const stop = new AbortController()
    const { steps, progress } = start(stop.signal)
    this.#steps = steps
    this.#progress = progress
    const listeners = signals.map(({ signal, error }) => {
      const listener = (): void => {
        if (this.#over || this.#stopped !== undefined) return
        this.#stopped = { error: error(signal?.reason) }
        stop.abort()
        // Between two steps it waits for a next() that may never come: end it here, so that others get their turn.
        void this.#end()
      }
      signal?.addEventListener('abort', listener, { once: true })
      return {
        listener,
        unlisten: () => signal?.removeEventListener('abort', listener),
        early: signal?.aborted === true,
      }
    })
    this.#unlisten = () => {
      for (const { unlisten } of listeners) unlisten()
    }
    for (const { listener, early } of listeners) if (early) listener()
  }

  async next(): Promise<IteratorResult<GeneratedStep, GenerationResult | undefined>> {
    let item: IteratorResult<GeneratedStep, GenerationResult>
    try {
      item = await this.#steps.next()
    } catch (error) {
      this.#thrown = true
      const failure = this.#stopped?.error ?? error
      this.#finish(() => this.#reject(failure))
      throw failure
    }
    const stopped = this.#stopped
    if (item.done && stopped !== undefined && !this.#thrown) {
      this.#thrown = true
      throw stopped.error
    }
    if (item.done) this.#finish(() => this.#resolve(item.value))
    return item
  }

  /** Leaving a loop early calls it. Resolves when the model is free again. */
  async return(): Promise<IteratorResult<GeneratedStep, GenerationResult | undefined>> {
    await this.#end()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async #end(): Promise<void> {
    try {
      await this.#steps.return(undefined as never)
    } catch (error) {
      this.#finish(() => this.#reject(error))
    }
    const stopped = this.#stopped
    this.#finish(() => (stopped === undefined ? this.#resolve(this.#progress()) : this.#reject(stopped.error)))
  }

  #finish(settle: () => void): void {
    if (this.#over) return
    this.#over = true
    this.#unlisten()
    settle()
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}
