// Pinned or pageable, decided once, in a whole engine: slabs, staging memory of loaders, inputs and outputs; and what the
// engine makes of it.
import { fileURLToPath } from 'node:url'
import { configure, createOffloader } from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { type Decoded, decode } from '../../packages/decoder/test/decoded-logits.js'
import { meminfo, withSystemFiles } from '../../packages/device/test/memory-limits.js'
import { pattern } from '../../packages/prefetch/test/device-rig.js'
import { load, model as modelSpecs, seedOf } from '../../packages/prefetch/test/model-rig.js'
import { watchSteps } from './watched-steps.js'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const prompt = [0, 5, 6, 7, 8]
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const variables = ['SPILLWAY_DISABLE_PIN_MEMORY', 'VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY'] as const
const bigBytes = 2 ** 18
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
// pageable, though there is plenty again afterwards.
test.each([
  ['from the first slab on', 'wrapModules'],
  ['when all slabs are pinned', 'postInit'],
] as const)('pinned memory that runs out %s: eager, not an error', (_, call) => {
  const plenty = meminfo({ available: 2 ** 40, swapFree: 2 ** 40 })
  // Less than a layer, more than what goes to the device with them.
  const shortage = meminfo({ available: 128 * 1024, swapFree: 2 ** 40 })
  return withSystemFiles(plenty, (change) =>
    onDevice({}, async (device) => {
      const watched = watchSteps(offload, (steps) => {
        const { wrapModules, postInit } = steps
        if (call === 'wrapModules') {
          steps.wrapModules = async (...args) => {
            change(shortage)
            const placed = await wrapModules.apply(steps, args)
            change(plenty)
            return placed
          }
        } else {
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
      expect(pageableBytes).toBeGreaterThan(call === 'postInit' ? 0 : layerBytes)
      expect(pinnedBytes > 0).toBe(call !== 'wrapModules')
      if (call === 'postInit') expect(pinnedBytes).toBeGreaterThan(3 * layerBytes)
      expect(model.stats().pinned).toEqual({ pin: false, reason: expect.stringContaining('MemAvailable') })
      expect(model.decodeGraph).toEqual({ graph: false, reason: expect.stringContaining('MemAvailable') })
      expect(await decodeSome(model)).toEqual(expected)
      expect(device.counters().graphLaunches).toBe(0)
    }),
  )
})

test('a slab that is allocated again and cannot be pinned: it and what comes after are pageable, the rest is not', () => {
  const swapFree = 2 ** 40
  return withSystemFiles(meminfo({ available: 2 ** 40, swapFree }), (change) =>
    onDevice({}, async (device) => {
      await using compute = device.createStream()
      const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 1 })]
      await using offloader = await createOffloader({ device, compute, backends })
      await offloader.wrapModules(modelSpecs(4))
      await load(device, offloader.modules.values(), compute)
      // What the backend takes of the device meanwhile is there already.
      await device.allocate(8 * bigBytes, { tag: 'cached' }).dispose()
      const replace = async (layer: number): Promise<void> => {
        await using scratch = await device.allocateHost(bigBytes, { storage: 'pageable' })
        scratch.write(pattern(layer, bigBytes))
        const tensor = { buffer: scratch, offset: 0, dtype: 'u8', shape: [bigBytes], stride: [1] } as const
        await offloader.replaceParameters(`layers.${layer}`, new Map([['big', { tensor, use: 'other' as const }]]))
      }
      change(meminfo({ available: 64 * 1024, swapFree }))
      await replace(1)
      change(meminfo({ available: 2 ** 40, swapFree }))
      await replace(2)
      const storages = (): (string | undefined)[] =>
        [0, 1, 2, 3].map((i) => offloader.modules.get(`layers.${i}`)!.parameters.get('mlp.weight')?.storage)
      expect(storages()).toEqual(['pinned', 'pageable', 'pageable', 'pinned'])
      await offloader.postInit()
      expect(storages()).toEqual(['pinned', 'pageable', 'pageable', 'pinned'])
      const { pinnedBytes, pageableBytes } = device.counters()
      expect(pinnedBytes).toBeGreaterThan(0)
      expect(pinnedBytes).toBeLessThan(bigBytes)
      expect(pageableBytes).toBeGreaterThanOrEqual(2 * bigBytes)
      expect(offloader.stats().pinned).toEqual({ pin: false, reason: expect.stringContaining('MemAvailable') })

      await using seen = await device.allocateHost(4 * bigBytes, { storage: 'pageable' })
      offloader.forward(compute, ({ before, after }) => {
        for (let i = 0; i < 4; i++) {
          const { tensor } = offloader.modules
            .get(`layers.${i}`)!
            .parameters.get(i === 1 || i === 2 ? 'big' : 'mlp.weight')!
          const bytes = i === 1 || i === 2 ? bigBytes : 66
          before(`layers.${i}`)
          compute.copy(seen, tensor.buffer, { toOffset: i * bigBytes, fromOffset: tensor.offset, bytes })
          after(`layers.${i}`)
        }
      })
      await compute.synchronize()
      for (const i of [1, 2]) expect(seen.read(i * bigBytes, bigBytes)).toEqual(pattern(i, bigBytes))
      for (const i of [0, 3])
        expect(seen.read(i * bigBytes, 66)).toEqual(pattern(seedOf(`layers.${i}`, 'mlp.weight'), 66))
      compute.beginCapture()
      expect(() => offloader.beginForward(compute)).toThrow(/unpinned host memory cannot be copied inside a capture/)
      await compute.endCapture().dispose()
    }),
  )
})
