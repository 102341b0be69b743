import { SpillwayError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { type GenerationResult, type GenerationSteps, RunningGeneration } from '../src/generation.js'

const result: GenerationResult = {
  finishReason: 'length',
  promptTokens: 1,
  generatedTokens: 3,
  timings: { prefillMs: 1, decodeTokensPerSecond: 1 },
}

/** Three steps that note when they begin and when they let go. */
function start(log: string[], signals: AbortSignal[] = [], failAt?: number): RunningGeneration {
  async function* steps(): GenerationSteps {
    log.push('begin')
    try {
      for (let i = 0; i < 3; i++) {
        await new Promise((resolve) => setImmediate(resolve))
        if (i === failAt) throw new Error('broken')
        yield { text: String(i), tokens: [i] }
      }
      return result
    } finally {
      log.push('end')
    }
  }
  return new RunningGeneration(
    () => ({ steps: steps(), progress: () => ({ ...result, finishReason: 'cancelled' as const }) }),
    signals.map((signal, i) => ({
      signal,
      error: (cause) => new SpillwayError(`SPILLWAY_STOP_${i}`, 'stopped', { cause }),
    })),
  )
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

describe('RunningGeneration', () => {
  test('gives its steps, then its result', async () => {
    const log: string[] = []
    const generation = start(log)
    expect(log).toEqual([])
    const texts: string[] = []
    for await (const { text } of generation) texts.push(text)
    expect(texts).toEqual(['0', '1', '2'])
    expect(await generation.result).toBe(result)
    expect(await generation.next()).toEqual({ done: true, value: undefined })
    expect(log).toEqual(['begin', 'end'])
  })

  test('leaving the loop lets go at once and is no failure', async () => {
    const log: string[] = []
    const generation = start(log)
    for await (const _ of generation) break
    expect(log).toEqual(['begin', 'end'])
    expect((await generation.result).finishReason).toBe('cancelled')
  })

  test('an abort between two steps lets go though nobody asks for the next', async () => {
    const log: string[] = []
    const abort = new AbortController()
    const generation = start(log, [abort.signal])
    await generation.next()
    abort.abort('reason')
    await settle()
    expect(log).toEqual(['begin', 'end'])
    await expect(generation.next()).rejects.toMatchObject({ code: 'SPILLWAY_STOP_0', cause: 'reason' })
    await expect(generation.result).rejects.toMatchObject({ code: 'SPILLWAY_STOP_0' })
    expect(await generation.next()).toMatchObject({ done: true })
  })

  test('an abort within a step comes out of it or of the next', async () => {
    const log: string[] = []
    const abort = new AbortController()
    const generation = start(log, [abort.signal])
    const step = generation.next()
    abort.abort()
    expect(await step).toMatchObject({ value: { text: '0' } })
    await expect(generation.next()).rejects.toMatchObject({ code: 'SPILLWAY_STOP_0' })
    expect(log).toEqual(['begin', 'end'])
  })

  test('the first of several signals decides; one that had fired before runs nothing', async () => {
    const [first, second] = [new AbortController(), new AbortController()]
    const log: string[] = []
    second.abort()
    const generation = start(log, [first.signal, second.signal])
    first.abort()
    await expect(generation.next()).rejects.toMatchObject({ code: 'SPILLWAY_STOP_1' })
    expect(log).toEqual([])
  })

  test('a failing step fails the result, and aborting afterwards changes nothing', async () => {
    const abort = new AbortController()
    const generation = start([], [abort.signal], 1)
    await generation.next()
    await expect(generation.next()).rejects.toThrow('broken')
    abort.abort()
    await expect(generation.result).rejects.toThrow('broken')
    expect(await generation.next()).toMatchObject({ done: true })
  })
})
