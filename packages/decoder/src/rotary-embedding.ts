import { isDeepStrictEqual } from 'node:util'
import { printable } from '@spillway/core'
import { integer, invalid, number, unsupported } from './config-values.js'
import { isJsonObject, type JsonObject, member } from './json-file.js'

/** How the frequencies differ from those the model was first trained with. */
export type RopeScaling = { readonly type: 'default' } | LinearScaling | Llama3Scaling

/** Every frequency is divided by `factor` (Chen et al., "Extending Context Window … via Position Interpolation", 2023). */
interface LinearScaling {
  readonly type: 'linear'
  readonly factor: number
}

/**
 * As Llama 3.1 was released: a frequency that turns less than `lowFrequencyFactor` times within the original context is
 * divided by `factor`, one that turns more than `highFrequencyFactor` times is kept, one between is a blend of both.
 */
interface Llama3Scaling {
  readonly type: 'llama3'
  readonly factor: number
  readonly lowFrequencyFactor: number
  readonly highFrequencyFactor: number
  /** Tokens. */
  readonly originalContextLength: number
}

export interface RotaryEmbedding {
  readonly theta: number
  readonly scaling: RopeScaling
}

// transformers warns below 1 and computes all the same; no released model stretches positions.
const factorLimit = 2 ** 20

const scalings: Readonly<Record<RopeScaling['type'], (rope: JsonObject, contextLimit: number) => RopeScaling>> = {
  default: () => ({ type: 'default' }),
  linear: (rope) => ({ type: 'linear', factor: number(rope, 'factor', 1, factorLimit) }),
  llama3(rope, contextLimit) {
    const lowFrequencyFactor = number(rope, 'low_freq_factor', 2 ** -20, factorLimit)
    const highFrequencyFactor = number(rope, 'high_freq_factor', 2 ** -20, factorLimit)
    if (highFrequencyFactor <= lowFrequencyFactor) {
      throw invalid('high_freq_factor', highFrequencyFactor, `must be above low_freq_factor, ${lowFrequencyFactor}`)
    }
    return {
      type: 'llama3',
      factor: number(rope, 'factor', 1, factorLimit),
      lowFrequencyFactor,
      highFrequencyFactor,
      originalContextLength: integer(rope, 'original_max_position_embeddings', 1, contextLimit),
    }
  },
}

/**
 * Of `rope_parameters`, as transformers 5 writes it, or of `rope_theta` and `rope_scaling` (null for none), as 4 did.
 * Throws SPILLWAY_DECODER_CONFIG, SPILLWAY_DECODER_UNSUPPORTED.
 */
export function rotaryEmbeddingOf(json: JsonObject, contextLimit: number): RotaryEmbedding {
  const { key, value: rope } = ropeOf(json)
  // Some files of transformers 5 have one set of parameters for each type of layer.
  const nested = Object.entries(rope).find(([, parameters]) => isJsonObject(parameters))
  if (nested !== undefined) throw unsupported(`${key}.${nested[0]}`, nested[1], 'one rotary embedding for all layers')
  for (const [name, partial] of [
    ['partial_rotary_factor', member(json, 'partial_rotary_factor')],
    [`${key}.partial_rotary_factor`, member(rope, 'partial_rotary_factor')],
  ] as const) {
    if ((partial ?? 1) !== 1) throw unsupported(name, partial, '1')
  }
  const type = member(rope, 'rope_type') ?? member(rope, 'type') ?? 'default'
  const known = Object.keys(scalings)
  if (typeof type !== 'string' || !known.includes(type)) {
    throw unsupported(`${key}.rope_type`, type, known.join(', '))
  }
  return Object.freeze({
    theta: thetaOf(json, rope),
    scaling: Object.freeze(scalings[type as RopeScaling['type']](rope, contextLimit)),
  })
}

function ropeOf(json: JsonObject): { key: string; value: JsonObject } {
  const stated = ['rope_parameters', 'rope_scaling'].flatMap((key) => {
    const value = member(json, key)
    if (value === undefined || value === null) return []
    if (!isJsonObject(value)) throw invalid(key, value, 'must be an object or null')
    return [{ key, value }]
  })
  const [first, second] = stated
  if (first !== undefined && second !== undefined && !isDeepStrictEqual(first.value, second.value)) {
    throw invalid(second.key, second.value, `contradicts ${first.key}, which is ${printable(first.value)}`)
  }
  return first ?? { key: 'rope_scaling', value: {} }
}

function thetaOf(json: JsonObject, rope: JsonObject): number {
  const outer = member(json, 'rope_theta') ?? undefined
  const inner = member(rope, 'rope_theta') ?? undefined
  if (outer !== undefined && inner !== undefined && outer !== inner) {
    throw invalid('rope_theta', outer, `contradicts rope_parameters.rope_theta, which is ${printable(inner)}`)
  }
  return number({ rope_theta: inner ?? outer }, 'rope_theta', 1, 1e12, 10_000)
}

/**
 * Radians per position of pair i: theta^(-2i / headDim) (Su et al., "RoFormer", 2021), scaled. Rounded to f32 at each
 * step, as transformers computes it: far into a long context, a frequency that differs in its last bit is another angle.
 */
export function inverseFrequencies({ theta, scaling }: RotaryEmbedding, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = f32(1 / f32(f32(theta) ** f32((2 * i) / headDim)))
    return scaled(frequency, scaling)
  })
}

const f32 = Math.fround

function scaled(frequency: number, scaling: RopeScaling): number {
  switch (scaling.type) {
    case 'default':
      return frequency
    case 'linear':
      return f32(frequency / f32(scaling.factor))
    case 'llama3': {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength } = scaling
      const turns = f32(originalContextLength / f32(f32(2 * Math.PI) / frequency))
      if (turns > high) return frequency
      if (turns < low) return f32(frequency / f32(factor))
      const kept = f32(f32(turns - low) / (high - low))
      return f32(f32(f32(f32(1 - kept) * frequency) / f32(factor)) + f32(kept * frequency))
    }
  }
}
