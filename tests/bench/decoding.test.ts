// The checks that a decoding benchmark makes of itself, and the wrong measurements that they must find.
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { Decoding } from '../../bench/lib/decoding.mjs'
import { checkOnloads, checkReplays, checkTokens } from '../../bench/lib/decoding-checks.mjs'
import { inModelDirectory, modelShape } from '../../bench/lib/model-shape.mjs'
import { Recorder } from '../../bench/lib/recorder.mjs'
import { configure, prefetch } from '../../bench/lib/spillway.mjs'

// The real thing, as tests see it: built packages would get half of their imports from the sources.
vi.mock('../../bench/lib/spillway.mjs', async () => ({
  ...(await import('@spillway/core')),
  ...(await import('@spillway/decoder')),
  ...(await import('@spillway/device')),
  prefetch: (await import('@spillway/prefetch')).default,
}))

const { signal } = new AbortController()
const context = { device: 'host', quick: true, signal, progress: () => {} } as const
const shape = modelShape(context)

function passed(check: (recorder: Recorder) => void): boolean {
  const recorder = new Recorder('decoding')
  check(recorder)
  const { checks } = recorder.result()
  expect(checks).toHaveLength(1)
  return checks[0]!.passed
}

describe('decoding', () => {
  let resident: Decoding
  let offloaded: Decoding
  beforeAll(async () => {
    await inModelDirectory(shape, async (directory) => {
      resident = await Decoding.open(context, shape, directory)
      offloaded = await Decoding.open(context, shape, directory, { offload: configure(prefetch, { groupSize: 1 }) })
    })
    for (const decoding of [resident, offloaded]) expect(await decoding.sample()).toBeGreaterThan(0)
  })
  afterAll(() => Promise.all([resident.dispose(), offloaded.dispose()]))

  test('that offloads is told from one that does not', () => {
    expect(passed((recorder) => checkOnloads(recorder, 'offloaded', offloaded))).toBe(true)
    expect(passed((recorder) => checkOnloads(recorder, 'resident', resident))).toBe(false)
  })

  test('that brings in all but one layer for a token is found', () => {
    const { model, sampled } = offloaded
    const { offloadedBytes, slotBytes } = model.stats()
    const most = slotBytes * sampled.samples
    for (const [missing, expected] of [
      [most, true],
      [most + 1, false],
      [sampled.tokens * (offloadedBytes / 6), false],
    ] as const) {
      const less = { model, sampled: { ...sampled, onloadedBytes: sampled.tokens * offloadedBytes - missing } }
      expect(passed((recorder) => checkOnloads(recorder, 'less', less as Decoding))).toBe(expected)
    }
  })

  test('that computes fewer tokens than it counts is found', () => {
    const { model, sampled } = resident
    expect(model.decodeGraph.graph).toBe(true)
    expect(passed((recorder) => checkReplays(recorder, 'resident', resident))).toBe(true)
    const skipped = { model, sampled: { ...sampled, graphLaunches: sampled.graphLaunches - 1 } }
    expect(passed((recorder) => checkReplays(recorder, 'skipped', skipped as Decoding))).toBe(false)
  })

  test('with other weights is told by its tokens', () => {
    const { tokens } = resident
    expect(tokens.length).toBeGreaterThan(shape.sampleTokens)
    expect(passed((recorder) => checkTokens(recorder, 'same', offloaded.tokens, tokens))).toBe(true)
    expect(
      passed((recorder) => checkTokens(recorder, 'one differs', tokens.with(-1, tokens.at(-1)! + 1), tokens)),
    ).toBe(false)
    expect(passed((recorder) => checkTokens(recorder, 'none', [], tokens))).toBe(false)
  })

  test('starts anew when its context is full, and gives the same text', async () => {
    const first = resident.tokens.slice(0, shape.sampleTokens)
    for (let i = 0; i < shape.contextLength / shape.sampleTokens; i++) await resident.sample()
    expect(resident.tokens.slice(0, shape.sampleTokens)).toEqual(first)
    expect(resident.tokens.length).toBeLessThanOrEqual(shape.contextLength - shape.promptTokens)
  })
})
