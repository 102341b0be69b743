import type { GenerateOptions, GenerationResult } from '../src/generation.js'
import type { Model } from '../src/model.js'

/** What came out of one generation, and how it ended. */
export interface Run {
  readonly text: string
  readonly pieces: string[]
  readonly tokens: number[]
  readonly result: GenerationResult
}

export async function run(
  model: Model,
  prompt: string | readonly number[],
  options: GenerateOptions = {},
): Promise<Run> {
  const pieces: string[] = []
  const tokens: number[] = []
  const generation = model.generate(prompt, options)
  for await (const step of generation) {
    pieces.push(step.text)
    tokens.push(...step.tokens)
  }
  return { text: pieces.join(''), pieces, tokens, result: await generation.result }
}
