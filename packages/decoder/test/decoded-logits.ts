import { vi } from 'vitest'
import { Evaluator } from '../src/evaluator.js'
import type { GenerateOptions } from '../src/generation.js'
import type { Model } from '../src/model.js'

export interface Decoded {
  readonly tokens: readonly number[]
  /** What each token was chosen from, f32 [vocab]. */
  readonly logits: readonly Float32Array[]
}

/** A greedy generation, and the logits that generate() keeps to itself. One at a time. */
export async function decode(
  model: Pick<Model, 'generate'>,
  prompt: readonly number[],
  options: GenerateOptions,
  onToken: (count: number) => void | Promise<void> = () => {},
): Promise<Decoded> {
  const advance = vi.spyOn(Evaluator.prototype, 'advance')
  try {
    const tokens: number[] = []
    for await (const step of model.generate(prompt, { temperature: 0, ...options })) {
      tokens.push(...step.tokens)
      await onToken(tokens.length)
    }
    return {
      tokens,
      logits: await Promise.all(advance.mock.results.map(({ value }) => value as Promise<Float32Array>)),
    }
  } finally {
    advance.mockRestore()
  }
}
