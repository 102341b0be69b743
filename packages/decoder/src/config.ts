import { join } from 'node:path'
import { type DType, printable, SpillwayError } from '@spillway/core'
import { configFileName, flag, integer, invalid, number, tokenIds, unsupported } from './config-values.js'
import { type JsonObject, member, readJsonObject } from './json-file.js'
import { type ModelFamily, modelFamilyOf } from './model-family.js'
import { type RotaryEmbedding, rotaryEmbeddingOf } from './rotary-embedding.js'
import { type SlidingWindows, slidingWindowsOf } from './sliding-window.js'

/** The dtypes a model's weights may have. */
export type WeightDType = Extract<DType, 'f32' | 'f16' | 'bf16'>

/** What the engine needs of a config.json; every number is checked and bounded. */
export interface DecoderConfig {
  /** The family: `llama`, `mistral`, `qwen2` or `qwen3`. */
  readonly modelType: string
  /** undefined: the file does not say, the checkpoint decides. */
  readonly dtype: WeightDType | undefined
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  /** Divides `heads`. */
  readonly kvHeads: number
  /** Even; not always `hiddenSize / heads`. */
  readonly headDim: number
  /** `max_position_embeddings`: the longest sequence the model was made for. */
  readonly maxContextLength: number
  readonly rmsNormEps: number
  readonly rope: RotaryEmbedding
  /** The projections of q, k and v have a bias. */
  readonly qkvBias: boolean
  /** Each head of q and k is normalized before its rotation. */
  readonly qkNorm: boolean
  readonly slidingWindows: SlidingWindows
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | undefined
  readonly eosTokenIds: readonly number[]
}

const generationFileName = 'generation_config.json'
const dtypes: ReadonlyMap<string, WeightDType> = new Map([
  ['float32', 'f32'],
  ['float16', 'f16'],
  ['bfloat16', 'bf16'],
])

/**
 * Above any model there is. Sizes are multiplied before anything is allocated: with these bounds no product of them
 * leaves the integers a double can hold, so a hostile file cannot make a small number out of a huge one.
 */
const limits = Object.freeze({
  vocabSize: 2 ** 22,
  hiddenSize: 2 ** 17,
  intermediateSize: 2 ** 19,
  layers: 2 ** 9,
  heads: 2 ** 12,
  // Of the attention kernel.
  headDim: 256,
  /** heads × headDim */
  attentionSize: 2 ** 17,
  contextLength: 2 ** 23,
})

/**
 * Reads config.json, in the spelling of transformers 4 or 5, and the end-of-sequence tokens of generation_config.json
 * where there is one. Throws SPILLWAY_DECODER_CONFIG, SPILLWAY_DECODER_ARCHITECTURE, SPILLWAY_DECODER_DTYPE or
 * SPILLWAY_DECODER_UNSUPPORTED, naming the key, its value and what is supported.
 */
export async function readConfig(directory: string): Promise<DecoderConfig> {
  const file = { code: 'SPILLWAY_DECODER_CONFIG', limitBytes: 2 ** 20 }
  const json = await readJsonObject(join(directory, configFileName), file)
  if (json === undefined) {
    throw new SpillwayError(
      'SPILLWAY_DECODER_CONFIG',
      `${printable(directory)} has no ${configFileName}; pass a model directory as transformers saves it`,
      { details: { directory } },
    )
  }
  const generation = await readJsonObject(join(directory, generationFileName), file)
  return parseConfig(json, generation)
}

export function parseConfig(json: JsonObject, generation: JsonObject = {}): DecoderConfig {
  const family = modelFamilyOf(json)
  refuseUnsupportedFeatures(json, family)
  const hiddenSize = integer(json, 'hidden_size', 1, limits.hiddenSize)
  const heads = integer(json, 'num_attention_heads', 1, limits.heads)
  const kvHeads = kvHeadsOf(json, family, heads)
  if (heads % kvHeads !== 0) {
    throw invalid('num_key_value_heads', kvHeads, `must divide num_attention_heads, which is ${heads}`)
  }
  const headDim = integer(json, 'head_dim', 1, limits.headDim, family.defaults.headDim ?? hiddenSize / heads)
  if (headDim % 2 !== 0) throw invalid('head_dim', headDim, 'must be even, because rotary embedding turns pairs')
  if (heads * headDim > limits.attentionSize) {
    throw invalid('head_dim', headDim, `must be at most ${limits.attentionSize} with ${heads} heads together`)
  }
  const vocabSize = integer(json, 'vocab_size', 1, limits.vocabSize)
  const layers = integer(json, 'num_hidden_layers', 1, limits.layers)
  const { contextLength } = limits
  return Object.freeze({
    modelType: family.modelType,
    dtype: dtypeOf(json),
    vocabSize,
    hiddenSize,
    intermediateSize: integer(json, 'intermediate_size', 1, limits.intermediateSize),
    layers,
    heads,
    kvHeads,
    headDim,
    maxContextLength: integer(json, 'max_position_embeddings', 1, contextLength, family.defaults.contextLength),
    rmsNormEps: number(json, 'rms_norm_eps', Number.MIN_VALUE, 1, 1e-6),
    rope: rotaryEmbeddingOf(json, contextLength),
    qkvBias: family.qkvBias,
    qkNorm: family.qkNorm,
    slidingWindows: Object.freeze(slidingWindowsOf(json, family, { layers, maxWindow: contextLength })),
    tieWordEmbeddings: flag(json, 'tie_word_embeddings'),
    bosTokenId: tokenIds(json, 'bos_token_id', vocabSize)[0],
    eosTokenIds: eosTokenIdsOf(json, generation, vocabSize),
  })
}

/** What would be computed wrongly, in silence, if it were ignored. */
function refuseUnsupportedFeatures(json: JsonObject, family: ModelFamily): void {
  const activation = member(json, 'hidden_act') ?? 'silu'
  if (activation !== 'silu') throw unsupported('hidden_act', activation, 'silu')
  // Where the family has biases of its own, transformers does not read the key.
  if (!family.qkvBias && flag(json, 'attention_bias')) throw unsupported('attention_bias', true, 'false')
  if (flag(json, 'mlp_bias')) throw unsupported('mlp_bias', true, 'false')
  const quantization = member(json, 'quantization_config') ?? null
  if (quantization !== null) throw unsupported('quantization_config', quantization, 'null')
}

/** A key that is null means as many as heads, in every family. */
function kvHeadsOf(json: JsonObject, family: ModelFamily, heads: number): number {
  const fallback = member(json, 'num_key_value_heads') === null ? heads : (family.defaults.kvHeads ?? heads)
  return integer(json, 'num_key_value_heads', 1, heads, fallback)
}

function dtypeOf(json: JsonObject): WeightDType | undefined {
  const key = member(json, 'dtype') === undefined ? 'torch_dtype' : 'dtype'
  const value = member(json, key)
  if (value === undefined || value === null) return undefined
  const dtype = typeof value === 'string' ? dtypes.get(value.replace(/^torch\./, '')) : undefined
  if (dtype !== undefined) return dtype
  throw new SpillwayError(
    'SPILLWAY_DECODER_DTYPE',
    `${configFileName} says ${key} ${printable(value)}; this engine runs weights of ${[...dtypes.keys()].join(', ')}`,
    { details: { key, value, supported: [...dtypes.keys()] } },
  )
}

/** generation_config.json wins: chat models list their end-of-turn tokens only there. */
function eosTokenIdsOf(json: JsonObject, generation: JsonObject, vocabSize: number): readonly number[] {
  const listed = tokenIds(generation, 'eos_token_id', vocabSize, generationFileName)
  return listed.length > 0 ? listed : tokenIds(json, 'eos_token_id', vocabSize)
}
