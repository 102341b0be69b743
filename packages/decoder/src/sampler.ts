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
  /** Made once: a vocabulary of them is a megabyte. */
  #weights = new Float64Array(0)
  /** Of all tokens' weights, where they were needed. */
  #total: number | undefined

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
    const candidates = this.#candidates(logits, largest)
    const count = candidates?.length ?? logits.length
    const weights = this.#weigh(logits, largest, candidates)
    // Within what top-k left; without it, of the tokens too light to be kept the weight is known already.
    const kept = this.#topP === 1 ? count : enough(weights, count, this.#topP * (this.#total ?? sum(weights, count)))
    const drawn = draw(weights, kept, uniform)
    return candidates === undefined ? drawn : (candidates[drawn] as number)
  }

  /** Ids of the tokens that may be kept, most likely first, equals by id; undefined: all, by id. */
  #candidates(logits: Float32Array, largest: number): Uint32Array | undefined {
    this.#total = undefined
    if (this.#topK > 0 && this.#topK < logits.length) {
      return this.#sorted(logits, kthLargest(logits, this.#topK)).subarray(0, this.#topK)
    }
    if (this.#topP === 1) return undefined
    // All that weigh less than this, together, weigh less than the 1 - topP that may be left out. Sorting a whole
    // vocabulary takes longer than a step.
    this.#total = sum(this.#weigh(logits, largest, undefined), logits.length)
    const least = ((1 - this.#topP) * this.#total) / logits.length
    return this.#sorted(logits, largest + this.#temperature * Math.log(least))
  }

  /** Ids of the tokens whose logits are `least` or more, most likely first, equals by id. */
  #sorted(logits: Float32Array, least: number): Uint32Array {
    const ids: number[] = []
    for (let token = 0; token < logits.length; token++) if ((logits[token] as number) >= least) ids.push(token)
    return Uint32Array.from(ids).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
  }

  /** Of the `tokens`, in their order, or of all. Good until the next call. */
  #weigh(logits: Float32Array, largest: number, tokens: Uint32Array | undefined): Float64Array {
    const count = tokens?.length ?? logits.length
    if (this.#weights.length < count) this.#weights = new Float64Array(count)
    const weights = this.#weights
    for (let i = 0; i < count; i++) {
      const logit = logits[tokens === undefined ? i : (tokens[i] as number)] as number
      weights[i] = Math.exp((logit - largest) / this.#temperature)
    }
    return weights
  }
}

/** The index of the largest logit, the lowest among equals. Throws SPILLWAY_DECODER_LOGITS at a NaN. */
export function argmax(logits: Float32Array): number {
  let best = 0
  let largest = Number.NEGATIVE_INFINITY
  // Four at a time, and one comparison each that a NaN fails too: of a vocabulary of 128k, token by token took as long
  // as three layers of an 8B model on a GPU.
  for (let i = 0; i < logits.length; i += 4) {
    const end = Math.min(i + 4, logits.length)
    if (end === i + 4 && noneAbove(logits, i, largest)) continue
    for (let token = i; token < end; token++) {
      const value = logits[token] as number
      if (value <= largest) continue
      if (Number.isNaN(value)) throw notANumber(token)
      largest = value
      best = token
    }
  }
  return best
}

/** None of the four from `i` on is above `most`, or NaN. */
function noneAbove(logits: Float32Array, i: number, most: number): boolean {
  return (
    (logits[i] as number) <= most &&
    (logits[i + 1] as number) <= most &&
    (logits[i + 2] as number) <= most &&
    (logits[i + 3] as number) <= most
  )
}

function notANumber(token: number): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_LOGITS',
    `the model computed a logit that is not a number (token ${token}): its weights are damaged, or its dtype overflows; ` +
      'download it again, or try it in bfloat16 or float32',
    { details: { token } },
  )
}

/** The `k`th largest of more than `k` numbers: the least of a heap of the k largest so far. */
function kthLargest(values: Float32Array, k: number): number {
  // heap[i] is at most heap[2i + 1] and heap[2i + 2].
  const heap = values.slice(0, k).sort()
  for (let i = k; i < values.length; i++) {
    const value = values[i] as number
    if (value <= (heap[0] as number)) continue
    let at = 0
    for (;;) {
      let least = 2 * at + 1
      if (least + 1 < k && (heap[least + 1] as number) < (heap[least] as number)) least++
      if (least >= k || value <= (heap[least] as number)) break
      heap[at] = heap[least] as number
      at = least
    }
    heap[at] = value
  }
  return heap[0] as number
}

/** How many of the first `count` weights it takes to reach `wanted`. */
function enough(weights: Float64Array, count: number, wanted: number): number {
  let reached = 0
  for (let i = 0; i < count; i++) {
    reached += weights[i] as number
    if (reached >= wanted) return i + 1
  }
  // Rounding may leave the sum a hair short: then all are needed.
  return count
}

/** `uniform` in [0, 1) picks one of the first `count` in proportion to their weights. */
function draw(weights: Float64Array, count: number, uniform: number): number {
  let rest = uniform * sum(weights, count)
  let chosen = 0
  for (let i = 0; i < count; i++) {
    const weight = weights[i] as number
    if (weight === 0) continue
    chosen = i
    rest -= weight
    if (rest < 0) break
  }
  // Past the end only by rounding: the last one that has any weight.
  return chosen
}

function sum(weights: Float64Array, count: number): number {
  let total = 0
  for (let i = 0; i < count; i++) total += weights[i] as number
  return total
}

function bounded(name: string, value: number, holds: (value: number) => boolean, rule: string): number {
  if (typeof value === 'number' && holds(value)) return value
  throw new SpillwayError('SPILLWAY_INVALID_OPTION', `${name} is ${rule}; got ${printable(value)}`, {
    details: { option: name, value },
  })
}
