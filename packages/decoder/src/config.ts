import { join } from 'node:path'
import { type DType, didYouMean, printable, SpillwayError } from '@spillway/core'
import { isJsonObject, type JsonObject, member, readJsonObject } from './json-file.js'

/** The dtypes a model's weights may have. */
export type WeightDType = Extract<DType, 'f32' | 'f16' | 'bf16'>

/** What the engine needs of a config.json; every number is checked and bounded. */
export interface LlamaConfig {
  /** As in the file: `llama` or `mistral`. */
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
  readonly ropeTheta: number
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | undefined
  readonly eosTokenIds: readonly number[]
}

const fileName = 'config.json'
const generationFileName = 'generation_config.json'
const architectures = ['LlamaForCausalLM', 'MistralForCausalLM']
const modelTypes = ['llama', 'mistral']
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
export async function readConfig(directory: string): Promise<LlamaConfig> {
  const file = { code: 'SPILLWAY_DECODER_CONFIG', limitBytes: 2 ** 20 }
  const json = await readJsonObject(join(directory, fileName), file)
  if (json === undefined) {
    throw new SpillwayError(
      'SPILLWAY_DECODER_CONFIG',
      `${printable(directory)} has no ${fileName}; pass a model directory as transformers saves it`,
      { details: { directory } },
    )
  }
  const generation = await readJsonObject(join(directory, generationFileName), file)
  return parseConfig(json, generation)
}

export function parseConfig(json: JsonObject, generation: JsonObject = {}): LlamaConfig {
  refuseUnknownArchitecture(json)
  refuseUnsupportedFeatures(json)
  const hiddenSize = integer(json, 'hidden_size', 1, limits.hiddenSize)
  const heads = integer(json, 'num_attention_heads', 1, limits.heads)
  const kvHeads = integer(json, 'num_key_value_heads', 1, heads, heads)
  if (heads % kvHeads !== 0) {
    throw invalid('num_key_value_heads', kvHeads, `must divide num_attention_heads, which is ${heads}`)
  }
  const headDim = integer(json, 'head_dim', 1, limits.headDim, hiddenSize / heads)
  if (headDim % 2 !== 0) throw invalid('head_dim', headDim, 'must be even, because rotary embedding turns pairs')
  if (heads * headDim > limits.attentionSize) {
    throw invalid('head_dim', headDim, `must be at most ${limits.attentionSize} with ${heads} heads together`)
  }
  const vocabSize = integer(json, 'vocab_size', 1, limits.vocabSize)
  return Object.freeze({
    modelType: String(member(json, 'model_type') ?? modelTypes[0]),
    dtype: dtypeOf(json),
    vocabSize,
    hiddenSize,
    intermediateSize: integer(json, 'intermediate_size', 1, limits.intermediateSize),
    layers: integer(json, 'num_hidden_layers', 1, limits.layers),
    heads,
    kvHeads,
    headDim,
    maxContextLength: integer(json, 'max_position_embeddings', 1, limits.contextLength, 2048),
    rmsNormEps: number(json, 'rms_norm_eps', Number.MIN_VALUE, 1, 1e-6),
    ropeTheta: ropeThetaOf(json),
    tieWordEmbeddings: flag(json, 'tie_word_embeddings'),
    bosTokenId: tokenIds(json, 'bos_token_id', vocabSize)[0],
    eosTokenIds: eosTokenIdsOf(json, generation, vocabSize),
  })
}

function refuseUnknownArchitecture(json: JsonObject): void {
  const listed = member(json, 'architectures')
  const architecture = Array.isArray(listed) ? (listed[0] as unknown) : undefined
  const modelType = member(json, 'model_type')
  const refused = (key: string, value: unknown, known: readonly string[]): SpillwayError =>
    new SpillwayError(
      'SPILLWAY_DECODER_ARCHITECTURE',
      `${fileName} says ${key} ${printable(value)}; this engine runs ${known.join(' and ')}` +
        (typeof value === 'string' ? didYouMean(value, known) : ''),
      { details: { key, value, supported: known } },
    )
  if (architecture === undefined && modelType === undefined) throw refused('model_type', modelType, modelTypes)
  if (listed !== undefined && listed !== null && !architectures.some((known) => known === architecture)) {
    throw refused('architectures', architecture ?? listed, architectures)
  }
  if (modelType !== undefined && !modelTypes.some((known) => known === modelType)) {
    throw refused('model_type', modelType, modelTypes)
  }
}

/** What would be computed wrongly, in silence, if it were ignored. */
function refuseUnsupportedFeatures(json: JsonObject): void {
  const activation = member(json, 'hidden_act') ?? 'silu'
  if (activation !== 'silu') throw unsupported('hidden_act', activation, 'silu')
  for (const key of ['attention_bias', 'mlp_bias']) {
    if (flag(json, key)) throw unsupported(key, true, 'false')
  }
  for (const key of ['sliding_window', 'quantization_config']) {
    const value = member(json, key)
    if (value !== undefined && value !== null) throw unsupported(key, value, 'null')
  }
  const factor = number(json, 'partial_rotary_factor', 0, 1, 1)
  if (factor !== 1) throw unsupported('partial_rotary_factor', factor, '1')
  const rope = ropeOf(json)
  const ropeType =
    rope.value === undefined ? 'default' : (member(rope.value, 'rope_type') ?? member(rope.value, 'type') ?? 'default')
  if (ropeType !== 'default') throw unsupported(`${rope.key}.rope_type`, ropeType, 'default')
  const ropeFactor = rope.value === undefined ? undefined : member(rope.value, 'partial_rotary_factor')
  if (ropeFactor !== undefined && ropeFactor !== 1)
    throw unsupported(`${rope.key}.partial_rotary_factor`, ropeFactor, '1')
}

/** transformers 5 writes `rope_parameters`, 4 wrote `rope_scaling` (null for none) beside `rope_theta`. */
function ropeOf(json: JsonObject): { key: string; value: JsonObject | undefined } {
  for (const key of ['rope_parameters', 'rope_scaling']) {
    const value = member(json, key)
    if (value === undefined || value === null) continue
    if (!isJsonObject(value)) throw invalid(key, value, 'must be an object or null')
    return { key, value }
  }
  return { key: 'rope_scaling', value: undefined }
}

function ropeThetaOf(json: JsonObject): number {
  const outer = member(json, 'rope_theta')
  const inner = ropeOf(json).value
  const innerTheta = inner === undefined ? undefined : member(inner, 'rope_theta')
  if (outer !== undefined && innerTheta !== undefined && outer !== innerTheta) {
    throw invalid('rope_theta', outer, `contradicts rope_parameters.rope_theta, which is ${printable(innerTheta)}`)
  }
  return number({ rope_theta: innerTheta ?? outer }, 'rope_theta', 1, 1e12, 10_000)
}

function dtypeOf(json: JsonObject): WeightDType | undefined {
  const key = member(json, 'dtype') === undefined ? 'torch_dtype' : 'dtype'
  const value = member(json, key)
  if (value === undefined || value === null) return undefined
  const dtype = typeof value === 'string' ? dtypes.get(value.replace(/^torch\./, '')) : undefined
  if (dtype !== undefined) return dtype
  throw new SpillwayError(
    'SPILLWAY_DECODER_DTYPE',
    `${fileName} says ${key} ${printable(value)}; this engine runs weights of ${[...dtypes.keys()].join(', ')}`,
    { details: { key, value, supported: [...dtypes.keys()] } },
  )
}

/** generation_config.json wins: chat models list their end-of-turn tokens only there. */
function eosTokenIdsOf(json: JsonObject, generation: JsonObject, vocabSize: number): readonly number[] {
  const listed = tokenIds(generation, 'eos_token_id', vocabSize, generationFileName)
  return listed.length > 0 ? listed : tokenIds(json, 'eos_token_id', vocabSize)
}

function tokenIds(json: JsonObject, key: string, vocabSize: number, file = fileName): readonly number[] {
  const value = member(json, key)
  if (value === undefined || value === null) return []
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (list.length > 1024) throw invalid(key, value, 'may list at most 1024 tokens', file)
  return list.map((id) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw invalid(key, id, `must be a token id from 0 to ${vocabSize - 1}`, file)
    }
    return id
  })
}

function integer(json: JsonObject, key: string, min: number, max: number, fallback?: number): number {
  const value = member(json, key) ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `must be an integer from ${min} to ${max}`)
  }
  return value
}

function number(json: JsonObject, key: string, min: number, max: number, fallback: number): number {
  const value = member(json, key) ?? fallback
  if (typeof value !== 'number' || !(value >= min && value <= max)) {
    throw invalid(key, value, `must be a number from ${min} to ${max}`)
  }
  return value
}

function flag(json: JsonObject, key: string): boolean {
  const value = member(json, key) ?? false
  if (typeof value !== 'boolean') throw invalid(key, value, 'must be true or false')
  return value
}

function invalid(key: string, value: unknown, rule: string, file = fileName): SpillwayError {
  const found = value === undefined ? 'is missing' : `is ${printable(value)}`
  return new SpillwayError('SPILLWAY_DECODER_CONFIG', `${key} in ${file} ${found}, but it ${rule}; check the file`, {
    details: { file, key, value },
  })
}

function unsupported(key: string, value: unknown, supported: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_UNSUPPORTED',
    `${fileName} says ${key} ${printable(value)}; this engine supports ${supported} only, so choose another model`,
    { details: { key, value, supported } },
  )
}
