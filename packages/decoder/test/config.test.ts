import { execFile } from 'node:child_process'
import { mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { isSpillwayError } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseConfig, readConfig } from '../src/config.js'
import { fixture, withDirectory } from './fixtures.js'

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  dtype: 'bfloat16',
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
}

const refused = (change: Record<string, unknown>): { code: string; message: string } => {
  try {
    parseConfig({ ...llama, ...change })
  } catch (error) {
    if (isSpillwayError(error)) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('was accepted')
}

describe('readConfig', () => {
  test('the spelling of transformers 5', async () => {
    expect(await readConfig(fixture('llama-f32'))).toEqual({
      modelType: 'llama',
      dtype: 'f32',
      vocabSize: 384,
      hiddenSize: 64,
      intermediateSize: 160,
      layers: 3,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      maxContextLength: 128,
      rmsNormEps: 1e-5,
      rope: { theta: 10_000, scaling: { type: 'default' } },
      qkvBias: false,
      qkNorm: false,
      slidingWindows: [undefined, undefined, undefined],
      tieWordEmbeddings: false,
      bosTokenId: 0,
      eosTokenIds: [1],
    })
  })

  test('the spelling of transformers 4', async () => {
    expect(await readConfig(fixture('llama-bf16-tied'))).toMatchObject({
      dtype: 'bf16',
      rope: { theta: 500_000, scaling: { type: 'default' } },
      tieWordEmbeddings: true,
      heads: 3,
      kvHeads: 1,
      headDim: 32,
    })
  })

  test('generation_config.json wins on the end of a text', async () => {
    const files = {
      'config.json': JSON.stringify({ ...llama, eos_token_id: 1 }),
      'generation_config.json': JSON.stringify({ eos_token_id: [1, 7] }),
    }
    expect((await withDirectory(files, readConfig)).eosTokenIds).toEqual([1, 7])
    const hostile = { ...files, 'generation_config.json': '{"eos_token_id": 100}' }
    await expect(withDirectory(hostile, readConfig)).rejects.toMatchObject({
      code: 'SPILLWAY_DECODER_CONFIG',
      message: expect.stringContaining('generation_config.json'),
    })
  })

  test.each([
    ['no file', {}],
    ['not JSON', { 'config.json': '{"vocab_size": ' }],
    ['no object', { 'config.json': '[1, 2]' }],
    ['no UTF-8', { 'config.json': Uint8Array.of(0x7b, 0xff, 0x7d) }],
    ['a megabyte and more', { 'config.json': ' '.repeat(2 ** 20 + 1) }],
  ])('%s', async (_, files: Record<string, string | Uint8Array>) => {
    await expect(withDirectory(files, readConfig)).rejects.toMatchObject({
      code: 'SPILLWAY_DECODER_CONFIG',
      message: expect.stringContaining(files['config.json'] === undefined ? 'has no config.json' : '/config.json"'),
    })
  })
})

test('what is no file is refused, and not waited for', async () => {
  await withDirectory({}, async (directory) => {
    const path = join(directory, 'config.json')
    for (const make of [
      () => mkdir(path),
      () => symlink('/dev/zero', path),
      () => promisify(execFile)('mkfifo', [path]),
      () => symlink('/proc/self/maps', path),
    ]) {
      await make()
      await expect(readConfig(directory)).rejects.toMatchObject({ code: 'SPILLWAY_DECODER_CONFIG' })
      await rm(path, { recursive: true })
    }
  })
})

describe('parseConfig', () => {
  test('what may be left out', () => {
    expect(parseConfig(llama)).toMatchObject({
      kvHeads: 4,
      headDim: 16,
      maxContextLength: 2048,
      rmsNormEps: 1e-6,
      rope: { theta: 10_000, scaling: { type: 'default' } },
      tieWordEmbeddings: false,
      bosTokenId: undefined,
      eosTokenIds: [],
    })
    expect(parseConfig({ ...llama, dtype: undefined }).dtype).toBeUndefined()
    expect(parseConfig({ ...llama, dtype: 'torch.float16' }).dtype).toBe('f16')
  })

  test.each([
    [{ model_type: 'mixtral' }, 'SPILLWAY_DECODER_ARCHITECTURE', 'model_type "mixtral"'],
    [{ architectures: ['LlamaForSequenceClassification'] }, 'SPILLWAY_DECODER_ARCHITECTURE', 'LlamaForCausalLM'],
    [{ architectures: [] }, 'SPILLWAY_DECODER_ARCHITECTURE', 'architectures'],
    [{ architectures: undefined, model_type: undefined }, 'SPILLWAY_DECODER_ARCHITECTURE', 'model_type'],
    [
      { dtype: 'float8_e4m3fn' },
      'SPILLWAY_DECODER_DTYPE',
      '"float8_e4m3fn"; this engine runs weights of float32, float16, bfloat16',
    ],
    [{ dtype: undefined, torch_dtype: 7 }, 'SPILLWAY_DECODER_DTYPE', 'torch_dtype 7'],
    [{ hidden_act: 'gelu' }, 'SPILLWAY_DECODER_UNSUPPORTED', 'hidden_act "gelu"'],
    [{ attention_bias: true }, 'SPILLWAY_DECODER_UNSUPPORTED', 'attention_bias true'],
    [{ mlp_bias: true }, 'SPILLWAY_DECODER_UNSUPPORTED', 'mlp_bias true'],
    [{ quantization_config: { quant_method: 'awq' } }, 'SPILLWAY_DECODER_UNSUPPORTED', 'awq'],
    [{ num_key_value_heads: 3 }, 'SPILLWAY_DECODER_CONFIG', 'must divide num_attention_heads, which is 4'],
    [{ num_key_value_heads: 8 }, 'SPILLWAY_DECODER_CONFIG', 'from 1 to 4'],
    [{ head_dim: 17 }, 'SPILLWAY_DECODER_CONFIG', 'even'],
    [{ hidden_size: 66 }, 'SPILLWAY_DECODER_CONFIG', 'head_dim in config.json is 16.5'],
    [{ vocab_size: undefined }, 'SPILLWAY_DECODER_CONFIG', 'vocab_size in config.json is missing'],
    [{ vocab_size: '100' }, 'SPILLWAY_DECODER_CONFIG', 'vocab_size in config.json is "100"'],
    [{ vocab_size: 1e300 }, 'SPILLWAY_DECODER_CONFIG', 'vocab_size'],
    [{ hidden_size: -64 }, 'SPILLWAY_DECODER_CONFIG', 'hidden_size in config.json is -64'],
    [{ num_hidden_layers: 0 }, 'SPILLWAY_DECODER_CONFIG', 'num_hidden_layers'],
    [{ num_hidden_layers: 2 ** 40 }, 'SPILLWAY_DECODER_CONFIG', 'from 1 to 512'],
    [{ max_position_embeddings: 0.5 }, 'SPILLWAY_DECODER_CONFIG', 'max_position_embeddings'],
    [{ rms_norm_eps: 0 }, 'SPILLWAY_DECODER_CONFIG', 'rms_norm_eps'],
    [{ tie_word_embeddings: 'yes' }, 'SPILLWAY_DECODER_CONFIG', 'must be true or false'],
    [{ eos_token_id: -1 }, 'SPILLWAY_DECODER_CONFIG', 'eos_token_id in config.json is -1'],
    [{ bos_token_id: 'a' }, 'SPILLWAY_DECODER_CONFIG', 'bos_token_id'],
  ])('refuses %j', (change, code, part) => {
    const error = refused(change)
    expect(error.code).toBe(code)
    expect(error.message).toContain(part)
    expect(error.message.length).toBeLessThan(400)
  })

  test('keys of Object.prototype are no keys of the file', () => {
    const config = JSON.parse(`{"__proto__": {"hidden_act": "gelu"}, ${JSON.stringify(llama).slice(1)}`) as Record<
      string,
      unknown
    >
    expect(parseConfig(config).vocabSize).toBe(100)
  })

  test('any JSON gives a configuration within the bounds or a coded error', () => {
    const shape = ['head_dim', 'eos_token_id', 'rms_norm_eps']
    const rope = ['rope_parameters', 'rope_scaling', 'rope_theta']
    const windows = ['sliding_window', 'use_sliding_window', 'max_window_layers', 'layer_types']
    const keys = [...Object.keys(llama), ...shape, ...rope, ...windows]
    const families = ['llama', 'mistral', 'qwen2', 'qwen3']
    fc.assert(
      fc.property(
        fc.constantFrom(...families),
        fc.subarray(keys, { minLength: 1 }),
        fc.array(fc.jsonValue(), { minLength: 20, maxLength: 20 }),
        (family, chosen, values) => {
          const change = Object.fromEntries(chosen.map((key, i) => [key, values[i]]))
          try {
            const base = { ...llama, model_type: family, architectures: null, num_key_value_heads: 2 }
            const config = parseConfig({ ...base, ...change })
            expect(config.slidingWindows.length).toBe(config.layers)
            const bytes =
              config.vocabSize * config.hiddenSize * 4 +
              config.layers * config.hiddenSize * config.intermediateSize * 12
            expect(Number.isSafeInteger(bytes) && bytes > 0).toBe(true)
          } catch (error) {
            expect(isSpillwayError(error)).toBe(true)
          }
        },
      ),
    )
  })
})
