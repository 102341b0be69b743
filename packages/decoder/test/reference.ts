import { expect } from 'vitest'
import type { Model } from '../src/model.js'
import { type ExpectedNumbers, greedyPromptTokens } from './fixtures.js'

/** Largest error of a position's logits, relative to the largest absolute logit expected there; the worst position. */
export function worstError(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  expect(actual.map((row) => row.length)).toEqual(expected.map((row) => row.length))
  const errors = expected.map((row, i) => {
    const scale = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
    // A NaN must not slip through Math.max.
    return row.reduce((max, value, j) => {
      const error = Math.abs(actual[i]![j]! - value) / scale
      return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(max, error)
    }, 0)
  })
  return Math.max(...errors)
}

async function greedy(model: Pick<Model, 'generate'>, prompt: readonly number[], maxTokens: number): Promise<number[]> {
  const tokens: number[] = []
  for await (const step of model.generate(prompt, { maxTokens })) tokens.push(...step.tokens)
  return tokens
}

/**
 * The reference's greedy tokens wherever its margin is above 4 × tolerance. A step below that may go either way, and
 * then another text follows: so the reference's token is taken there, and generation starts anew behind it.
 */
export async function expectSameGreedy(
  model: Pick<Model, 'generate'>,
  expected: ExpectedNumbers,
  tolerance: number,
): Promise<void> {
  const certain = expected.greedy.map((_, i) => expected.greedyMargins[i]! > 4 * tolerance * expected.greedyMax[i]!)
  let compared = 0
  for (let from = 0; from < expected.greedy.length; ) {
    if (!certain[from]) {
      from++
      continue
    }
    const uncertain = certain.indexOf(false, from)
    const to = uncertain < 0 ? certain.length : uncertain
    const prompt = [...expected.tokens.slice(0, greedyPromptTokens), ...expected.greedy.slice(0, from)]
    expect(await greedy(model, prompt, to - from)).toEqual(expected.greedy.slice(from, to))
    compared += to - from
    from = to
  }
  // Not a comparison of nothing.
  expect(compared).toBeGreaterThanOrEqual(expected.greedy.length / 4)
}
