import { isSpillwayError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { type DecoderConfig, parseConfig, readConfig } from '../src/config.js'
import { fixture } from './fixtures.js'

const sizes = {
  dtype: 'bfloat16',
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
}
const llama = { ...sizes, model_type: 'llama', architectures: ['LlamaForCausalLM'] }
const mistral = { ...sizes, model_type: 'mistral', architectures: ['MistralForCausalLM'] }
const qwen2 = { ...sizes, model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'] }
const qwen3 = { ...sizes, model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'] }

function refused(json: Record<string, unknown>): { code: string; message: string } {
  try {
    parseConfig(json)
  } catch (error) {
    if (isSpillwayError(error)) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('was accepted')
}

const windows = (json: Record<string, unknown>): DecoderConfig['slidingWindows'] => parseConfig(json).slidingWindows
const none = [undefined, undefined, undefined]

describe('a family', () => {
  test('is what model_type says, or architectures where it is missing', () => {
    for (const json of [llama, mistral, qwen2, qwen3]) {
      expect(parseConfig(json).modelType).toBe(json.model_type)
      expect(parseConfig({ ...json, architectures: null }).modelType).toBe(json.model_type)
      expect(parseConfig({ ...json, model_type: undefined }).modelType).toBe(json.model_type)
    }
  })

  test('biases and norms belong to it', () => {
    const features = [llama, mistral, qwen2, qwen3].map((json) => {
      const { qkvBias, qkNorm } = parseConfig(json)
      return { qkvBias, qkNorm }
    })
    expect(features).toEqual([
      { qkvBias: false, qkNorm: false },
      { qkvBias: false, qkNorm: false },
      { qkvBias: true, qkNorm: false },
      { qkvBias: false, qkNorm: true },
    ])
    // transformers has the biases whatever this says.
    expect(parseConfig({ ...qwen2, attention_bias: false }).qkvBias).toBe(true)
  })

  test('says what a missing key means', () => {
    const bare = { num_attention_heads: 32, num_key_value_heads: undefined }
    const shape = (json: Record<string, unknown>) => {
      const { kvHeads, headDim, maxContextLength } = parseConfig({ ...json, ...bare })
      return [kvHeads, headDim, maxContextLength]
    }
    expect(shape(llama)).toEqual([32, 2, 2048])
    expect(shape(mistral)).toEqual([8, 2, 131_072])
    expect(shape(qwen2)).toEqual([32, 2, 32_768])
    expect(shape(qwen3)).toEqual([32, 128, 32_768])
    expect(parseConfig({ ...mistral, num_key_value_heads: null }).kvHeads).toBe(4)
    expect(parseConfig({ ...qwen3, head_dim: 20 }).headDim).toBe(20)
  })

  test.each([
    [{ ...qwen2, model_type: 'llama' }, 'SPILLWAY_DECODER_CONFIG', 'contradicts architectures, which says "Qwen2For'],
    [{ ...qwen2, model_type: 'qwen2_moe' }, 'SPILLWAY_DECODER_ARCHITECTURE', 'runs llama, mistral, qwen2, qwen3'],
    [
      { ...qwen3, architectures: ['Qwen3MoeForCausalLM'] },
      'SPILLWAY_DECODER_ARCHITECTURE',
      'runs LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM',
    ],
    [{ ...qwen3, attention_bias: true }, 'SPILLWAY_DECODER_UNSUPPORTED', 'attention_bias true'],
    [{ ...mistral, attention_bias: true }, 'SPILLWAY_DECODER_UNSUPPORTED', 'attention_bias true'],
    [{ ...mistral, num_key_value_heads: undefined }, 'SPILLWAY_DECODER_CONFIG', 'num_key_value_heads'],
  ])('refuses %j', (json, code, part) => {
    const error = refused(json)
    expect(error.code).toBe(code)
    expect(error.message).toContain(part)
  })
})

describe('a sliding window', () => {
  test('of Mistral is on every layer', () => {
    expect(windows({ ...mistral, sliding_window: 9 })).toEqual([9, 9, 9])
    expect(windows({ ...mistral, sliding_window: null })).toEqual(none)
    expect(windows(mistral)).toEqual([4096, 4096, 4096])
    expect(windows({ ...mistral, sliding_window: 9, layer_types: Array(3).fill('sliding_attention') })).toEqual([
      9, 9, 9,
    ])
  })

  test.each([
    ['Qwen2', qwen2],
    ['Qwen3', qwen3],
  ])('of %s is used when it says so, from max_window_layers on, or on the layers listed', (_, qwen) => {
    expect(windows(qwen)).toEqual(none)
    expect(windows({ ...qwen, sliding_window: 9, max_window_layers: 0 })).toEqual(none)
    expect(windows({ ...qwen, sliding_window: 0, use_sliding_window: false })).toEqual(none)
    const used = { ...qwen, use_sliding_window: true, sliding_window: 9 }
    expect(windows(used)).toEqual(none)
    expect(windows({ ...used, max_window_layers: 1 })).toEqual([undefined, 9, 9])
    expect(windows({ ...used, max_window_layers: 0, sliding_window: undefined })).toEqual([4096, 4096, 4096])
    expect(windows({ ...used, max_window_layers: 0, sliding_window: null })).toEqual(none)
    const listed = ['sliding_attention', 'full_attention', 'sliding_attention']
    expect(windows({ ...used, max_window_layers: 1, layer_types: listed })).toEqual([9, undefined, 9])
  })

  test('of Llama is none', () => {
    expect(windows(llama)).toEqual(none)
    expect(windows({ ...llama, sliding_window: null, layer_types: Array(3).fill('full_attention') })).toEqual(none)
  })

  test('of the fixtures', async () => {
    expect((await readConfig(fixture('mistral-bf16'))).slidingWindows).toEqual([13, 13, 13])
    expect((await readConfig(fixture('qwen2-bf16'))).slidingWindows).toEqual([undefined, undefined])
    expect((await readConfig(fixture('qwen2-f16-window'))).slidingWindows).toEqual([undefined, 10, 10])
    expect((await readConfig(fixture('qwen3-f32-window'))).slidingWindows).toEqual([17, undefined, 17])
  })

  test.each([
    [{ ...llama, sliding_window: 4096 }, 'SPILLWAY_DECODER_UNSUPPORTED', 'sliding_window 4096'],
    [{ ...llama, use_sliding_window: true }, 'SPILLWAY_DECODER_UNSUPPORTED', 'use_sliding_window true'],
    [{ ...mistral, sliding_window: 0 }, 'SPILLWAY_DECODER_CONFIG', 'sliding_window in config.json is 0'],
    [{ ...mistral, sliding_window: 1e300 }, 'SPILLWAY_DECODER_CONFIG', 'sliding_window'],
    [{ ...mistral, sliding_window: '9' }, 'SPILLWAY_DECODER_CONFIG', 'must be an integer'],
    [
      { ...mistral, layer_types: ['full_attention', 'sliding_attention', 'full_attention'] },
      'SPILLWAY_DECODER_UNSUPPORTED',
      'sliding_attention in all layers',
    ],
    [
      { ...llama, layer_types: Array(3).fill('sliding_attention') },
      'SPILLWAY_DECODER_UNSUPPORTED',
      'full_attention in',
    ],
    [{ ...qwen2, use_sliding_window: 'yes' }, 'SPILLWAY_DECODER_CONFIG', 'true or false'],
    [{ ...qwen2, use_sliding_window: true, sliding_window: -1 }, 'SPILLWAY_DECODER_CONFIG', 'sliding_window'],
    [{ ...qwen2, max_window_layers: 1.5 }, 'SPILLWAY_DECODER_CONFIG', 'max_window_layers'],
    [{ ...qwen3, layer_types: ['full_attention'] }, 'SPILLWAY_DECODER_CONFIG', 'must list 3 layers'],
    [{ ...qwen3, layer_types: 'full_attention' }, 'SPILLWAY_DECODER_CONFIG', 'must list 3 layers'],
    [
      { ...qwen3, layer_types: ['full_attention', 'linear_attention', 'full_attention'] },
      'SPILLWAY_DECODER_UNSUPPORTED',
      'full_attention and sliding_attention',
    ],
    [
      { ...qwen3, layer_types: Array(3).fill('sliding_attention') },
      'SPILLWAY_DECODER_CONFIG',
      'no sliding_window in use',
    ],
  ])('refuses %j', (json, code, part) => {
    const error = refused(json)
    expect(error.code).toBe(code)
    expect(error.message).toContain(part)
  })
})
