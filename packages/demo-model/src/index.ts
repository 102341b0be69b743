import { fileURLToPath } from 'node:url'

/** What the files in `modelDirectory()` hold. */
export interface DemoModelMetadata {
  readonly architecture: 'LlamaForCausalLM'
  /** Numbers, the tied embedding counted once. */
  readonly parameters: number
  readonly layers: number
  /** The longest sequence the model was trained on, in tokens, BOS included. */
  readonly contextTokens: number
  readonly dtype: 'bfloat16'
  /** Of the weights and the tokenizer; the texts behind them are in the public domain. */
  readonly license: 'Apache-2.0'
}

export const demoModelMetadata: DemoModelMetadata = {
  architecture: 'LlamaForCausalLM',
  parameters: 3_215_488,
  layers: 16,
  contextTokens: 512,
  dtype: 'bfloat16',
  license: 'Apache-2.0',
}

/**
 * The absolute path of the folder with config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
 * generation_config.json. The same from src/ and from dist/: both lie beside model/.
 */
export function modelDirectory(): string {
  return fileURLToPath(new URL('../model', import.meta.url))
}
