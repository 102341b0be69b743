// Everything that can fail, one after another, while the demo model is loaded with its layers on the host, captures its
// decode step and replays it: right tokens or an error with a code, and never a handle left.
import { configure } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { type NativeDevice, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { beforeAll, expect, test, vi } from 'vitest'
import { type Decoded, decode } from '../../packages/decoder/test/decoded-logits.js'
import { rounds } from '../nightly.js'

const offload = configure(prefetch, { groupSize: 1, prefetchStep: 2 })
const prompt = [5, 6, 7]
const sizes = { contextLength: 16, maxRows: 4 } as const

const load = (device: NativeDevice, enforceEager = false): Promise<Model> =>
  loadModel(modelDirectory(), { device, offload, pin: 'on', enforceEager, ...sizes })
const decodeSome = (model: Model): Promise<Decoded> => decode(model, prompt, { maxTokens: 4 })

const live = (device: NativeDevice): unknown =>
  Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)

/** Checked; a capture that is broken off may have work that nobody waits for, everything else is an accusation. */
async function onDevice<T>(body: (device: NativeDevice) => Promise<T>): Promise<T> {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 26, check: true })
  try {
    const result = await body(device)
    await expectNothingLeft(device)
    const accused = device.checker!.takeViolations().filter(({ kind }) => kind !== 'unjoined-fork')
    expect(accused.map(({ message }) => message)).toEqual([])
    return result
  } finally {
    await device.dispose()
  }
}

async function expectNothingLeft(device: NativeDevice): Promise<void> {
  await vi.waitFor(() => expect(live(device)).toEqual([]), { timeout: 10_000, interval: 2 })
  const { pinnedBytes, mappedBytes, pageableBytes } = device.counters()
  expect([device.budget.usedBytes, pinnedBytes, mappedBytes, pageableBytes]).toEqual([0, 0, 0, 0])
}

const points = (device: NativeDevice): number =>
  Object.values(device.failures.passed()).reduce((sum, count) => sum + count, 0)

/** Numbers from 1 to `last`, evenly spread; at night all of them. */
function spread(last: number, count: number): number[] {
  const step = rounds(Math.max(1, Math.floor(last / count)), 1)
  return Array.from({ length: Math.ceil(last / step) }, (_, i) => 1 + i * step)
}

let expected: Decoded
/** Points passed by loading, by a first text with the capture in it, and by another one, replayed. */
const passed = { load: 0, first: 0, next: 0 }

beforeAll(async () => {
  await onDevice(async (device) => {
    await using model = await load(device, true)
    expected = await decodeSome(model)
  })
  await onDevice(async (device) => {
    const at = [points(device)]
    await using model = await load(device)
    at.push(points(device))
    for (let i = 0; i < 2; i++) {
      expect(await decodeSome(model)).toEqual(expected)
      at.push(points(device))
    }
    expect(device.counters().graphLaunches).toBeGreaterThan(3)
    passed.load = at[1]! - at[0]!
    passed.first = at[2]! - at[1]!
    passed.next = at[3]! - at[2]!
  })
})

test(
  'loading: an error with a code, nothing left, and the next load is right',
  { timeout: rounds(60_000, 1_800_000) },
  () =>
    onDevice(async (device) => {
      for (const number of spread(passed.load, 4)) {
        device.failures.arm({ at: 'any', number })
        const failed = await load(device).catch((error: unknown) => error)
        expect(failed, `failure ${number} of ${passed.load}`).toMatchObject({
          code: expect.stringMatching(/^SPILLWAY_/),
        })
        expect(device.failures.fired).toBe(true)
        device.failures.disarm()
        await expectNothingLeft(device)
      }
      await using model = await load(device)
      expect(await decodeSome(model)).toEqual(expected)
    }),
)

test('the first text, with the capture in it', { timeout: rounds(60_000, 1_800_000) }, async () => {
  const outcomes = new Set<string>()
  for (const number of spread(passed.first, 5)) {
    await onDevice(async (device) => {
      await using model = await load(device)
      outcomes.add(await failOnce(device, model, number))
    })
  }
  expect(outcomes).toContain('goes on')
})

test('a text from the graph', { timeout: rounds(60_000, 1_800_000) }, () =>
  onDevice(async (device) => {
    let model = await load(device)
    const outcomes = new Set<string>()
    try {
      await decodeSome(model)
      const before = live(device)
      for (const number of spread(passed.next, 16)) {
        const outcome = await failOnce(device, model, number)
        outcomes.add(outcome)
        if (outcome !== 'goes on') {
          await model.dispose()
          await expectNothingLeft(device)
          model = await load(device)
          await decodeSome(model)
        }
        // What the failed text took is back, and nothing of it is kept beside.
        await vi.waitFor(() => expect(live(device)).toEqual(before), { timeout: 10_000, interval: 2 })
      }
    } finally {
      await model.dispose()
    }
    expect(outcomes).toContain('goes on')
  }),
)

test('a text that is aborted, before and after the capture: the next is right, and nothing was broken off half-way', () =>
  onDevice(async (device) => {
    await using model = await load(device)
    for (const count of [1, 2, 3, 1]) {
      const abort = new AbortController()
      const aborted = decode(model, prompt, { maxTokens: 4, signal: abort.signal }, (tokens) => {
        if (tokens === count) abort.abort()
      })
      await expect(aborted).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
      expect(await decodeSome(model)).toEqual(expected)
    }
    expect(model.stats().onloads).toMatchObject({ failedForwards: 0, resets: 0 })
    expect(device.counters().graphLaunches).toBeGreaterThan(6)
  }))

/** One text ends with a code; the next one is right, or the model says that it cannot go on. */
async function failOnce(device: NativeDevice, model: Model, number: number): Promise<string> {
  device.failures.arm({ at: 'any', number })
  const failed = await decodeSome(model).catch((error: unknown) => error)
  expect(device.failures.fired, `failure ${number}`).toBe(true)
  device.failures.disarm()
  expect(failed, `failure ${number}`).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_/) })
  const next = await decodeSome(model).catch((error: { code: string }) => error)
  if ('code' in next) expect(next.code, `after failure ${number}`).toBe('SPILLWAY_INVALID_STATE')
  else expect(next, `after failure ${number}`).toEqual(expected)
  return 'code' in next ? next.code : 'goes on'
}
