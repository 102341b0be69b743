import { didYouMean, printable, SpillwayError } from '@spillway/core'
import { configFileName, invalid } from './config-values.js'
import { type JsonObject, member } from './json-file.js'

/** What tells one family of models from another: everything else they have in common. */
export interface ModelFamily {
  /** Of config.json's `model_type`. */
  readonly modelType: string
  /** Of config.json's `architectures`. */
  readonly architecture: string
  /** Projections of q, k and v have a bias, whatever the file says. */
  readonly qkvBias: boolean
  /** Each head of q and k is normalized before its rotation. */
  readonly qkNorm: boolean
  /** Which layers a `sliding_window` is for: none, all, or those that `use_sliding_window` and its companions name. */
  readonly slidingWindow: 'none' | 'every layer' | 'named layers'
  /** What transformers takes for a key that config.json does not have. */
  readonly defaults: {
    /** undefined: as many as query heads. */
    readonly kvHeads: number | undefined
    /** undefined: hidden_size / num_attention_heads. */
    readonly headDim: number | undefined
    readonly contextLength: number
  }
}

// Source: the configuration and attention classes of Hugging Face transformers 5.17.
const families: readonly ModelFamily[] = [
  {
    modelType: 'llama',
    architecture: 'LlamaForCausalLM',
    qkvBias: false,
    qkNorm: false,
    slidingWindow: 'none',
    defaults: { kvHeads: undefined, headDim: undefined, contextLength: 2048 },
  },
  {
    modelType: 'mistral',
    architecture: 'MistralForCausalLM',
    qkvBias: false,
    qkNorm: false,
    slidingWindow: 'every layer',
    defaults: { kvHeads: 8, headDim: undefined, contextLength: 131_072 },
  },
  {
    modelType: 'qwen2',
    architecture: 'Qwen2ForCausalLM',
    qkvBias: true,
    qkNorm: false,
    slidingWindow: 'named layers',
    defaults: { kvHeads: 32, headDim: undefined, contextLength: 32_768 },
  },
  {
    modelType: 'qwen3',
    architecture: 'Qwen3ForCausalLM',
    qkvBias: false,
    qkNorm: true,
    slidingWindow: 'named layers',
    defaults: { kvHeads: 32, headDim: 128, contextLength: 32_768 },
  },
]

/** The family that `model_type` and `architectures` name. Throws SPILLWAY_DECODER_ARCHITECTURE, SPILLWAY_DECODER_CONFIG. */
export function modelFamilyOf(json: JsonObject): ModelFamily {
  const listed = member(json, 'architectures') ?? undefined
  const modelType = member(json, 'model_type') ?? undefined
  const architecture: unknown = Array.isArray(listed) ? listed[0] : undefined
  const byType = families.find((family) => family.modelType === modelType)
  const byArchitecture = families.find((family) => family.architecture === architecture)
  if (listed !== undefined && byArchitecture === undefined) {
    const known = families.map((family) => family.architecture)
    throw unknown('architectures', architecture ?? listed, known)
  }
  if (byType === undefined && (modelType !== undefined || byArchitecture === undefined)) {
    const known = families.map((family) => family.modelType)
    throw unknown('model_type', modelType, known)
  }
  const family = (byType ?? byArchitecture) as ModelFamily
  if (byArchitecture !== undefined && byArchitecture !== family) {
    throw invalid('model_type', modelType, `contradicts architectures, which says ${printable(architecture)}`)
  }
  return family
}

function unknown(key: string, value: unknown, known: readonly string[]): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_ARCHITECTURE',
    `${configFileName} says ${key} ${printable(value)}; this engine runs ${known.join(', ')}` +
      (typeof value === 'string' ? didYouMean(value, known) : ''),
    { details: { key, value, supported: known } },
  )
}
