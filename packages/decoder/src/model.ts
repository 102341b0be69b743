import { setMaxListeners } from 'node:events'
import {
  type Device,
  type ExplainOptions,
  type Explanation,
  type Offloader,
  type OffloaderStats,
  printable,
  SpillwayError,
  type TraceEvent,
  throwIfAborted,
} from '@spillway/core'
import type { DecoderConfig, WeightDType } from './config.js'
import type { GraphDecision } from './decode-graph.js'
import type { Evaluator } from './evaluator.js'
import { type GenerateContext, generateSteps, noTokenizer } from './generate.js'
import { type GenerateOptions, type Generation, RunningGeneration } from './generation.js'
import type { Resources } from './resources.js'
import type { Tokenizer } from './tokenizer.js'
import { TurnQueue } from './turn-queue.js'

/** Device bytes by use, as planned before anything was loaded. */
export interface ModelPlan {
  /** Of all parameters together, wherever the backend put them. */
  readonly weightBytes: number
  readonly kvCacheBytes: number
  readonly workspaceBytes: number
}

/** A loaded model. One sequence at a time: calls that overlap wait for their turn, in order. */
export interface Model extends AsyncDisposable {
  readonly config: DecoderConfig
  readonly dtype: WeightDType
  /** Absent when the directory had no tokenizer.json. */
  readonly tokenizer: Tokenizer | undefined
  readonly device: Device
  /** The backends' names, as `Offloader.names`. */
  readonly names: readonly string[]
  readonly plan: ModelPlan
  /** Tokens of prompt and generated text together, at most. */
  readonly contextLength: number
  /** Whether tokens are decoded by replaying a captured graph. */
  readonly decodeGraph: GraphDecision
  /**
   * Bytes offloaded, resident and moved, checked by core against the device's own counters. `onloadedBytes` are those of
   * forwards that were enqueued: what replays of the graph copy, `device.counters()` has. Times of layers are those of the
   * last token that was measured, replays included.
   */
  stats(): OffloaderStats
  /**
   * `stats()` once everything that was enqueued is done. A token is handed out while copies for the next one are under
   * way: who compares the device's counters between tokens waits here first.
   */
  settledStats(options?: { readonly signal?: AbortSignal }): Promise<OffloaderStats>
  /** What lies where and what a step costs, as `Offloader.explain`; `formatExplanation` makes a table of it. */
  explain(options?: ExplainOptions): Explanation
  /**
   * As `Offloader.trace`: every forward that is not replayed, and of the replayed graph the last token. To see each token,
   * trace them one by one.
   */
  trace<T>(body: () => T | Promise<T>): Promise<{ readonly result: T; readonly events: readonly TraceEvent[] }>
  /**
   * Logits after each of `tokens`, f32 [vocab] each. Throws SPILLWAY_DECODER_CONTEXT, SPILLWAY_DECODER_TOKEN,
   * SPILLWAY_DECODER_EMPTY_PROMPT, SPILLWAY_ABORTED.
   */
  logits(tokens: readonly number[], options?: { readonly signal?: AbortSignal }): Promise<Float32Array[]>
  /**
   * Continues a text, or token ids as they are. A text is encoded with the special tokens the model expects; an empty
   * prompt is the model's BOS token. Throws SPILLWAY_INVALID_OPTION, SPILLWAY_DECODER_CONTEXT, SPILLWAY_DECODER_TOKEN,
   * SPILLWAY_DECODER_EMPTY_PROMPT, SPILLWAY_DECODER_NO_TOKENIZER at once; the loop throws SPILLWAY_ABORTED after the
   * running step when `signal` fires, and SPILLWAY_DECODER_LOGITS for weights that give no numbers.
   */
  generate(prompt: string | readonly number[], options?: GenerateOptions): Generation
  /** Stops what runs (SPILLWAY_DISPOSED comes out of it) after its step, then frees everything. Again: same promise. */
  dispose(): Promise<void>
}

export interface LoadedModelOptions {
  readonly config: DecoderConfig
  readonly dtype: WeightDType
  readonly tokenizer: Tokenizer | undefined
  readonly device: Device
  readonly offloader: Offloader
  readonly plan: ModelPlan
  readonly contextLength: number
  readonly evaluator: Evaluator
  /** Owned by the model from here on. */
  readonly resources: Resources
}

export class LoadedModel implements Model {
  readonly config: DecoderConfig
  readonly dtype: WeightDType
  readonly tokenizer: Tokenizer | undefined
  readonly device: Device
  readonly names: readonly string[]
  readonly plan: ModelPlan
  readonly contextLength: number
  readonly #offloader: Offloader
  readonly #context: GenerateContext
  readonly #resources: Resources
  readonly #queue = new TurnQueue()
  readonly #closing = new AbortController()
  #disposed: Promise<void> | undefined

  constructor(options: LoadedModelOptions) {
    this.config = options.config
    this.dtype = options.dtype
    this.tokenizer = options.tokenizer
    this.device = options.device
    this.names = options.offloader.names
    this.plan = options.plan
    this.contextLength = options.contextLength
    // Every waiting generation listens; Node would take eleven of them for a leak.
    setMaxListeners(0, this.#closing.signal)
    this.#offloader = options.offloader
    this.#resources = options.resources
    this.#context = {
      evaluator: options.evaluator,
      queue: this.#queue,
      contextLength: options.contextLength,
      tokenizer: options.tokenizer,
      eosTokenIds: new Set(eosTokenIdsOf(options)),
    }
  }

  get decodeGraph(): GraphDecision {
    return this.#context.evaluator.graphDecision
  }

  stats(): OffloaderStats {
    return this.#offloader.stats()
  }

  settledStats(options?: { readonly signal?: AbortSignal }): Promise<OffloaderStats> {
    return this.#offloader.settledStats(options)
  }

  explain(options?: ExplainOptions): Explanation {
    return this.#offloader.explain(options)
  }

  trace<T>(body: () => T | Promise<T>): Promise<{ readonly result: T; readonly events: readonly TraceEvent[] }> {
    return this.#offloader.trace(() => this.#context.evaluator.traced(body))
  }

  async logits(tokens: readonly number[], options: { readonly signal?: AbortSignal } = {}): Promise<Float32Array[]> {
    this.#requireOpen()
    const checked = this.#checkedTokens(tokens)
    this.#requireRoom(checked.length)
    await this.#queue.enter(options.signal, 'waiting to compute logits')
    const stop = new AbortController()
    const onAbort = (): void => stop.abort()
    this.#closing.signal.addEventListener('abort', onAbort)
    options.signal?.addEventListener('abort', onAbort)
    try {
      // Either may have happened while this call was waiting for its turn.
      throwIfAborted(options.signal, 'computing logits')
      this.#requireOpen()
      return await this.#context.evaluator.all(checked, stop.signal)
    } catch (error) {
      throwIfAborted(options.signal, 'computing logits')
      this.#requireOpen()
      throw error
    } finally {
      this.#closing.signal.removeEventListener('abort', onAbort)
      options.signal?.removeEventListener('abort', onAbort)
      this.#queue.leave()
    }
  }

  generate(prompt: string | readonly number[], options: GenerateOptions = {}): Generation {
    this.#requireOpen()
    const tokens = this.#promptTokens(prompt)
    // One more: there must be room for what is generated.
    this.#requireRoom(tokens.length + 1)
    return new RunningGeneration(
      (signal) => generateSteps(this.#context, tokens, options, signal),
      [
        { signal: this.#closing.signal, error: disposed },
        {
          signal: options.signal,
          error: (reason) =>
            new SpillwayError('SPILLWAY_ABORTED', 'generating was aborted by its signal', { cause: reason }),
        },
      ],
    )
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose()
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #dispose(): Promise<void> {
    const idle = this.#queue.close(disposed())
    this.#closing.abort()
    await idle
    await this.#resources.dispose()
  }

  #requireOpen(): void {
    if (this.#disposed !== undefined) throw disposed()
  }

  #promptTokens(prompt: string | readonly number[]): readonly number[] {
    if (typeof prompt === 'string') {
      if (this.tokenizer === undefined) throw noTokenizer('text prompts')
      prompt = this.tokenizer.encode(prompt)
    }
    if (!Array.isArray(prompt) || prompt.length > 0) return this.#checkedTokens(prompt)
    const { bosTokenId } = this.config
    const bosToken = this.tokenizer?.bosToken
    const bos = bosTokenId ?? (bosToken === undefined ? undefined : this.tokenizer?.tokenId(bosToken))
    return this.#checkedTokens(bos === undefined ? [] : [bos])
  }

  #checkedTokens(tokens: readonly number[]): readonly number[] {
    if (!Array.isArray(tokens)) {
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `tokens are a list of token ids, not ${printable(tokens)}`)
    }
    if (tokens.length === 0) {
      throw new SpillwayError(
        'SPILLWAY_DECODER_EMPTY_PROMPT',
        'there is no token to start from, and the model has no BOS token to use instead; give it a prompt',
      )
    }
    const { vocabSize } = this.config
    const wrong = (tokens as readonly unknown[]).findIndex((token) => {
      return typeof token !== 'number' || !Number.isInteger(token) || token < 0 || token >= vocabSize
    })
    if (wrong < 0) return [...(tokens as readonly number[])]
    const token = (tokens as readonly unknown[])[wrong]
    throw new SpillwayError(
      'SPILLWAY_DECODER_TOKEN',
      `token ${wrong} is ${printable(token)}; this model's token ids go from 0 to ${vocabSize - 1}. Is it another model's tokenizer?`,
      { details: { index: wrong, token, vocabSize } },
    )
  }

  #requireRoom(needed: number): void {
    const { contextLength } = this
    if (needed <= contextLength) return
    throw new SpillwayError(
      'SPILLWAY_DECODER_CONTEXT',
      `this needs room for ${needed} tokens, but the context holds ${contextLength}; shorten the prompt` +
        (contextLength < this.config.maxContextLength
          ? `, or load the model with a context length of up to ${this.config.maxContextLength}`
          : ''),
      { details: { neededTokens: needed, contextLength, maxContextLength: this.config.maxContextLength } },
    )
  }
}

function eosTokenIdsOf({ config, tokenizer }: LoadedModelOptions): readonly number[] {
  if (config.eosTokenIds.length > 0 || tokenizer?.eosToken === undefined) return config.eosTokenIds
  const id = tokenizer.tokenId(tokenizer.eosToken)
  return id === undefined ? [] : [id]
}

function disposed(): SpillwayError {
  return new SpillwayError('SPILLWAY_DISPOSED', 'this model has been disposed; load it again')
}
