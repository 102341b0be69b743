// Decode steps replayed from a graph, over every kind of placement, with and without memory that sleeps.
import { fileURLToPath } from 'node:url'
import { type ConfiguredBackend, configure, createAutoBackend, none } from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { type Decoded, decode } from '../../packages/decoder/test/decoded-logits.js'
import { hostSlots } from './host-slots.js'
import { Shelf, shelf } from './shelf.js'
import { watchForwards } from './watched-forwards.js'

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../packages/decoder/test/fixtures/${name}`, import.meta.url))
const directory = fixture('llama-f32')
const layers = 3
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const embeddingBytes = 4 * 384 * 64
const prompt = [0, 5, 6, 7, 8]
const maxTokens = 10
/** The prompt in two parts. */
const sizes = { contextLength: 32, maxRows: 4 } as const

interface PlacementRow {
  readonly name: string
  readonly offload: () => ConfiguredBackend
  /** Copied from the host for each forward that computes logits. */
  readonly forwardBytes: number
}

const prefetchRow = (groupSize: number, numInGroup: number, prefetchStep: number, copied: number): PlacementRow => ({
  name: `prefetch ${groupSize}/${numInGroup}/${prefetchStep}`,
  offload: () => configure(prefetch, { groupSize, numInGroup, prefetchStep }),
  forwardBytes: copied * layerBytes,
})

const placements: readonly PlacementRow[] = [
  { name: 'none', offload: () => configure(none), forwardBytes: 0 },
  prefetchRow(1, 1, 1, 3),
  prefetchRow(1, 1, 2, 2),
  // A slot for each: nothing is copied again.
  prefetchRow(1, 1, 8, 0),
  prefetchRow(3, 2, 1, 2),
  prefetchRow(2, 1, 1, 0),
  {
    name: 'host-slots',
    offload: () => configure(hostSlots),
    forwardBytes: layers * layerBytes + 2 * embeddingBytes + 4 * 64,
  },
]

const devices: readonly (readonly [string, OpenDeviceOptions])[] = [
  ['host', { check: false }],
  ['host, checked', { check: true }],
  ['host, checked, adversarial 3', { check: true, adversarialSeed: 3 }],
  ['host, checked, adversarial 8', { check: true, adversarialSeed: 8 }],
]

/** A device and a model of its own; afterwards nothing is left and nothing was accused. */
async function withModel<T>(
  deviceOptions: OpenDeviceOptions,
  options: Omit<LoadModelOptions, 'device'>,
  use: (model: Model, device: NativeDevice) => Promise<T>,
): Promise<T> {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 26, ...deviceOptions })
  try {
    const model = await loadModel(directory, { device, ...sizes, ...options })
    let result: T
    try {
      result = await use(model, device)
    } finally {
      await model.dispose()
    }
    await expectNothingLeft(device)
    return result
  } finally {
    // Rejects with what the checker found.
    await device.dispose()
  }
}

async function expectNothingLeft(device: NativeDevice): Promise<void> {
  const left = (): unknown => Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
  // Enqueued copies keep their buffers: they end soon after what enqueued them was disposed.
  await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000, interval: 2 })
  expect(device.budget.usedBytes).toBe(0)
}

/** A residency backend, and sleeps after some of a text's tokens. */
function shelved(): {
  readonly residency: ConfiguredBackend
  readonly steps: () => Shelf
  readonly sleepAndWake: (count: number) => Promise<void>
} {
  let made: Shelf | undefined
  const residency = configure({ ...shelf, create: async (context) => (made = new Shelf(context)) })
  const sleepAndWake = async (count: number): Promise<void> => {
    if (count !== 4 && count !== 7) return
    await made!.sleep({ level: 1 })
    await made!.wake()
  }
  return { residency, steps: () => made!, sleepAndWake }
}

let eager: Decoded
let eagerOfOne: Decoded
/** What was lost is read again, more than one row at a time: last bits differ. */
let eagerAfterSleep: Decoded

beforeAll(async () => {
  const { residency, sleepAndWake } = shelved()
  eagerAfterSleep = await withModel({ check: false }, { enforceEager: true, offload: residency }, (model) =>
    decode(model, prompt, { maxTokens }, sleepAndWake),
  )
  await withModel({ check: false }, { enforceEager: true }, async (model) => {
    eager = await decode(model, prompt, { maxTokens })
    eagerOfOne = await decode(model, [5], { maxTokens: 4 })
  })
  expect(new Set(eager.tokens).size).toBeGreaterThan(3)
  expect(eager.logits).toHaveLength(maxTokens)
  expect(eagerAfterSleep.tokens).toEqual(eager.tokens)
})

describe.each(devices)('%s', (_, deviceOptions) => {
  test.each(placements)(
    '$name: eager logits to the last bit, and the bytes of the rules, at every token',
    async ({ offload, forwardBytes }) => {
      const watched = watchForwards(offload())
      await withModel(deviceOptions, { offload: watched.offload, pin: 'on' }, async (model, device) => {
        await watched.settle()
        const arrived = (): number => device.counters().hostToDeviceBytesByTag.weights ?? 0
        const seen = { arrived: arrived(), calls: watched.calls(), onloaded: model.stats().onloadedBytes }
        const calls: number[] = []
        const replayed = await decode(model, prompt, { maxTokens }, async (count) => {
          // Otherwise nobody waits but for the tokens themselves, as in use.
          if (count % 3 !== 0) return
          await watched.settle()
          // The first part of the prompt computes no logits, which host-slots counts.
          calls.push(watched.calls() - seen.calls)
        })
        expect(replayed).toEqual(eager)
        const { graphLaunches } = device.counters()
        // A prompt's last row is a forward of one row: it rehearses. Then everything is replayed.
        expect(graphLaunches).toBe(maxTokens - 1)
        expect(new Set(calls).size).toBe(1)
        await watched.settle()
        const perForward = 2 * (layers + 3) + 2
        // Two parts of the prompt, the first without norm and head; the capture.
        expect(watched.calls() - seen.calls).toBe(3 * perForward - 4)
        const withoutHead = forwardBytes > layers * layerBytes ? embeddingBytes + 4 * 64 : 0
        expect(arrived() - seen.arrived).toBe((2 + graphLaunches) * forwardBytes - withoutHead)
        expect(model.stats().onloadedBytes - seen.onloaded).toBe(2 * forwardBytes - withoutHead)
      })
    },
  )

  test.each(placements)('$name: a text goes on with the same graph after memory has slept', async ({ offload }) => {
    const { residency, sleepAndWake } = shelved()
    const watched = watchForwards(offload())
    const options = { offload: [watched.offload, residency], pin: 'on' } as const
    await withModel(deviceOptions, options, async (model, device) => {
      const before = watched.calls()
      const slept = await decode(model, prompt, { maxTokens }, async (count) => {
        await watched.settle()
        await sleepAndWake(count)
      })
      expect(slept).toEqual(eagerAfterSleep)
      // The cache was lost: what there was of the text is read as a prompt is. Of 9 tokens the last is a row by itself, and
      // comes from the graph; of 12 it is not. One more is the rehearsal.
      expect(device.counters().graphLaunches).toBe(maxTokens - 2)
      const perForward = 2 * (layers + 3) + 2
      const parts = 2 + 2 + 3
      expect(watched.calls() - before).toBe((parts + 1) * perForward - 4 * (1 + 2 + 2))
    })
  })
})

test('a token is handed out before its replay has copied what the next one needs first', async () => {
  // A layer takes a twelfth of a second, the kernels after the last of them a thousandth.
  const deviceOptions = { check: false, linkBytesPerSecond: 2 * 2 ** 20 } as const
  const options = { offload: configure(prefetch, { groupSize: 1 }), pin: 'on' } as const
  await withModel(deviceOptions, options, async (model, device) => {
    const generation = model.generate(prompt, { temperature: 0, maxTokens })
    for (let count = 0; count < 3; count++) await generation.next()
    const arrived = (): number => device.counters().hostToDeviceBytesByTag.weights ?? 0
    for (const expected of eager.tokens.slice(3, 6)) {
      expect((await generation.next()).value).toMatchObject({ tokens: [expected] })
      const early = arrived()
      const { offloadedBytes } = await model.settledStats()
      expect(arrived() - early).toBeGreaterThanOrEqual(layerBytes)
      expect(arrived() - early).toBeLessThan(offloadedBytes)
    }
  })
})

test('asleep, a replay is refused as a forward is, and awake again the next text is right', async () => {
  const { residency, steps } = shelved()
  await withModel(
    { check: true },
    { offload: [configure(prefetch, { groupSize: 1 }), residency], pin: 'on' },
    async (model, device) => {
      await decode(model, prompt, { maxTokens })
      const generation = model.generate(prompt, { temperature: 0, maxTokens })
      for (let count = 0; count < 3; count++) await generation.next()
      const { graphLaunches } = device.counters()
      // As core does before it lets a residency backend sleep, which is asked directly here.
      await model.settledStats()
      await steps().sleep({ level: 1, tags: ['weights'] })
      await expect(generation.next()).rejects.toMatchObject({
        code: 'SPILLWAY_ASLEEP',
        details: { call: 'decode', tags: ['weights'] },
      })
      expect(device.counters().graphLaunches).toBe(graphLaunches)
      await steps().wake()
      expect(await decode(model, prompt, { maxTokens })).toEqual(eager)
      expect(device.counters().graphLaunches).toBeGreaterThan(graphLaunches)
    },
  )
})

test('a backend that auto chose and that cannot be captured: eager from the first try on', async () => {
  const incapable = { ...hostSlots, name: 'prefetch', supports: { ...hostSlots.supports, graphs: false }, options: {} }
  const auto = createAutoBackend({
    loadPrefetch: async () => ({ ...incapable, create: (context) => hostSlots.create(context, { resident: 0 }) }),
    options: {},
  })
  const plan = await withModel({ check: false }, {}, async (model) => model.plan)
  // Room for the caches and the slots, not for two of the largest modules besides.
  const memoryLimitBytes = plan.weightBytes + plan.kvCacheBytes + plan.workspaceBytes + 2 ** 16
  await withModel({ memoryLimitBytes }, { offload: configure(auto), pin: 'on' }, async (model, device) => {
    expect(model.decodeGraph.graph).toBe(true)
    expect(await decode(model, prompt, { maxTokens })).toEqual(eager)
    expect(model.names).toEqual(['auto (prefetch)'])
    expect(model.decodeGraph).toEqual({ graph: false, reason: expect.stringContaining('prefetch') })
    expect(device.counters().graphLaunches).toBe(0)
  })
})

// Before there is a graph: in the prompt, the rehearsal, the capture, a replay. With one: in the next prompt or replay.
describe.each(['before', 'after'])('failures with prefetch, %s the capture', (when) => {
  test.each([
    ['event', 3],
    ['copy', 1],
    ['launch', 13],
    ['any', 17],
  ] as const)('at one %s after another: one text ends with a code, the next is right', async (at, stride) => {
    const offload = configure(prefetch, { groupSize: 3, numInGroup: 2, prefetchStep: 1 })
    const outcomes = new Set<string>()
    let fired = true
    for (let number = 1; fired; number += stride) {
      await withModel({ check: true }, { offload, pin: 'on' }, async (model, device) => {
        if (when === 'after') await decode(model, prompt, { maxTokens: 3 })
        device.failures.arm({ at, number })
        const failed = await decode(model, prompt, { maxTokens: 4 }).catch((error: unknown) => error)
        fired = device.failures.fired
        device.failures.disarm()
        if (fired) expect(failed).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_/) })
        // Of one row, with no prompt to be read before: the first forward after the failure is its own.
        const next = await decode(model, [5], { maxTokens: 4 }).catch((error: { code: string }) => error)
        // A forward that could not be ended has left the slots in disorder: then the model says so, and never replays.
        if ('code' in next) expect(next.code).toBe('SPILLWAY_INVALID_STATE')
        else expect(next).toEqual(eagerOfOne)
        outcomes.add('code' in next ? next.code : 'goes on')
        // A capture that is broken off has work that nobody waits for, and is dropped with it.
        const accused = device.checker!.takeViolations().filter(({ kind }) => kind !== 'unjoined-fork')
        expect(accused.map(({ message }) => message)).toEqual([])
      })
    }
    expect(outcomes).toContain('goes on')
    if (at === 'event' && when === 'before') expect(outcomes).toContain('SPILLWAY_INVALID_STATE')
  })
})
