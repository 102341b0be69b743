import { fileURLToPath } from 'node:url'
import { loadModel } from '@spillway/decoder'
import { openDevice } from '@spillway/device'
import { expect, test } from 'vitest'
import { GeneratingWorker } from './generating-worker.js'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const deviceOptions = { memoryLimitBytes: 2 ** 26, threads: 1 }
const prompts = [
  [0, 5, 6, 7],
  [0, 300, 12],
  [0, 44, 45, 46, 47],
]
const maxTokens = 24

test('two workers and the main thread generate at once, each right; one is terminated and hurts nobody', async () => {
  const device = await openDevice('host', deviceOptions)
  const model = await loadModel(directory, { device })
  const generate = async (prompt: readonly number[]): Promise<number[]> => {
    const tokens: number[] = []
    for await (const step of model.generate(prompt, { temperature: 0, maxTokens })) tokens.push(...step.tokens)
    return tokens
  }
  const alone = [await generate(prompts[0]!), await generate(prompts[1]!), await generate(prompts[2]!)]
  const prefetchOptions = { groupSize: 1, numInGroup: 1, prefetchStep: 1 }
  const start = (prompt: readonly number[], rounds: number): GeneratingWorker => {
    const text = { directory, prefetchOptions, prompt, maxTokens, rounds }
    return new GeneratingWorker({ selector: 'host', deviceOptions, ...text, ballastBytes: 0 })
  }
  for (let round = 0; round < 3; round++) {
    const doomed = start(prompts[0]!, Number.POSITIVE_INFINITY)
    const other = start(prompts[1]!, 4)
    // Both are past what comes before replays.
    await Promise.all([doomed.reach(5), other.reach(5), generate(prompts[2]!)])
    const [mine] = await Promise.all([generate(prompts[2]!), doomed.terminate()])
    expect(mine).toEqual(alone[2])
    await expect(doomed.done).rejects.toThrow('the worker ended')
    expect(doomed.tokens.slice(0, maxTokens)).toEqual(alone[0]!.slice(0, doomed.tokens.length))
    expect(await other.done).toEqual({ graphLaunches: 4 * (maxTokens - 1) - 1, usedBytes: 0 })
    expect(other.tokens).toEqual(Array(4).fill(alone[1]).flat())
  }
  expect(await generate(prompts[0]!)).toEqual(alone[0])
  await model.dispose()
  expect(device.budget.usedBytes).toBe(0)
  await device.dispose()
})
