import { contiguousStride, type ModuleSpec, type ParameterSpec, type ParameterUse } from '@spillway/core'
import type { DecoderConfig, WeightDType } from './config.js'

/** Names of the modules, in the order of the forward. */
export const embeddingName = 'model.embed_tokens'
export const normName = 'model.norm'
export const headName = 'lm_head'
export function layerName(index: number): string {
  return `model.layers.${index}`
}

/**
 * Every part of a model as a module, before a byte of it is read. Module name, '.', parameter name is the
 * tensor's name in the checkpoint. Matrices are [outputs, inputs].
 */
export function moduleSpecs(config: DecoderConfig, dtype: WeightDType): ModuleSpec[] {
  const { vocabSize, hiddenSize, layers } = config
  const parameter = (name: string, shape: readonly number[], use: ParameterUse): ParameterSpec => ({
    name,
    dtype,
    shape,
    stride: contiguousStride(shape),
    use,
  })
  const vocabulary = [vocabSize, hiddenSize]
  const head = parameter('weight', vocabulary, 'linear')
  return [
    { name: embeddingName, order: 0, role: 'embedding', parameters: [parameter('weight', vocabulary, 'gather')] },
    ...Array.from({ length: layers }, (_, index): ModuleSpec => {
      return { name: layerName(index), order: 1 + index, role: 'layer', parameters: layerParameters(config, parameter) }
    }),
    { name: normName, order: layers + 1, role: 'norm', parameters: [parameter('weight', [hiddenSize], 'other')] },
    {
      name: headName,
      order: layers + 2,
      role: 'head',
      parameters: [config.tieWordEmbeddings ? { ...head, tiedTo: `${embeddingName}.weight` } : head],
    },
  ]
}

function layerParameters(
  { hiddenSize, intermediateSize, heads, kvHeads, headDim, qkvBias, qkNorm }: DecoderConfig,
  parameter: (name: string, shape: readonly number[], use: ParameterUse) => ParameterSpec,
): ParameterSpec[] {
  const linear = (name: string, outputs: number, inputs: number) => parameter(name, [outputs, inputs], 'linear')
  const vector = (name: string, length: number) => parameter(name, [length], 'other')
  const biases = [
    vector('self_attn.q_proj.bias', heads * headDim),
    vector('self_attn.k_proj.bias', kvHeads * headDim),
    vector('self_attn.v_proj.bias', kvHeads * headDim),
  ]
  const headNorms = [vector('self_attn.q_norm.weight', headDim), vector('self_attn.k_norm.weight', headDim)]
  return [
    vector('input_layernorm.weight', hiddenSize),
    linear('self_attn.q_proj.weight', heads * headDim, hiddenSize),
    linear('self_attn.k_proj.weight', kvHeads * headDim, hiddenSize),
    linear('self_attn.v_proj.weight', kvHeads * headDim, hiddenSize),
    ...(qkvBias ? biases : []),
    ...(qkNorm ? headNorms : []),
    linear('self_attn.o_proj.weight', hiddenSize, heads * headDim),
    vector('post_attention_layernorm.weight', hiddenSize),
    linear('mlp.gate_proj.weight', intermediateSize, hiddenSize),
    linear('mlp.up_proj.weight', intermediateSize, hiddenSize),
    linear('mlp.down_proj.weight', hiddenSize, intermediateSize),
  ]
}
