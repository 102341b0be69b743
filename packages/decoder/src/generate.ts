import { printable, SpillwayError, throwIfAborted } from '@spillway/core'
import type { Evaluator } from './evaluator.js'
import type { FinishReason, GeneratedStep, GenerateOptions, GenerationResult, GenerationSteps } from './generation.js'
import { Sampler } from './sampler.js'
import { TextStream } from './text-stream.js'
import type { Tokenizer } from './tokenizer.js'
import type { TurnQueue } from './turn-queue.js'

export interface GenerateContext {
  readonly evaluator: Evaluator
  readonly queue: TurnQueue
  readonly contextLength: number
  /** Absent: the text is always ''. */
  readonly tokenizer: Tokenizer | undefined
  readonly eosTokenIds: ReadonlySet<number>
}

const stopCountLimit = 64
const stopLengthLimit = 1024

/**
 * One generation, one token per step. `prompt`: token ids, checked, shorter than the context. Throws
 * SPILLWAY_INVALID_OPTION before anything runs; the steps throw SPILLWAY_ABORTED when `signal` fires.
 */
export function generateSteps(
  context: GenerateContext,
  prompt: readonly number[],
  options: GenerateOptions,
  signal: AbortSignal,
): { readonly steps: GenerationSteps; readonly progress: () => GenerationResult } {
  const progress = new Progress(prompt.length)
  const sampler = new Sampler(options)
  const text = new TextStream(checkedStop(options.stop ?? [], context.tokenizer))
  const maxTokens = checkedMaxTokens(options.maxTokens)
  const { evaluator, queue, contextLength, tokenizer, eosTokenIds } = context

  const finishReason = (token: number): FinishReason | undefined => {
    if (eosTokenIds.has(token)) return 'eos'
    if (text.stopped !== undefined) return 'stop'
    if (progress.generatedTokens >= maxTokens) return 'length'
    return prompt.length + progress.generatedTokens >= contextLength ? 'context' : undefined
  }

  async function* run(): GenerationSteps {
    await queue.enter(signal, 'waiting to generate')
    let last: GeneratedStep
    try {
      progress.start()
      evaluator.reset()
      const tokens = [...prompt]
      for (;;) {
        const token = sampler.sample(await evaluator.advance(tokens, signal))
        tokens.push(token)
        progress.add()
        const bytes = tokenizer === undefined || tokenizer.isSpecial(token) ? undefined : tokenizer.bytesOf(token)
        const piece = bytes === undefined ? '' : text.push(bytes)
        progress.finishReason = finishReason(token)
        if (progress.finishReason !== undefined) {
          last = { text: piece + text.flush(), tokens: [token] }
          break
        }
        yield { text: piece, tokens: [token] }
        throwIfAborted(signal, 'generating')
      }
      // Bytes held back may have become text of a stop string only now.
      progress.stopString = text.stopped
    } finally {
      queue.leave()
    }
    // After leaving: whoever stops reading at the last token must not keep the model from others.
    yield last
    return progress.result()
  }

  return { steps: run(), progress: () => progress.result() }
}

/** How far a generation is, and how fast it went. */
class Progress {
  generatedTokens = 0
  finishReason: FinishReason | undefined
  stopString: string | undefined
  readonly #promptTokens: number
  #startMs = 0
  #firstMs = 0
  #lastMs = 0

  constructor(promptTokens: number) {
    this.#promptTokens = promptTokens
  }

  start(): void {
    this.#startMs = performance.now()
  }

  add(): void {
    this.#lastMs = performance.now()
    if (this.generatedTokens++ === 0) this.#firstMs = this.#lastMs
  }

  result(): GenerationResult {
    const decoded = this.generatedTokens - 1
    const decodeMs = this.#lastMs - this.#firstMs
    return {
      finishReason: this.finishReason ?? 'cancelled',
      ...(this.stopString === undefined ? {} : { stopString: this.stopString }),
      promptTokens: this.#promptTokens,
      generatedTokens: this.generatedTokens,
      timings: {
        prefillMs: this.generatedTokens === 0 ? 0 : this.#firstMs - this.#startMs,
        decodeTokensPerSecond: decoded > 0 && decodeMs > 0 ? (decoded * 1000) / decodeMs : 0,
      },
    }
  }
}

function checkedMaxTokens(value: number | undefined): number {
  if (value === undefined) return Number.POSITIVE_INFINITY
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw invalid('maxTokens', value, 'a whole number of at least 1')
}

function checkedStop(stop: readonly string[], tokenizer: Tokenizer | undefined): readonly string[] {
  const rule = `a list of at most ${stopCountLimit} texts of 1 to ${stopLengthLimit} characters`
  if (!Array.isArray(stop) || stop.length > stopCountLimit) throw invalid('stop', stop, rule)
  for (const text of stop as readonly unknown[]) {
    // Half a surrogate pair could match in the middle of a character.
    if (typeof text !== 'string' || text === '' || text.length > stopLengthLimit || /\p{Surrogate}/u.test(text)) {
      throw invalid('stop', text, rule)
    }
  }
  if (stop.length > 0 && tokenizer === undefined) throw noTokenizer('stop strings')
  return stop
}

export function noTokenizer(what: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_NO_TOKENIZER',
    `${what} need a tokenizer, but the model's directory has no tokenizer.json; add it, or work with token ids`,
  )
}

function invalid(option: string, value: unknown, rule: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_OPTION', `${option} is ${rule}; got ${printable(value)}`, {
    details: { option, value },
  })
}
