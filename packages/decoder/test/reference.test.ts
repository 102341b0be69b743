import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { LoadModelOptions } from '../src/load-model.js'
import { expectedNumbers, type FixtureName, fixture, fixtureJson, fixtureNames, withDirectory } from './fixtures.js'
import { hostLayers } from './host-layers.js'
import { expectSameGreedy, worstError } from './reference.js'
import { withModel } from './with-device.js'

async function expectReference(
  name: FixtureName,
  tolerance: number,
  options: Omit<LoadModelOptions, 'device'>,
): Promise<void> {
  const expected = await expectedNumbers(name)
  await withModel(fixture(name), options, async (model) => {
    expect(worstError(await model.logits(expected.tokens), expected.logits)).toBeLessThanOrEqual(tolerance)
    await expectSameGreedy(model, expected, tolerance)
  })
}

describe.each(fixtureNames)('%s against Hugging Face transformers', (name) => {
  test('fp32 cache: logits within 1e-4, the same greedy tokens', async () => {
    await expectReference(name, 1e-4, { kvCacheDtype: 'f32' })
  })

  test('the prompt read a few tokens at a time', async () => {
    // 24 or 71 tokens: whole chunks, a chunk that is cut, and one token at a time.
    for (const maxRows of [1, 5, 8]) await expectReference(name, 1e-4, { kvCacheDtype: 'f32', maxRows })
  })

  test('a cache of the weights’ dtype', async () => {
    await expectReference(name, name.includes('f32') ? 1e-4 : 2e-2, { kvCacheDtype: 'auto' })
  })

  test('layers offloaded', async () => {
    await expectReference(name, 1e-4, { kvCacheDtype: 'f32', offload: hostLayers([]) })
  })
})

const asLlama = { model_type: 'llama', architectures: ['LlamaForCausalLM'], use_sliding_window: false }
const plainRope = { rope_parameters: null, rope_scaling: null, rope_theta: 10_000 }

// A fixture whose feature makes no difference would prove nothing.
test.each<[FixtureName, string, Record<string, unknown>]>([
  ['mistral-bf16', 'no window', { sliding_window: null }],
  ['mistral-bf16', 'a window one shorter', { sliding_window: 12 }],
  ['qwen2-bf16', 'no bias', { ...asLlama, sliding_window: null }],
  ['qwen2-f16-window', 'no windows', { use_sliding_window: false }],
  ['qwen2-f16-window', 'a window on every layer', { max_window_layers: 0 }],
  ['qwen3-bf16-tied', 'no norm of q and k', { ...asLlama, sliding_window: null, layer_types: null }],
  ['qwen3-f32-window', 'windows on other layers', { layer_types: null, max_window_layers: 1 }],
  ['llama3-bf16', 'no scaling', plainRope],
  ['llama3-bf16', 'another scaling', { ...plainRope, rope_scaling: { type: 'linear', factor: 8 } }],
  ['llama-f16-linear', 'no scaling', plainRope],
])('%s with %s is found out', async (name, _, change) => {
  const files = Object.fromEntries(
    await Promise.all(
      ['config.json', 'model.safetensors'].map(async (file) => [file, await readFile(join(fixture(name), file))]),
    ),
  ) as Record<string, Uint8Array>
  const config = { ...(await fixtureJson(name, 'config.json')), ...change }
  const { tokens, logits } = await expectedNumbers(name)
  await withDirectory({ ...files, 'config.json': JSON.stringify(config) }, (directory) =>
    withModel(directory, { kvCacheDtype: 'f32' }, async (model) => {
      expect(worstError(await model.logits(tokens), logits)).toBeGreaterThan(0.05)
    }),
  )
})

test('a vocabulary too large for the logits of all rows at once', async () => {
  // 4 MiB of logits hold 13 rows of it.
  const config = { ...(await fixtureJson('llama-f32', 'config.json')), vocab_size: 80_021 }
  await withDirectory({ 'config.json': JSON.stringify(config) }, async (directory) => {
    const tokens = Array.from({ length: 30 }, (_, i) => (i * 2671) % 80_021)
    const logits = async (maxRows: number): Promise<Float32Array[]> =>
      withModel(directory, { loadFormat: 'dummy', maxRows }, (model) => model.logits(tokens))
    expect(worstError(await logits(30), await logits(1))).toBeLessThan(1e-5)
  })
})

test('the comparison itself finds an error of one logit', async () => {
  const { logits } = await expectedNumbers('llama-f32')
  const wrong = logits.map((row) => row.slice())
  const scale = Math.max(...logits[3]!.map(Math.abs))
  wrong[3]![7]! += 2e-4 * scale
  expect(worstError(wrong, logits)).toBeGreaterThan(1e-4)
  wrong[3]![7] = Number.NaN
  expect(worstError(wrong, logits)).toBe(Number.POSITIVE_INFINITY)
})
