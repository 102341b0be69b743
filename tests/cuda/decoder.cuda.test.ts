// The decoder on a GPU: against Hugging Face transformers, against the host device, and by the device's counters.
import { fileURLToPath } from 'node:url'
import { type ConfiguredBackend, configure, none } from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { cudaDriverCalls, type NativeDevice, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { describe, expect, test, vi } from 'vitest'
import { decode } from '../../packages/decoder/test/decoded-logits.js'
import { expectedNumbers, type FixtureName, fixture, fixtureNames } from '../../packages/decoder/test/fixtures.js'
import { expectSameGreedy, worstError } from '../../packages/decoder/test/reference.js'
import { hostSlots } from '../composition/host-slots.js'
import { watchForwards } from '../composition/watched-forwards.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

/** A model on a device of its own, which it must leave as it found it. */
async function withModel<T>(
  directory: string,
  options: Omit<LoadModelOptions, 'device'>,
  use: (model: Model, device: NativeDevice) => Promise<T>,
  open: () => Promise<NativeDevice> = openCuda,
): Promise<T> {
  const device = await open()
  try {
    const handles = device.counters().liveHandles
    const model = await loadModel(directory, { device, ...options })
    let result: T
    try {
      result = await use(model, device)
    } finally {
      await model.dispose()
    }
    // Work that is done gives up its buffers soon after.
    await vi.waitFor(() => expect(withoutZeros(device.counters().liveHandles)).toEqual(withoutZeros(handles)))
    expect(device.budget.usedBytes).toBe(0)
    return result
  } finally {
    await device.dispose()
  }
}

function withoutZeros(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
}

const prefetchOf = (groupSize: number, numInGroup: number, prefetchStep: number): ConfiguredBackend =>
  configure(prefetch, { groupSize, numInGroup, prefetchStep })

const toleranceOf = (name: FixtureName): number => (name.includes('f32') ? 1e-3 : 2e-2)

/** Placements, and whether decode steps are replayed. */
const ways: readonly (readonly [string, Omit<LoadModelOptions, 'device'>])[] = [
  ['resident, replayed', {}],
  ['resident, eager', { enforceEager: true }],
  ['prefetch, replayed', { offload: prefetchOf(1, 1, 1) }],
  ['prefetch, eager', { offload: prefetchOf(1, 1, 1), enforceEager: true }],
  ['prefetch of some layers, two slots, replayed', { offload: prefetchOf(3, 2, 2) }],
  ['the prompt a few tokens at a time, replayed', { maxRows: 5 }],
]

describeOnCuda('the decoder on a GPU', () => {
  describe.each(fixtureNames)('%s against Hugging Face transformers', (name) => {
    test.each(ways)('%s: logits, and greedy tokens where the margin allows', async (_, options) => {
      const expected = await expectedNumbers(name)
      const tolerance = toleranceOf(name)
      for (const kvCacheDtype of ['f32', 'auto'] as const) {
        await withModel(fixture(name), { ...options, kvCacheDtype }, async (model, device) => {
          const replayed = options.enforceEager !== true
          expect(model.decodeGraph.graph).toBe(replayed)
          expect(worstError(await model.logits(expected.tokens), expected.logits)).toBeLessThanOrEqual(tolerance)
          await expectSameGreedy(model, expected, tolerance)
          expect(device.counters().graphLaunches > 0).toBe(replayed)
        })
      }
    })
  })

  describe('a replayed token', () => {
    const name = 'llama-f32'
    const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
    const embeddingBytes = 4 * 384 * 64
    const prompt = [0, 5, 6, 7, 8]
    /** What is copied for each token besides its input, all as one layer, or module, each. */
    const placements: readonly (readonly [string, ConfiguredBackend, { copies: number; bytes: number }])[] = [
      ['none', configure(none), { copies: 0, bytes: 0 }],
      ['prefetch 1/1/1', prefetchOf(1, 1, 1), { copies: 3, bytes: 3 * layerBytes }],
      ['prefetch 1/1/2', prefetchOf(1, 1, 2), { copies: 2, bytes: 2 * layerBytes }],
      ['prefetch 1/1/8', prefetchOf(1, 1, 8), { copies: 0, bytes: 0 }],
      ['prefetch 3/2/1', prefetchOf(3, 2, 1), { copies: 2, bytes: 2 * layerBytes }],
      ['host-slots', configure(hostSlots), { copies: 6, bytes: 3 * layerBytes + 2 * embeddingBytes + 4 * 64 }],
    ]

    test.each(placements)(
      'with %s is one launch, its copies, no call of the backend; logits are those of eager',
      async (_, placement, copied) => {
        const text = { maxTokens: 12 }
        const watched = watchForwards(placement)
        const eager = await withModel(fixture(name), { enforceEager: true }, (model) => decode(model, prompt, text))
        await withModel(fixture(name), { offload: watched.offload }, async (model, device) => {
          const kernels = { eager: 0, replayed: 0 }
          let before = device.counters()
          let driverCallsBefore = 0
          let calls = 0
          const replayed = await decode(model, prompt, text, async (count) => {
            // Its onloads for the next forward are on a stream of their own, until they are part of a graph.
            const driverCalls = cudaDriverCalls() - driverCallsBefore
            await watched.settle()
            const after = device.counters()
            // The prompt, the rehearsal, the capture; then only replays.
            if (count === 2) kernels.eager = after.launches - before.launches
            if (count > 3) {
              kernels.replayed = after.launches - before.launches
              expect(watched.calls()).toBe(calls)
              // Launch the graph, record an event, wait for it, and ask on the way which context and capture it is.
              expect(driverCalls).toBeLessThanOrEqual(12)
              expect({
                graphLaunches: after.graphLaunches - before.graphLaunches,
                hostToDeviceCopies: after.hostToDeviceCopies - before.hostToDeviceCopies,
                hostToDeviceBytes: after.hostToDeviceBytes - before.hostToDeviceBytes,
                deviceToHostCopies: after.deviceToHostCopies - before.deviceToHostCopies,
                deviceToHostBytes: after.deviceToHostBytes - before.deviceToHostBytes,
                deviceToDeviceBytes: after.deviceToDeviceBytes - before.deviceToDeviceBytes,
              }).toEqual({
                graphLaunches: 1,
                hostToDeviceCopies: 1 + copied.copies,
                hostToDeviceBytes: 8 + copied.bytes,
                deviceToHostCopies: 1,
                deviceToHostBytes: 4 * 384,
                deviceToDeviceBytes: 0,
              })
            }
            before = after
            calls = watched.calls()
            driverCallsBefore = cudaDriverCalls()
          })
          expect(replayed).toEqual(eager)
          expect(kernels.replayed).toBe(kernels.eager)
          expect(kernels.replayed).toBe(3 + 3 * 6)
        })
      },
    )

    test('without pinned memory nothing is replayed, and the logits are the same', async () => {
      const text = { maxTokens: 8 }
      const eager = await withModel(fixture(name), { enforceEager: true }, (model) => decode(model, prompt, text))
      await withModel(fixture(name), { pin: 'off', offload: prefetchOf(1, 1, 1) }, async (model, device) => {
        expect(model.decodeGraph.graph).toBe(false)
        expect(await decode(model, prompt, text)).toEqual(eager)
        expect(device.counters().graphLaunches).toBe(0)
      })
    })
  })

  test('the demo model to the end of its context: what the host device computes, replayed or not', async () => {
    const options = { contextLength: 300, kvCacheDtype: 'f32' } as const
    const replayed = await withModel(modelDirectory(), options, (model) => decode(model, [0], {}))
    expect(replayed.tokens.length).toBeGreaterThan(64)
    const eager = await withModel(modelDirectory(), { ...options, enforceEager: true }, (model) =>
      decode(model, [0], {}),
    )
    expect(replayed).toEqual(eager)
    // After each token that was chosen but the last, on the host device and without a decode step.
    const expected = await withModel(
      modelDirectory(),
      options,
      (model) => model.logits([0, ...replayed.tokens.slice(0, -1)]),
      () => openDevice('host', { check: false }),
    )
    expect(worstError(replayed.logits, expected)).toBeLessThanOrEqual(1e-3)
  })

  test('two models at once on one GPU, step by step and overlapping', async () => {
    const maxTokens = 12
    const parts = [
      { directory: fixture('llama-f32'), offload: prefetchOf(1, 1, 1), prompt: [0, 5, 6, 7] },
      { directory: fixture('qwen2-bf16'), offload: configure(none), prompt: [3, 9, 4] },
    ]
    const alone: (readonly number[])[] = []
    for (const { directory, offload, prompt } of parts) {
      const { tokens } = await withModel(directory, { offload }, (model) => decode(model, prompt, { maxTokens }))
      alone.push(tokens)
    }
    const device = await openCuda()
    const models: Model[] = []
    for (const { directory, offload } of parts) models.push(await loadModel(directory, { device, offload }))
    for (const overlap of [false, true]) {
      const tokens: number[][] = [[], []]
      const texts = models.map((model, i) => model.generate(parts[i]!.prompt, { temperature: 0, maxTokens }))
      const step = async (i: number): Promise<void> => {
        const { value } = await texts[i]!.next()
        tokens[i]!.push(...(value as { tokens: readonly number[] }).tokens)
      }
      for (let count = 0; count < maxTokens; count++) {
        if (overlap) await Promise.all([step(0), step(1)])
        else for (const i of [0, 1]) await step(i)
      }
      expect(tokens).toEqual(alone)
    }
    for (const model of models) await model.dispose()
    expect(device.budget.usedBytes).toBe(0)
    await device.dispose()
  })

  test('a model that is disposed, and a text that is aborted, under a replay', async () => {
    const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
    await withModel(directory, { offload: prefetchOf(1, 1, 1) }, async (model) => {
      const prompt = [0, 5, 6, 7]
      const { tokens } = await decode(model, prompt, { maxTokens: 20 })
      const abort = new AbortController()
      const aborted = model.generate(prompt, { temperature: 0, signal: abort.signal })
      for (let count = 0; count < 5; count++) await aborted.next()
      const last = aborted.next()
      abort.abort()
      await expect(last).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
      expect((await decode(model, prompt, { maxTokens: 20 })).tokens).toEqual(tokens)
      const disposed = model.generate(prompt, { temperature: 0 })
      for (let count = 0; count < 5; count++) await disposed.next()
      disposed.next().catch(() => {})
      await model.dispose()
      await expect(disposed.result).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
    })
  })
})
