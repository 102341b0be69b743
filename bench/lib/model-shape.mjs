// @ts-check
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** @import { Context } from './benchmark.ts' */

const common = { architectures: ['LlamaForCausalLM'], model_type: 'llama', dtype: 'bfloat16', hidden_act: 'silu' }

/** That of Llama 3.1 8B. */
const llama8b = {
  ...common,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 128256,
  max_position_embeddings: 131072,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  rope_scaling: {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
  tie_word_embeddings: false,
}

/** Enough for every part to be there. */
const small = {
  ...common,
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 1024,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  tie_word_embeddings: false,
}

/**
 * @typedef {object} ModelShape
 * @property {string} title
 * @property {Readonly<Record<string, unknown>>} config a config.json; without end-of-sequence tokens nothing ends early
 * @property {number} contextLength tokens of one sequence
 * @property {number} promptTokens
 * @property {number} sampleTokens decoded in one sample
 * @property {number} memoryLimitBytes device memory for the offloaded model: too small for all of it
 * @property {number} fitLimitBytes device memory for the model that is offloaded as far as it must be
 */

/**
 * @param {Context} context
 * @returns {ModelShape}
 */
export function modelShape({ device, quick }) {
  if (quick || device === 'host') {
    const title = 'a small Llama, bf16'
    const limits = { memoryLimitBytes: 6 * 2 ** 20, fitLimitBytes: 8 * 2 ** 20 }
    return { title, config: small, contextLength: 256, promptTokens: 8, sampleTokens: 8, ...limits }
  }
  const sizes = { contextLength: 1024, promptTokens: 64, sampleTokens: 8 }
  const limits = { memoryLimitBytes: 6 * 2 ** 30, fitLimitBytes: 12 * 2 ** 30 }
  return { title: 'the shape of Llama 3.1 8B, bf16', config: llama8b, ...sizes, ...limits }
}

/**
 * @param {ModelShape} shape
 * @param {number} layers
 * @returns {ModelShape}
 */
export function withLayers(shape, layers) {
  return {
    ...shape,
    title: `${layers} layers of ${shape.title}`,
    config: { ...shape.config, num_hidden_layers: layers },
  }
}

/**
 * Token ids that repeat in no short period.
 * @param {ModelShape} shape
 */
export function promptOf({ config, promptTokens }) {
  return Array.from({ length: promptTokens }, (_, i) => (i * 7919 + 1) % Number(config.vocab_size))
}

/**
 * Calls `body` with a directory that holds the config.json, and removes it after.
 * @template T
 * @param {ModelShape} shape
 * @param {(directory: string) => Promise<T>} body
 */
export async function inModelDirectory({ config }, body) {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-bench-'))
  try {
    await writeFile(join(directory, 'config.json'), JSON.stringify(config))
    return await body(directory)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
