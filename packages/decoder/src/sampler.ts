import { printable, SpillwayError } from '@spillway/core'
import { Random } from './random.js'

export interface SamplingOptions {
  /** 0, the default: greedy, the token of the largest logit (the lowest id among equals). */
  readonly temperature?: number
  /** Only the `topK` most likely tokens are sampled from; 0 or absent: all. */
  readonly topK?: number
  /** Only the most likely tokens that together reach this probability; 1 or absent: all. At least one token is kept. */
  readonly topP?: number
  /** Same seed, same logits: same tokens. Absent: a new one every time. */
  readonly seed?: number
}

/**
 * Picks tokens from logits. Order of the filters: temperature, top-k, top-p, as in Hugging Face transformers, so that
 * top-p counts within what temperature and top-k left. One random number a token, whatever the filters.
 */
export class Sampler {
  readonly #temperature: number
  readonly #topK: number
  readonly #topP: number
  readonly #random: Random

  /** Throws SPILLWAY_INVALID_OPTION, naming the option. */
  constructor(options: SamplingOptions = {}) {
    this.#temperature = bounded(
      'temperature',
      options.temperature ?? 0,
      (value) => value >= 0 && value <= 100,
      'a number from 0 to 100',
    )
    this.#topK = bounded(
      'topK',
      options.topK ?? 0,
      (value) => Number.isSafeInteger(value) && value >= 0,
      'a whole number, 0 for no limit',
    )
    this.#topP = bounded(
      'topP',
      options.topP ?? 1,
      (value) => value > 0 && value <= 1,
      'a number above 0 and at most 1',
    )
    const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32)
    this.#random = new Random(bounded('seed', seed, Number.isSafeInteger, 'a whole number'))
  }

  /** `logits`: f32 [vocab], not changed. Throws SPILLWAY_DECODER_LOGITS when one of them is not a number. */
  sample(logits: Float32Array): number {
    const best = argmax(logits)
    if (this.#temperature === 0 || this.#topK === 1) return best
    const uniform = this.#random.uniform()
    const largest = logits[best] as number
    // Infinities would make NaN of every difference; there is nothing to weigh them by.
    if (!Number.isFinite(largest)) return best
    const weights = new Float64Array(logits.length)
    for (let i = 0; i < logits.length; i++) weights[i] = Math.exp(((logits[i] as number) - largest) / this.#temperature)
    if (this.#topK === 0 && this.#topP === 1) return draw(weights, undefined, uniform)
    return draw(weights, this.#kept(logits, weights), uniform)
  }

  /** Token ids, most likely first; equals by id, so that the cut does not depend on the sort. */
  #kept(logits: Float32Array, weights: Float64Array): Uint32Array {
    const least = this.#leastWeight(weights)
    const candidates = Uint32Array.from(weights.keys()).filter((token) => (weights[token] as number) >= least)
    candidates.sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    const kept = this.#topK > 0 ? candidates.subarray(0, this.#topK) : candidates
    if (this.#topP === 1) return kept
    const enough = this.#topP * sumOf(weights, this.#topK > 0 ? kept : weights.keys())
    let sum = 0
    const last = kept.findIndex((token) => {
      sum += weights[token] as number
      return sum >= enough
    })
    // Rounding may leave the sum a hair short of `enough`: then all are needed.
    return last < 0 ? kept : kept.subarray(0, last + 1)
  }

  /** No token below it is kept. Only to keep the sort short: sorting a whole vocabulary takes longer than a step. */
  #leastWeight(weights: Float64Array): number {
    if (this.#topK > 0) return weights.slice().sort()[Math.max(0, weights.length - this.#topK)] as number
    // All lighter ones together weigh less than the 1 - topP that may be left out.
    return ((1 - this.#topP) * sumOf(weights, weights.keys())) / weights.length
  }
}

/** The index of the largest logit, the lowest among equals. Throws SPILLWAY_DECODER_LOGITS at a NaN. */
export function argmax(logits: Float32Array): number {
  let best = 0
  for (let i = 0; i < logits.length; i++) {
    const value = logits[i] as number
    if (Number.isNaN(value)) {
      throw new SpillwayError(
        'SPILLWAY_DECODER_LOGITS',
        `the model computed a logit that is not a number (token ${i}): its weights are damaged, or its dtype overflows; ` +
          'download it again, or try it in bfloat16 or float32',
        { details: { token: i } },
      )
    }
    if (value > (logits[best] as number)) best = i
  }
  return best
}

/** `uniform` in [0, 1) picks among `tokens` (absent: all) in proportion to their weights. */
function draw(weights: Float64Array, tokens: Uint32Array | undefined, uniform: number): number {
  let rest = uniform * sumOf(weights, tokens ?? weights.keys())
  let chosen = 0
  for (const token of tokens ?? weights.keys()) {
    const weight = weights[token] as number
    if (weight === 0) continue
    chosen = token
    rest -= weight
    if (rest < 0) break
  }
  // Past the end only by rounding: the last token that has any weight.
  return chosen
}

function sumOf(weights: Float64Array, tokens: Iterable<number>): number {
  let sum = 0
  for (const token of tokens) sum += weights[token] as number
  return sum
}

function bounded(name: string, value: number, holds: (value: number) => boolean, rule: string): number {
  if (typeof value === 'number' && holds(value)) return value
  throw new SpillwayError('SPILLWAY_INVALID_OPTION', `${name} is ${rule}; got ${printable(value)}`, {
    details: { option: name, value },
  })
}
