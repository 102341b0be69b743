// Pinned or pageable, decided once, in a whole engine: slabs, staging memory of loaders, inputs and outputs; and what the
// engine makes of it.
import { fileURLToPath } from 'node:url'
import { configure } from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { type Decoded, decode } from '../../packages/decoder/test/decoded-logits.js'
import { meminfo, withSystemFiles } from '../../packages/device/test/memory-limits.js'
import { watchSteps } from './watched-steps.js'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const prompt = [0, 5, 6, 7, 8]
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const variables = ['SPILLWAY_DISABLE_PIN_MEMORY', 'VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY'] as const
const offload = configure(prefetch, { groupSize: 1, prefetchStep: 2 })

interface Row {
  readonly name: string
  readonly machine: NonNullable<OpenDeviceOptions['capabilities']>
  readonly options: Pick<LoadModelOptions, 'pin'>
  readonly variable?: (typeof variables)[number]
  readonly pinned: boolean
}

const rows: readonly Row[] = [
  { name: 'a plain machine', machine: {}, options: {}, pinned: true },
  { name: 'a plain machine, off', machine: {}, options: { pin: 'off' }, pinned: false },
  ...variables.flatMap((variable): Row[] => [
    { name: variable, variable, machine: {}, options: {}, pinned: false },
    { name: `${variable}, but on`, variable, machine: {}, options: { pin: 'on' }, pinned: true },
  ]),
  { name: 'unified memory', machine: { unifiedMemory: true }, options: {}, pinned: false },
  { name: 'unified memory, on', machine: { unifiedMemory: true }, options: { pin: 'on' }, pinned: true },
  { name: 'a device that cannot pin', machine: { pinnedMemory: false }, options: {}, pinned: false },
]

let expected: Decoded
let dummy: Decoded

const decodeSome = (model: Model): Promise<Decoded> => decode(model, prompt, { maxTokens: 5 })

async function onDevice<T>(capabilities: Row['machine'], body: (device: NativeDevice) => Promise<T>): Promise<T> {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 26, capabilities, check: true, adversarialSeed: 4 })
  try {
    const result = await body(device)
    const left = (): unknown => Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
    await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000, interval: 2 })
    return result
  } finally {
    await device.dispose()
  }
}

async function withVariable<T>(name: string | undefined, body: () => Promise<T>): Promise<T> {
  if (name === undefined) return body()
  process.env[name] = '1'
  try {
    return await body()
  } finally {
    delete process.env[name]
  }
}

beforeAll(async () => {
  const eager = { contextLength: 32, enforceEager: true } as const
  await onDevice({}, async (device) => {
    await using model = await loadModel(directory, { device, ...eager })
    expected = await decodeSome(model)
  })
  await onDevice({}, async (device) => {
    await using model = await loadModel(directory, { device, ...eager, loadFormat: 'dummy' })
    dummy = await decodeSome(model)
  })
})

describe.each(rows)('$name', ({ machine, options, variable, pinned }) => {
  test.each(['auto', 'dummy'] as const)('all host memory is of one kind, loadFormat %s', (loadFormat) =>
    withVariable(variable, () =>
      onDevice(machine, async (device) => {
        const seen: number[] = []
        const look = (): void => {
          const { pinnedBytes, pageableBytes, mappedBytes } = device.counters()
          seen.push(pinned ? pinnedBytes : pageableBytes)
          expect((pinned ? pageableBytes : pinnedBytes) + mappedBytes).toBe(0)
        }
        // What is fused, and the slabs it goes to.
        const watched = watchSteps(offload, (steps) => {
          const replaceParameters = steps.replaceParameters.bind(steps)
          steps.replaceParameters = async (...call) => {
            look()
            const placed = await replaceParameters(...call)
            look()
            return placed
          }
        })
        const model = await loadModel(directory, {
          device,
          offload: watched.offload,
          loadFormat,
          contextLength: 32,
          onProgress: look,
          ...options,
        })
        await using _ = model
        // While it loads there is staging memory besides slabs, input and logits.
        expect(Math.max(...seen)).toBeGreaterThan(seen.at(-1)!)
        expect(seen.at(-1)).toBeGreaterThan(3 * layerBytes)
        expect(model.stats().pinned.pin).toBe(pinned)
        expect(model.decodeGraph.graph).toBe(pinned)
        expect(await decodeSome(model)).toEqual(loadFormat === 'dummy' ? dummy : expected)
        look()
        expect(device.counters().graphLaunches).toBe(pinned ? 3 : 0)
        expect((await model.logits(prompt)).at(-1)).toHaveLength(expected.logits[0]!.length)
        look()
      }),
    ),
  )
})

// A shortage while loading, of whatever it is that is asked for in this call: what had been pinned stays, the rest is
// pageable, though there is plenty again afterwards. Layers that are fused lie where they did: they ask for nothing.
test.each([
  ['from the first slab on: eager, not an error', 'wrapModules'],
  ['while layers are fused: nothing is pinned anew', 'replaceParameters'],
  ['when all slabs are pinned: eager, not an error', 'postInit'],
] as const)('pinned memory that runs out %s', (_, call) => {
  const plenty = meminfo({ available: 2 ** 40, swapFree: 2 ** 40 })
  // Less than a layer, more than what goes to the device with them.
  const shortage = meminfo({ available: 128 * 1024, swapFree: 2 ** 40 })
  return withSystemFiles(plenty, (change) =>
    onDevice({}, async (device) => {
      const watched = watchSteps(offload, (steps) => {
        const { wrapModules, replaceParameters, postInit } = steps
        const during = async <T>(body: () => Promise<T>): Promise<T> => {
          change(shortage)
          const result = await body()
          change(plenty)
          return result
        }
        if (call === 'wrapModules') steps.wrapModules = (...args) => during(() => wrapModules.apply(steps, args))
        if (call === 'replaceParameters')
          steps.replaceParameters = (...args) => during(() => replaceParameters.apply(steps, args))
        if (call === 'postInit') {
          steps.postInit = async () => {
            const placed = await postInit.call(steps)
            // Until the logits have their memory, which is the last.
            change(meminfo({ available: 0, swapFree: 2 ** 40 }))
            return placed
          }
        }
      })
      await using model = await loadModel(directory, { device, offload: watched.offload, contextLength: 32 })
      change(plenty)
      const { pinnedBytes, pageableBytes } = device.counters()
      expect(await decodeSome(model)).toEqual(expected)
      if (call === 'wrapModules') expect(pinnedBytes).toBe(0)
      else expect(pinnedBytes).toBeGreaterThan(3 * layerBytes)
      if (call === 'replaceParameters') {
        expect(pageableBytes).toBe(0)
        expect(model.decodeGraph.graph).toBe(true)
        return
      }
      expect(pageableBytes).toBeGreaterThan(call === 'postInit' ? 0 : 3 * layerBytes)
      expect(model.stats().pinned).toEqual({ pin: false, reason: expect.stringContaining('MemAvailable') })
      expect(model.decodeGraph).toEqual({ graph: false, reason: expect.stringContaining('MemAvailable') })
      expect(device.counters().graphLaunches).toBe(0)
    }),
  )
})
