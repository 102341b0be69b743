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
  const { advance } = Evaluator.prototype
  const logits: Float32Array[] = []
  const spy = vi.spyOn(Evaluator.prototype, 'advance').mockImplementation(async function (this: Evaluator, ...args) {
    const row = await advance.apply(this, args)
    // The next call writes there again.
    logits.push(row.slice())
    return row
  })
  try {
    const tokens: number[] = []
    for await (const step of model.generate(prompt, { temperature: 0, ...options })) {
      tokens.push(...step.tokens)
      await onToken(tokens.length)
    }
    return { tokens, logits }
  } finally {
    spy.mockRestore()
  }
}
