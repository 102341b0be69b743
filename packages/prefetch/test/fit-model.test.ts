// Fitting a model into a device, over a real one: what is placed, what it takes, and that it takes no more.
import {
  type ConfiguredBackend,
  configure,
  createAutoBackend,
  createOffloader,
  extentBytes,
  type ModuleSpec,
  type Offloader,
  type ParameterSpec,
  type Stream,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { expectNothingLeft, failure, onDevice, pattern } from './device-rig.js'
import { load, parameter, readParameters, seedOf, withSteps } from './model-rig.js'

const page = 4096

/** An embedding of 4 pages and layers of 3: 2 for `mlp.weight`, 1 for `attention.weight`. */
function model(layers: number): ModuleSpec[] {
  const bytes = (name: string, size: number): ParameterSpec => parameter(name, [size], { dtype: 'u8' })
  return [
    { name: 'embed', order: 0, role: 'embedding', parameters: [bytes('weight', 4 * page)] },
    ...Array.from({ length: layers }, (_, i): ModuleSpec => {
      const parameters = [bytes('mlp.weight', 2 * page), bytes('attention.weight', page)]
      return { name: `layers.${i}`, order: 1 + i, role: 'layer', parameters }
    }),
  ]
}

const plan = { kvCacheBytes: 5 * page, workspaceBytes: page, postLoadBytes: 3 * page }
const layerCount = 8
const weightPages = 4 + 3 * layerCount
/** What everything on the device takes, at its most. */
const residentPages = weightPages + 5 + 1 + 3

interface Placed {
  readonly offloader: Offloader
  readonly compute: Stream
  /** Names of the modules with something on the host, in the order of the forward. */
  readonly onHost: readonly string[]
}

/** Places, loads and runs a model where `pages` are free; caches and workspace are taken too, as an engine would. */
async function withModel(
  pages: number,
  backend: ConfiguredBackend,
  body: (placed: Placed, device: NativeDevice) => Promise<void>,
): Promise<void> {
  await onDevice({ memoryLimitBytes: pages * page }, async (device) => {
    const compute = device.createStream()
    const offloader = await createOffloader({ device, compute, backends: [backend], plan })
    try {
      await offloader.wrapModules(model(layerCount))
      const take = (tag: string, bytes: number) =>
        offloader.memory(tag).allocate(bytes, { stream: compute, recovery: { kind: 'copy' } })
      const caches = [take('kv_cache', plan.kvCacheBytes), take('workspace', plan.workspaceBytes)]
      // Post-load processing of every layer, one after another, takes what the plan says and no more.
      await load(device, offloader.modules.values(), compute)
      for (const { spec, parameters } of offloader.modules.values()) {
        if (spec.role !== 'layer') continue
        const { tensor, use } = parameters.get('mlp.weight')!
        await offloader.replaceParameters(spec.name, new Map([['mlp.weight', { tensor, use }]]))
      }
      await offloader.postInit()
      const onHost = [...offloader.modules]
        .filter(([, { parameters }]) => [...parameters.values()].some(({ storage }) => storage === 'pinned'))
        .map(([name]) => name)
      await body({ offloader, compute, onHost }, device)
      await Promise.all(caches.map((buffer) => buffer.dispose()))
    } finally {
      await offloader.dispose()
      await compute.dispose()
    }
    await expectNothingLeft(device)
  })
}

/** A forward that reads every parameter, each held against its own bytes; returns the bytes copied into slots for it. */
async function forward({ offloader, compute }: Placed, device: NativeDevice): Promise<number> {
  const before = device.counters().hostToDeviceBytesByTag.weights ?? 0
  await using host = await device.allocateHost(weightPages * page, { storage: 'pinned' })
  const checks: (() => void)[] = []
  let used = 0
  offloader.forward(compute, (scope) => {
    for (const [module, { parameters }] of offloader.modules) {
      scope.before(module)
      for (const { name, tensor } of parameters.values()) {
        const at = used
        const bytes = extentBytes(tensor)
        used += bytes
        compute.copy(host, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
        checks.push(() =>
          expect(Buffer.from(host.read(at, bytes)).equals(pattern(seedOf(module, name), bytes))).toBe(true),
        )
      }
      scope.after(module)
    }
  })
  await offloader.settledStats()
  for (const check of checks) check()
  expect(used).toBe(weightPages * page)
  return (device.counters().hostToDeviceBytesByTag.weights ?? 0) - before
}

describe('without a group size', () => {
  it('offloads as little as fits, evenly, and takes what was planned and no more', async () => {
    // With one layer on the host, or two, slots take what the layers took, besides what loading took: pieces as small as
    // these may not come back whole. From the third on each frees 3 pages.
    for (const [missing, layers] of [
      [1, [1, 4, 7]],
      [3, [1, 4, 7]],
      [4, [1, 3, 5, 7]],
      [18, [0, 1, 2, 3, 4, 5, 6, 7]],
    ] as const) {
      await withModel(residentPages - missing, configure(prefetch), async (placed, device) => {
        const count = layers.length
        expect(placed.onHost, `${missing} pages too few`).toEqual(layers.map((i) => `layers.${i}`))
        const stats = placed.offloader.stats()
        expect(stats).toMatchObject({
          offloadedBytes: count * 3 * page,
          residentBytes: (weightPages - 3 * count) * page,
          slotBytes: Math.min(2, count) * 3 * page,
        })
        expect(device.counters().pinnedBytes).toBe(count * 3 * page)
        expect(device.budget.peakBytes).toBeLessThanOrEqual((residentPages - missing) * page)
        await forward(placed, device)
        // Each offloaded layer once a forward, unless it has its slot for itself.
        const copied = [...Array(count).keys()].filter((i) => i >= 2 || i + 2 < count).length * 3 * page
        expect(await forward(placed, device)).toBe(copied)
      })
    }
  })

  it('is an error that says so when everything fits', async () => {
    const place = withModel(residentPages, configure(prefetch), async () => {})
    const error = await failure('SPILLWAY_NOTHING_OFFLOADED', () => place)
    expect(error.message).toMatch(/148 KiB of 148 KiB.*auto or none.*--offload-group-size.*--device-memory/)
  })

  it('is an error when there is no layer at all', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch)] })
      await offloader.wrapModules(model(0))
      const error = await failure('SPILLWAY_NOTHING_OFFLOADED', () => offloader.postInit())
      expect(error.message).toContain('no module with the role layer')
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('is an error with numbers when nothing fits', async () => {
    // Embedding, caches and workspace take 10 pages, loading 3, one slot 3.
    const place = withModel(15, configure(prefetch), async () => {})
    const error = await failure('SPILLWAY_OUT_OF_MEMORY', () => place)
    expect(error.details).toMatchObject({ requestedBytes: 16 * page, freeBytes: 15 * page, slotBytes: 3 * page })
    const seen: (Error & { code?: string })[] = []
    const listen = (warning: Error): number => seen.push(warning)
    process.on('warning', listen)
    await withModel(16, configure(prefetch), async (placed, device) => {
      expect(placed.offloader.stats().slotBytes).toBe(3 * page)
      await forward(placed, device)
      expect(await forward(placed, device)).toBe(8 * 3 * page)
    })
    process.off('warning', listen)
    expect(seen.map(({ code }) => code)).toEqual(['SPILLWAY_PREFETCH_STEP'])
    expect(seen[0]!.message).toMatch(/2 slots do not fit into the 64 KiB.*one of 12 KiB/)
    await failure('SPILLWAY_OUT_OF_MEMORY', () =>
      withModel(16, configure(prefetch, { prefetchStep: 2 }), async () => {}),
    )
  })

  it('offloads only what a pattern names, of more layers', async () => {
    const backend = configure(prefetch, { params: ['mlp'] })
    await withModel(residentPages - 3, backend, async (placed, device) => {
      // Each frees 2 pages, and two slots take 4.
      expect(placed.onHost).toEqual(['layers.1', 'layers.3', 'layers.5', 'layers.7'])
      const { parameters } = placed.offloader.modules.get(placed.onHost[0]!)!
      expect(parameters.get('mlp.weight')!.storage).toBe('pinned')
      expect(parameters.get('attention.weight')!.storage).toBe('device')
      expect(device.counters().pinnedBytes).toBe(placed.onHost.length * 2 * page)
      await forward(placed, device)
    })
  })

  it('is what auto decides for when not everything fits', async () => {
    const auto = createAutoBackend({ loadPrefetch: async () => prefetch, options: prefetch.options })
    await withModel(residentPages, configure(auto), async ({ offloader, onHost }) => {
      expect(offloader.names).toEqual(['auto (none)'])
      expect(onHost).toEqual([])
    })
    await withModel(residentPages - 1, configure(auto), async (placed, device) => {
      expect(placed.offloader.names).toEqual(['auto (prefetch)'])
      expect(placed.onHost.length).toBeGreaterThan(0)
      expect(device.budget.peakBytes).toBeLessThanOrEqual((residentPages - 1) * page)
      await forward(placed, device)
    })
  })
})

describe('params', () => {
  it('offload the named parameters of grouped layers, and modules that are named', async () => {
    const backend = configure(prefetch, { groupSize: 2, params: ['attention', 'embed'] })
    await withModel(residentPages, backend, async (placed, device) => {
      expect(placed.onHost).toEqual(['embed', 'layers.1', 'layers.3', 'layers.5', 'layers.7'])
      expect(placed.offloader.stats()).toMatchObject({ offloadedBytes: 8 * page, slotBytes: 5 * page })
      expect(device.counters().pinnedBytes).toBe(8 * page)
      await forward(placed, device)
      expect(await forward(placed, device)).toBe(8 * page)
    })
  })

  it('are an error when one of them matches nothing', async () => {
    for (const groupSize of [0, 1]) {
      const backend = configure(prefetch, { groupSize, params: ['mlp', 'atention'] })
      const error = await failure('SPILLWAY_PATTERN_UNMATCHED', () => withModel(20, backend, async () => {}))
      expect(error.message).toMatch(/atention.*did you mean attention\?/)
    }
  })

  it('are one too where no call has layers, in the end: others may have come', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { params: ['embed', 'layers'] }, async (steps) => {
        await steps.wrapModules(model(0), { prefix: '' })
        await failure('SPILLWAY_PATTERN_UNMATCHED', () => steps.postInit())
      })
    })
  })

  it('have matched nothing in a call that failed', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { groupSize: 1, params: ['embed', 'mlp'] }, async (steps) => {
        const [embedding, ...layers] = model(2)
        const aborted = { prefix: '', signal: AbortSignal.abort() }
        await failure('SPILLWAY_ABORTED', () => steps.wrapModules([embedding!], aborted))
        await failure('SPILLWAY_PATTERN_UNMATCHED', () => steps.wrapModules(layers, { prefix: '' }))
        await steps.wrapModules([embedding!], { prefix: '' })
        await steps.wrapModules(layers, { prefix: '' })
      })
    })
  })
})

describe('replaced parameters', () => {
  const backends = [configure(prefetch, { groupSize: 1, params: ['mlp'] })]

  it('stay on the host under a new name that no pattern matches, and leave what is resident where it is', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends })
      await offloader.wrapModules(model(2))
      await load(device, offloader.modules.values(), compute)
      const { usedBytes, peakBytes } = device.budget
      const before = offloader.modules.get('layers.0')!.parameters
      const { tensor, use } = before.get('mlp.weight')!
      const next = new Map([
        ['mlp.weight', null],
        ['fused.weight', { tensor, use }],
      ])
      const { parameters } = await offloader.replaceParameters('layers.0', next)
      expect(parameters.get('fused.weight')!.storage).toBe('pinned')
      const resident = parameters.get('attention.weight')!
      expect(resident.storage).toBe('device')
      expect(resident.tensor.buffer).toBe(before.get('attention.weight')!.tensor.buffer)
      expect(device.budget.usedBytes).toBe(usedBytes)
      // The old slab and the new one, while there are no slots.
      expect(device.budget.peakBytes).toBe(peakBytes + 2 * 2 * page)
      await offloader.postInit()
      expect(device.counters().pinnedBytes).toBe(2 * 2 * page)
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('leave what they do not concern alone when they fail', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { params: ['mlp'] }, async (steps, compute) => {
        const placed = await steps.wrapModules(model(2), { prefix: '' })
        await load(device, placed, compute)
        const gone = await device.allocateHost(page, { storage: 'pinned' })
        await gone.dispose()
        const tensor = { buffer: gone, offset: 0, dtype: 'u8', shape: [page], stride: [1] } as const
        const { usedBytes } = device.budget
        for (const name of ['mlp.weight', 'attention.weight']) {
          const next = new Map([[name, { tensor, use: 'linear' as const }]])
          await failure('SPILLWAY_DISPOSED', () => steps.replaceParameters('layers.0', next))
          expect(device.budget.usedBytes).toBe(usedBytes)
          expect(device.counters().pinnedBytes).toBe(2 * 2 * page)
        }
        await readParameters(device, await steps.postInit(), steps, compute)
      })
    })
  })
})
