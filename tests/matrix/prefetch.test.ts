import { type ConfiguredBackend, configure, type Device, type PinSetting } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { readCheckpointLayers } from './checkpoint-layers.js'
import { type PrefetchChoice, type PrefetchFigures, prefetchFigures } from './prefetch-rule.js'
import { type Storages, watchPlacement } from './watched-backend.js'

const checkpoint = readCheckpointLayers(modelDirectory())
const sizes = { contextLength: 64, maxRows: 32 } as const
const prompt = 'The captain of the ship'
const maxTokens = 10
const numbers = [1, 2, 3, 8]
const choices: readonly PrefetchChoice[] = numbers.flatMap((groupSize) =>
  numbers
    .filter((numInGroup) => numInGroup <= groupSize)
    .flatMap((numInGroup) => numbers.map((prefetchStep) => ({ groupSize, numInGroup, prefetchStep }))),
)

/** The device takes memory in pieces: what a few dozen buffers may waste by that. */
const roundingBytes = 512 * 1024

/** `use` gets a model on a device of its own; afterwards nothing may be left there, and nothing be on its way. */
async function withModel(
  {
    memoryLimitBytes,
    offload,
    pin = 'auto',
  }: { memoryLimitBytes: number; offload?: ConfiguredBackend; pin?: PinSetting },
  use: (model: Model, device: Device) => Promise<void>,
  afterwards: (device: Device) => void = () => {},
): Promise<void> {
  const device = await openDevice('host', { memoryLimitBytes, check: true })
  try {
    const handles = liveHandles(device)
    const model = await loadModel(modelDirectory(), { device, pin, ...sizes, ...(offload ? { offload } : {}) })
    try {
      await use(model, device)
    } finally {
      await model.dispose()
    }
    // Copies that are enqueued keep their buffers, so with the last handle the last copy is done.
    await vi.waitFor(() => expect(liveHandles(device)).toEqual(handles), { timeout: 10_000, interval: 2 })
    const { pinnedBytes, mappedBytes, pageableBytes } = device.counters()
    expect({ pinnedBytes, mappedBytes, pageableBytes }).toEqual({ pinnedBytes: 0, mappedBytes: 0, pageableBytes: 0 })
    expect(device.budget.usedBytes).toBe(0)
    afterwards(device)
  } finally {
    await device.dispose()
  }
}

function liveHandles(device: Device): Record<string, number> {
  return Object.fromEntries(Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0))
}

/** Bytes that have come over the link into memory for weights: the loading of resident ones, and onloads. */
function arrivedBytes(device: Device): number {
  return device.counters().hostToDeviceBytesByTag.weights ?? 0
}

/** Counters move when a copy is done, and those for the next forward end after this one. */
async function expectArrived(device: Device, bytes: number): Promise<void> {
  await vi.waitFor(() => expect(arrivedBytes(device)).toBeGreaterThanOrEqual(bytes), { timeout: 10_000, interval: 1 })
  expect(arrivedBytes(device)).toBe(bytes)
}

function expectedStorages({ offloadedLayers }: PrefetchFigures, hostStorage: string): Storages {
  const layers = checkpoint.layerBytes.map((_, m): [string, Set<string>] => {
    return [`model.layers.${m}`, new Set([offloadedLayers.includes(m) ? hostStorage : 'device'])]
  })
  // The head is tied to the embedding: it owns nothing.
  const rest = ['model.embed_tokens', 'model.norm'].map((name): [string, Set<string>] => [name, new Set(['device'])])
  return new Map([...layers, ...rest, ['lm_head', new Set()]])
}

async function greedyTokens(
  model: Model,
  onToken: (count: number) => Promise<void> = async () => {},
): Promise<number[]> {
  const tokens: number[] = []
  for await (const step of model.generate(prompt, { temperature: 0, maxTokens })) {
    tokens.push(...step.tokens)
    await onToken(tokens.length)
  }
  return tokens
}

/** What the plan adds up to, and nothing more but rounding: a backend that takes more runs out of memory. */
function limitBytes(model: Pick<Model, 'plan'>, figures: PrefetchFigures): number {
  const { kvCacheBytes, workspaceBytes } = model.plan
  return figures.residentBytes + figures.slotBytes + kvCacheBytes + workspaceBytes + roundingBytes
}

let unlimited: { readonly tokens: readonly number[]; readonly plan: Model['plan']; readonly logits: Float32Array[] }

beforeAll(async () => {
  await withModel({ memoryLimitBytes: 64 * 2 ** 20 }, async (model) => {
    expect(model.names).toEqual(['none'])
    const tokens = await greedyTokens(model)
    unlimited = { tokens, plan: model.plan, logits: await model.logits(tokens) }
  })
  expect(unlimited.tokens).toHaveLength(maxTokens)
  expect(new Set(unlimited.tokens).size).toBeGreaterThan(3)
  expect(unlimited.plan.weightBytes).toBe(checkpoint.weightBytes)
  expect(checkpoint.layerBytes).toHaveLength(16)
})

describe.each(choices)('prefetch, G $groupSize, N $numInGroup, s $prefetchStep', (choice) => {
  test('the tokens of none, within the planned memory, with the bytes that the rules give', async () => {
    const figures = prefetchFigures(checkpoint, choice)
    const memoryLimitBytes = limitBytes(unlimited, figures)
    const { offload, storages } = watchPlacement(configure(prefetch, { ...choice }))
    let arrived = figures.residentBytes + figures.filledBytes
    await withModel(
      { memoryLimitBytes, offload, pin: 'on' },
      async (model, device) => {
        expect(model.names).toEqual(['prefetch'])
        expect(device.counters().pinnedBytes).toBeGreaterThanOrEqual(figures.offloadedBytes)
        expect(device.counters().pageableBytes).toBe(0)
        expect(storages).toEqual(expectedStorages(figures, 'pinned'))
        await expectArrived(device, arrived)

        const tokens = await greedyTokens(model, async () => {
          arrived += figures.forwardBytes
          await expectArrived(device, arrived)
          expect(device.counters().pinnedBytes).toBeGreaterThanOrEqual(figures.offloadedBytes)
        })
        expect(tokens).toEqual(unlimited.tokens)

        expect(figures.offloadedBytes).toBeGreaterThan(0)
        expect(model.stats()).toMatchObject({
          offloadedBytes: figures.offloadedBytes,
          residentBytes: figures.residentBytes,
          slotBytes: figures.slotBytes,
          // The prompt and one token were enqueued. What replays copy, only the device counts.
          onloadedBytes: figures.filledBytes + 2 * figures.forwardBytes,
          pinned: { pin: true },
        })
        expect(device.budget.usedBytesByTag.weights).toBeGreaterThanOrEqual(figures.residentBytes + figures.slotBytes)
        expect(device.budget.peakBytes).toBeLessThanOrEqual(memoryLimitBytes)
      },
      // Nothing came after the last forward but what the next one would have begun with.
      (device) => expect(arrivedBytes(device)).toBe(arrived),
    )
  })
})

test('the choices cover slots that are shared, some alone, and all alone', () => {
  const kinds = choices.map((choice) => {
    const { forwardBytes, offloadedBytes } = prefetchFigures(checkpoint, choice)
    return forwardBytes === 0 ? 'alone' : forwardBytes === offloadedBytes ? 'shared' : 'mixed'
  })
  expect(choices).toHaveLength(40)
  expect(new Set(kinds)).toEqual(new Set(['alone', 'shared', 'mixed']))
})

test('the logits are those of none to the last bit', async () => {
  const choice = { groupSize: 3, numInGroup: 2, prefetchStep: 3 }
  await withModel({ memoryLimitBytes: 64 * 2 ** 20, offload: configure(prefetch, choice) }, async (model) => {
    expect(await model.logits(unlimited.tokens)).toEqual(unlimited.logits)
  })
})

describe.each([1, 2, 3, 8])('all layers offloaded, %i slots', (prefetchStep) => {
  const choice = { groupSize: 1, numInGroup: 1, prefetchStep }

  test('a device smaller than the weights runs the model, which without prefetch does not fit', async () => {
    const memoryLimitBytes = Math.floor(checkpoint.weightBytes * 0.75)
    const without = withModel({ memoryLimitBytes }, async () => {})
    await expect(without).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
    await withModel({ memoryLimitBytes, offload: configure(prefetch, choice) }, async (model, device) => {
      expect(await greedyTokens(model)).toEqual(unlimited.tokens)
      const { peakDeviceBytes } = model.stats()
      expect(peakDeviceBytes).toBe(device.budget.peakBytes)
      expect(peakDeviceBytes).toBeLessThanOrEqual(memoryLimitBytes)
      expect(peakDeviceBytes).toBeGreaterThan(prefetchFigures(checkpoint, choice).slotBytes)
    })
  })

  test('without pinned memory: the same tokens from pageable memory', async () => {
    const { offload, storages } = watchPlacement(configure(prefetch, { ...choice }))
    const figures = prefetchFigures(checkpoint, choice)
    await withModel({ memoryLimitBytes: 64 * 2 ** 20, offload, pin: 'off' }, async (model, device) => {
      expect(device.counters().pinnedBytes).toBe(0)
      expect(device.counters().pageableBytes).toBeGreaterThanOrEqual(figures.offloadedBytes)
      expect(storages).toEqual(expectedStorages(figures, 'pageable'))
      expect(model.stats()).toMatchObject({ offloadedBytes: figures.offloadedBytes, pinned: { pin: false } })
      expect(await greedyTokens(model)).toEqual(unlimited.tokens)
      await expectArrived(device, figures.residentBytes + figures.filledBytes + maxTokens * figures.forwardBytes)
    })
  })
})
