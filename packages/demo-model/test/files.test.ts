import { readdirSync, readFileSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { expect, test } from 'vitest'
import { demoModelMetadata, modelDirectory } from '../src/index.js'

interface TensorEntry {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

const directory = modelDirectory()

function json(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(directory, name), 'utf8'))
}

function tensors(): { entries: Map<string, TensorEntry>; dataBytes: number } {
  const bytes = readFileSync(join(directory, 'model.safetensors'))
  const headerBytes = Number(bytes.readBigUInt64LE(0))
  const header: Record<string, TensorEntry> = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes))
  const entries = new Map(Object.entries(header).filter(([name]) => name !== '__metadata__'))
  return { entries, dataBytes: bytes.length - 8 - headerBytes }
}

const elements = (entry: TensorEntry) => entry.shape.reduce((product, size) => product * size, 1)

test('the directory has the files transformers loads and fits into git', () => {
  expect(isAbsolute(directory)).toBe(true)
  const names = readdirSync(directory).sort()
  expect(names).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ])
  const bytes = names.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0)
  expect(bytes).toBeLessThanOrEqual(8 * 2 ** 20)
})

test('the weights are bf16, without gaps, 2 to 4 million in at least 16 layers', () => {
  const { entries, dataBytes } = tensors()
  const dtypes = new Set([...entries.values()].map((entry) => entry.dtype))
  expect([...dtypes]).toEqual(['BF16'])
  const parameters = [...entries.values()].reduce((sum, entry) => sum + elements(entry), 0)
  expect(dataBytes).toBe(2 * parameters)
  for (const entry of entries.values()) {
    expect(entry.data_offsets[1] - entry.data_offsets[0]).toBe(2 * elements(entry))
  }
  const layers = new Set([...entries.keys()].flatMap((name) => /^model\.layers\.(\d+)\./.exec(name)?.[1] ?? []))
  expect(parameters).toBeGreaterThanOrEqual(2e6)
  expect(parameters).toBeLessThanOrEqual(4e6)
  expect(layers.size).toBeGreaterThanOrEqual(16)
  expect(parameters).toBe(demoModelMetadata.parameters)
  expect(layers.size).toBe(demoModelMetadata.layers)
})

test('the configuration describes the weights', () => {
  const { entries } = tensors()
  const config = json('config.json')
  expect(config).toMatchObject({
    architectures: [demoModelMetadata.architecture],
    dtype: demoModelMetadata.dtype,
    max_position_embeddings: demoModelMetadata.contextTokens,
    num_hidden_layers: demoModelMetadata.layers,
    tie_word_embeddings: true,
  })
  const { hidden_size, head_dim, num_attention_heads, num_key_value_heads, intermediate_size, vocab_size } =
    config as Record<string, number>
  const shape = (name: string) => entries.get(name)?.shape
  expect(shape('model.embed_tokens.weight')).toEqual([vocab_size, hidden_size])
  expect(entries.has('lm_head.weight')).toBe(false)
  expect(num_key_value_heads).toBeLessThan(num_attention_heads!)
  for (let layer = 0; layer < demoModelMetadata.layers; layer++) {
    const prefix = `model.layers.${layer}`
    expect(shape(`${prefix}.self_attn.q_proj.weight`)).toEqual([num_attention_heads! * head_dim!, hidden_size])
    expect(shape(`${prefix}.self_attn.k_proj.weight`)).toEqual([num_key_value_heads! * head_dim!, hidden_size])
    expect(shape(`${prefix}.mlp.down_proj.weight`)).toEqual([hidden_size, intermediate_size])
  }
})

test('BOS and EOS are declared alike in every file', () => {
  const config = json('config.json')
  const names = json('tokenizer_config.json')
  const { added_tokens, model } = json('tokenizer.json') as {
    added_tokens: { id: number; content: string; special: boolean }[]
    model: { type: string; vocab: Record<string, number> }
  }
  expect(json('generation_config.json')).toMatchObject({
    bos_token_id: config.bos_token_id,
    eos_token_id: config.eos_token_id,
  })
  const declared = added_tokens.map(({ id, content, special }) => ({ id, content, special }))
  expect(declared).toContainEqual({ id: config.bos_token_id, content: names.bos_token, special: true })
  expect(declared).toContainEqual({ id: config.eos_token_id, content: names.eos_token, special: true })
  expect(model.type).toBe('BPE')
  expect(Object.keys(model.vocab)).toHaveLength(config.vocab_size as number)
})
