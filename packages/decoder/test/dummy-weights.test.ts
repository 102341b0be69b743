// loadFormat 'dummy': weights from config.json alone.
import { expect, test } from 'vitest'
import type { LoadModelOptions } from '../src/load-model.js'
import { loadModel } from '../src/load-model.js'
import { fixtureJson, withDirectory } from './fixtures.js'
import { hostLayers } from './host-layers.js'
import { withDevice, withModel } from './with-device.js'

const config = async (change: Record<string, unknown>): Promise<Record<string, string>> => ({
  'config.json': JSON.stringify({ ...(await fixtureJson('llama-f32', 'config.json')), ...change }),
})
const logits = async (
  change: Record<string, unknown>,
  options: Omit<LoadModelOptions, 'device'>,
): Promise<Float32Array[]> =>
  withDirectory(await config(change), (directory) =>
    withModel(directory, { loadFormat: 'dummy', ...options }, async (model) => {
      expect(model.tokenizer).toBeUndefined()
      return await model.logits([0, 5, 6, 7])
    }),
  )

test.each(['float32', 'float16', 'bfloat16'])(
  '%s: from config.json alone, the same for a seed, of a sensible size',
  async (dtype) => {
    const first = await logits({ dtype }, { dummySeed: 1 })
    expect(await logits({ dtype }, { dummySeed: 1 })).toEqual(first)
    expect(await logits({ dtype }, { dummySeed: 2 })).not.toEqual(first)
    for (const row of first) {
      expect(row.every(Number.isFinite)).toBe(true)
      const deviation = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length)
      // Norms of 1 and matrices of 1/sqrt(inputs): logits of about 1.
      expect(deviation).toBeGreaterThan(0.5)
      expect(deviation).toBeLessThan(2)
    }
    expect(first[0]).not.toEqual(first[1])
  },
)

test.each([
  { model_type: 'mistral', architectures: ['MistralForCausalLM'], sliding_window: 2 },
  { model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'] },
  { model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'] },
])('of $model_type', async (change) => {
  const rows = await logits(change, {})
  for (const row of rows) {
    const deviation = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length)
    expect(deviation).toBeGreaterThan(0.5)
    expect(deviation).toBeLessThan(2)
  }
  expect(rows).not.toEqual(await logits({}, {}))
})

test('without a tokenizer, for who needs one: refused before anything has memory', async () => {
  await withDirectory(await config({}), (directory) =>
    withDevice(async (device) => {
      const options = { device, loadFormat: 'dummy', requireTokenizer: true } as const
      await expect(loadModel(directory, options)).rejects.toMatchObject({ code: 'SPILLWAY_DECODER_NO_TOKENIZER' })
      expect(device.budget.peakBytes).toBe(0)
      const wrong = { ...options, requireTokenizer: 'yes' as unknown as boolean }
      await expect(loadModel(directory, wrong)).rejects.toMatchObject({ code: 'SPILLWAY_INVALID_OPTION' })
    }),
  )
})

test('are the same in every dtype, but for rounding, and wherever they lie', async () => {
  const [f32, f16, bf16] = await Promise.all(
    ['float32', 'float16', 'bfloat16'].map((dtype) => logits({ dtype }, { kvCacheDtype: 'f32' })),
  )
  for (const [i, row] of f32!.entries()) {
    for (const [j, value] of row.entries()) {
      expect(Math.abs(f16![i]![j]! - value)).toBeLessThan(0.02)
      expect(Math.abs(bf16![i]![j]! - value)).toBeLessThan(0.15)
    }
  }
  expect(await logits({}, { offload: hostLayers([]) })).toEqual(await logits({}, {}))
})

test('of a tied model, and of one whose matrices are longer than the pattern', async () => {
  const rows = await logits({ tie_word_embeddings: true, vocab_size: 20_011, intermediate_size: 5003 }, {})
  expect(rows[3]).toHaveLength(20_011)
  expect(new Set(rows[3]).size).toBeGreaterThan(10_000)
})
