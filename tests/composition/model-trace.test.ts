// What a user can see of a model before its bytes are read, and of its tokens while they are decoded.
import { fileURLToPath } from 'node:url'
import { configure, forwardsOf, none, timesOf } from '@spillway/core'
import { type GeneratedStep, type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { expect, test } from 'vitest'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const prompt = [0, 5, 6, 7, 8]
const layers = 3
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const offload = configure(prefetch, { groupSize: 1, prefetchStep: 2 })

async function withModel<T>(
  options: Omit<LoadModelOptions, 'device'>,
  use: (model: Model, device: NativeDevice) => Promise<T>,
): Promise<T> {
  await using device = await openDevice('host', { check: true })
  await using model = await loadModel(directory, { device, contextLength: 64, ...options })
  return await use(model, device)
}

async function decodeAll(model: Model, maxTokens: number): Promise<number[]> {
  const tokens: number[] = []
  for await (const step of model.generate(prompt, { maxTokens })) tokens.push(...step.tokens)
  return tokens
}

test('tokens in a trace are enqueued kernel by kernel and seen whole; those after it are replayed again', async () => {
  const expected = await withModel({ offload, enforceEager: true }, (model) => decodeAll(model, 12))
  await withModel({ offload }, async (model, device) => {
    const generation = model.generate(prompt, { maxTokens: 12 })
    const tokens: number[] = []
    const next = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) tokens.push(...((await generation.next()).value as GeneratedStep).tokens)
    }
    // The prompt, the rehearsal, and a replay of what it captured.
    await next(4)
    const before = device.counters()
    const { events } = await model.trace(() => next(5))
    const after = device.counters()
    expect(after.graphLaunches).toBe(before.graphLaunches)
    await next(3)
    expect(device.counters().graphLaunches).toBe(after.graphLaunches + 3)
    expect(tokens).toEqual(expected)

    const steps = forwardsOf(events)
    expect(steps).toHaveLength(5)
    for (const step of steps) {
      expect(step.filter(({ lane }) => lane === 'compute')).toHaveLength(layers + 3)
    }
    const copies = events.filter(({ lane }) => lane === 'copy')
    const weights = after.hostToDeviceBytesByTag.weights! - before.hostToDeviceBytesByTag.weights!
    expect(copies.reduce((sum, { bytes }) => sum + bytes!, 0)).toBe(weights)
    // Of three layers in two slots, the middle one keeps its.
    expect(weights).toBe(5 * 2 * layerBytes)
    const copied = ['model.layers.0', 'model.layers.2']
    const times = timesOf(steps.slice(1).flat(), 4)
    for (const { module, computeMs, linkMs } of times.modules) {
      expect(computeMs).toBeGreaterThan(0)
      expect(linkMs > 0).toBe(copied.includes(module))
    }
  })
})

test('what fails in a trace leaves the graph to the tokens after it', async () => {
  await withModel({ offload }, async (model, device) => {
    await decodeAll(model, 4)
    const failure = new Error('inside')
    await expect(model.trace(() => Promise.reject(failure))).rejects.toBe(failure)
    const { graphLaunches } = device.counters()
    await decodeAll(model, 4)
    expect(device.counters().graphLaunches).toBe(graphLaunches + 3)
  })
})

test('a model is explained before its bytes are read, and need not be loaded after that', async () => {
  await using device = await openDevice('host', { check: true })
  const stop = new AbortController()
  const stopped = loadModel(directory, {
    device,
    contextLength: 64,
    offload,
    signal: stop.signal,
    onProgress: ({ phase }) => expect(phase).toBe('plan'),
    onPlaced(placement) {
      const { modules, memory } = placement.explain()
      expect(modules.filter(({ hostBytes }) => hostBytes > 0)).toHaveLength(layers)
      expect(memory.hostBytes).toBe(layers * layerBytes)
      expect(device.counters().pinnedBytes).toBeGreaterThanOrEqual(layers * layerBytes)
      expect(device.counters().hostToDeviceBytesByTag.weights ?? 0).toBe(0)
      stop.abort()
    },
  })
  await expect(stopped).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
  const refusal = new Error('no')
  const refused = loadModel(directory, {
    device,
    offload: configure(none),
    onPlaced() {
      throw refusal
    },
  })
  await expect(refused).rejects.toBe(refusal)
  const { pinnedBytes, liveHandles } = device.counters()
  expect([device.budget.usedBytes, pinnedBytes]).toEqual([0, 0])
  expect(liveHandles.stream).toBe(0)
})
