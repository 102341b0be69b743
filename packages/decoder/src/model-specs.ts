import { contiguousStride, type ModuleSpec, type ParameterSpec, type ParameterUse } from '@spillway/core'
import type { LlamaConfig, WeightDType } from './config.js'

/** Names of the modules, in the order of the forward. */
export const embeddingName = 'model.embed_tokens'
export const normName = 'model.norm'
export const headName = 'lm_head'
export function layerName(index: number): string {
  return `model.layers.${index}`
}

/**
 * Every part of a Llama-style model as a module, before a byte of it is read. Module name, '.', parameter name is the
 * tensor's name in the checkpoint. Matrices are [outputs, inputs].
 */
export function moduleSpecs(config: LlamaConfig, dtype: WeightDType): ModuleSpec[] {
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
  { hiddenSize, intermediateSize, heads, kvHeads, headDim }: LlamaConfig,
  parameter: (name: string, shape: readonly number[], use: ParameterUse) => ParameterSpec,
): ParameterSpec[] {
  const linear = (name: string, outputs: number, inputs: number) => parameter(name, [outputs, inputs], 'linear')
  return [
    parameter('input_layernorm.weight', [hiddenSize], 'other'),
    linear('self_attn.q_proj.weight', heads * headDim, hiddenSize),
    linear('self_attn.k_proj.weight', kvHeads * headDim, hiddenSize),
    linear('self_attn.v_proj.weight', kvHeads * headDim, hiddenSize),
    linear('self_attn.o_proj.weight', hiddenSize, heads * headDim),
    parameter('post_attention_layernorm.weight', [hiddenSize], 'other'),
    linear('mlp.gate_proj.weight', intermediateSize, hiddenSize),
    linear('mlp.up_proj.weight', intermediateSize, hiddenSize),
    linear('mlp.down_proj.weight', hiddenSize, intermediateSize),
  ]
}
