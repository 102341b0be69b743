import { isSpillwayError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../src/config.js'
import { inverseFrequencies, type RotaryEmbedding, rotaryEmbeddingOf } from '../src/rotary-embedding.js'
import { expectedNumbers, fixture } from './fixtures.js'

const contextLimit = 2 ** 23
const ropeOf = (json: Record<string, unknown>): RotaryEmbedding => rotaryEmbeddingOf(json, contextLimit)

// As released with Llama 3.1.
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
}
const parsedLlama3 = {
  theta: 500_000,
  scaling: { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192 },
}

describe('the spellings', () => {
  test('of transformers 5', () => {
    expect(ropeOf({ rope_parameters: { rope_theta: 1e6, rope_type: 'default' } })).toEqual({
      theta: 1e6,
      scaling: { type: 'default' },
    })
    expect(ropeOf({ rope_parameters: { ...llama3, rope_theta: 500_000 } })).toEqual(parsedLlama3)
    expect(ropeOf({ rope_parameters: { rope_type: 'linear', factor: 2.5 } })).toEqual({
      theta: 10_000,
      scaling: { type: 'linear', factor: 2.5 },
    })
  })

  test('of transformers 4', () => {
    expect(ropeOf({})).toEqual({ theta: 10_000, scaling: { type: 'default' } })
    expect(ropeOf({ rope_theta: 5e5, rope_scaling: null }).theta).toBe(5e5)
    expect(ropeOf({ rope_theta: 500_000, rope_scaling: llama3 })).toEqual(parsedLlama3)
    expect(ropeOf({ rope_scaling: { type: 'linear', factor: 4 } }).scaling).toEqual({ type: 'linear', factor: 4 })
    // Releases between the two wrote both.
    expect(ropeOf({ rope_scaling: { type: 'linear', rope_type: 'linear', factor: 4 } }).scaling.type).toBe('linear')
  })

  test('both at once, when they agree', () => {
    const both = { rope_theta: 500_000, rope_scaling: llama3, rope_parameters: { ...llama3 } }
    expect(ropeOf(both)).toEqual(parsedLlama3)
  })
})

test.each([
  [
    { rope_parameters: { rope_type: 'yarn', factor: 4 } },
    'UNSUPPORTED',
    'rope_parameters.rope_type "yarn"; this engine supports default, linear, llama3',
  ],
  [{ rope_scaling: { type: 'dynamic', factor: 4 } }, 'UNSUPPORTED', 'rope_scaling.rope_type "dynamic"'],
  [{ rope_scaling: { rope_type: 'constructor' } }, 'UNSUPPORTED', '"constructor"'],
  [{ rope_scaling: { rope_type: 7 } }, 'UNSUPPORTED', 'rope_type 7'],
  [{ rope_parameters: { partial_rotary_factor: 0.5 } }, 'UNSUPPORTED', 'partial_rotary_factor 0.5'],
  [{ partial_rotary_factor: 0.5 }, 'UNSUPPORTED', 'partial_rotary_factor 0.5'],
  [{ rope_parameters: { full_attention: { rope_theta: 1e4 } } }, 'UNSUPPORTED', 'one rotary embedding for all layers'],
  [{ rope_parameters: 'yarn' }, 'CONFIG', 'rope_parameters'],
  [{ rope_scaling: [] }, 'CONFIG', 'must be an object or null'],
  [{ rope_parameters: { rope_type: 'default' }, rope_scaling: llama3 }, 'CONFIG', 'contradicts rope_parameters'],
  [{ rope_theta: 1e4, rope_parameters: { rope_theta: 2e4 } }, 'CONFIG', 'contradicts'],
  [{ rope_theta: -1 }, 'CONFIG', 'rope_theta'],
  [{ rope_theta: '10000' }, 'CONFIG', 'rope_theta'],
  [{ rope_scaling: { type: 'linear' } }, 'CONFIG', 'factor in config.json is missing'],
  [{ rope_scaling: { type: 'linear', factor: 0 } }, 'CONFIG', 'factor in config.json is 0'],
  [{ rope_scaling: { type: 'linear', factor: 1e300 } }, 'CONFIG', 'factor'],
  [{ rope_scaling: { ...llama3, factor: 0.5 } }, 'CONFIG', 'factor in config.json is 0.5'],
  [{ rope_scaling: { ...llama3, low_freq_factor: 0 } }, 'CONFIG', 'low_freq_factor'],
  [{ rope_scaling: { ...llama3, high_freq_factor: 1 } }, 'CONFIG', 'must be above low_freq_factor, 1'],
  [{ rope_scaling: { ...llama3, original_max_position_embeddings: undefined } }, 'CONFIG', 'is missing'],
  [
    { rope_scaling: { ...llama3, original_max_position_embeddings: 8192.5 } },
    'CONFIG',
    'original_max_position_embeddings',
  ],
  [
    { rope_scaling: { ...llama3, original_max_position_embeddings: 2 ** 40 } },
    'CONFIG',
    'original_max_position_embeddings',
  ],
])('refuses %j', (json, code, part) => {
  try {
    ropeOf(json)
  } catch (error) {
    if (!isSpillwayError(error)) throw error
    expect(error.code).toBe(`SPILLWAY_DECODER_${code}`)
    expect(error.message).toContain(part)
    return
  }
  throw new Error('was accepted')
})

/** Largest relative difference. */
function distance(actual: Float32Array, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  return Math.max(...actual.map((value, i) => Math.abs(value / (expected[i] as number) - 1)))
}

describe('inverse frequencies', () => {
  test.each(['llama3-bf16', 'llama-f16-linear'] as const)('of %s are those of transformers', async (name) => {
    const { rope, headDim } = await readConfig(fixture(name))
    const { inverseFrequency } = await expectedNumbers(name)
    // Powers in f32 may be off by the last bit.
    expect(distance(inverseFrequencies(rope, headDim), inverseFrequency as Float32Array)).toBeLessThan(2 ** -22)
  })

  test('of Llama 3.1, against their definition in float64', () => {
    const plain = Array.from({ length: 64 }, (_, i) => 500_000 ** (-i / 64))
    expect(distance(inverseFrequencies({ theta: 500_000, scaling: { type: 'default' } }, 128), plain)).toBeLessThan(
      3e-7,
    )
    const kinds = { kept: 0, blended: 0, divided: 0 }
    const expected = plain.map((frequency) => {
      const wavelength = (2 * Math.PI) / frequency
      if (wavelength < 8192 / 4) {
        kinds.kept++
        return frequency
      }
      if (wavelength > 8192) {
        kinds.divided++
        return frequency / 8
      }
      kinds.blended++
      const smooth = (8192 / wavelength - 1) / (4 - 1)
      return ((1 - smooth) * frequency) / 8 + smooth * frequency
    })
    expect(kinds).toEqual({ kept: 29, blended: 6, divided: 29 })
    expect(
      distance(inverseFrequencies(ropeOf({ rope_theta: 500_000, rope_scaling: llama3 }), 128), expected),
    ).toBeLessThan(2e-6)
  })

  test('divided by a linear factor', () => {
    const scaled = inverseFrequencies({ theta: 10_000, scaling: { type: 'linear', factor: 4 } }, 16)
    const plain = inverseFrequencies({ theta: 10_000, scaling: { type: 'default' } }, 16)
    expect([...scaled]).toEqual([...plain].map((frequency) => frequency / 4))
  })
})
