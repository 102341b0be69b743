// Models that are fitted where each layer's memory is a piece of its own: what is left of pieces, slots must not need.
import { configure, createAutoBackend, createOffloader, type ModuleRole, type ModuleSpec } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { onDevice } from './device-rig.js'
import { parameter } from './model-rig.js'

const mebibyte = 2 ** 20

function module(name: string, order: number, mebibytes: number, role: ModuleRole = 'layer'): ModuleSpec {
  return { name, order, role, parameters: [parameter('weight', [mebibytes * mebibyte], { dtype: 'u8' })] }
}

const layers = (...mebibytes: readonly number[]): ModuleSpec[] =>
  mebibytes.map((size, i) => module(`layers.${i}`, i, size))

describe('layers that are segments of their own', () => {
  const layerBytes = 11 * mebibyte
  const bigLayers = layers(11, 11, 11, 11, 11)
  const bigPlan = { kvCacheBytes: 2 * mebibyte, workspaceBytes: 0, postLoadBytes: layerBytes }

  it('need room for slots or for loading, not for both', async () => {
    for (const [limit, count] of [
      [(5 + 1) * layerBytes + 2 * mebibyte, 0],
      // Four resident, none of two slots saved: no better. Three on the host save one.
      [(5 + 1) * layerBytes + 2 * mebibyte - 1, 1],
      [5 * layerBytes + 2 * mebibyte - 1, 3],
      [2 * layerBytes + 2 * mebibyte, 5],
    ] as const) {
      await onDevice({ memoryLimitBytes: limit }, async (device) => {
        const compute = device.createStream()
        const auto = createAutoBackend({ loadPrefetch: async () => prefetch, options: prefetch.options })
        const offloader = await createOffloader({ device, compute, backends: [configure(auto)], plan: bigPlan })
        await offloader.wrapModules(bigLayers)
        const cache = offloader
          .memory('kv_cache')
          .allocate(2 * mebibyte, { stream: compute, recovery: { kind: 'copy' } })
        for (const { spec, parameters } of offloader.modules.values()) {
          const { tensor, use } = parameters.get('weight')!
          compute.fill(tensor.buffer, spec.order)
          await offloader.replaceParameters(spec.name, new Map([['weight', { tensor, use }]]))
        }
        await offloader.postInit()
        expect(offloader.stats()).toMatchObject({
          offloadedBytes: count * layerBytes,
          residentBytes: (5 - count) * layerBytes,
          slotBytes: Math.min(2, count) * layerBytes,
        })
        expect(device.counters().pinnedBytes).toBe(count * layerBytes)
        expect(device.budget.peakBytes).toBeLessThanOrEqual(limit)
        await cache.dispose()
        await offloader.dispose()
        await compute.dispose()
      })
    }
  })
})

describe('modules of several sizes', () => {
  /** Places them and replaces each, a head by less; returns how many pieces of memory the device took for that. */
  async function replaceAll(specs: readonly ModuleSpec[], mebibytes: number): Promise<number> {
    let taken = 0
    await onDevice({ memoryLimitBytes: mebibytes * mebibyte }, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch)] })
      await offloader.wrapModules(specs)
      const before = device.memoryStats().segmentsCreated
      for (const { spec, parameters } of [...offloader.modules.values()]) {
        const { tensor, use } = parameters.get('weight')!
        if (tensor.buffer.kind === 'device-buffer') compute.fill(tensor.buffer, 1)
        const shape = spec.role === 'head' ? [11 * mebibyte] : tensor.shape
        await offloader.replaceParameters(spec.name, new Map([['weight', { tensor: { ...tensor, shape }, use }]]))
      }
      taken = device.memoryStats().segmentsCreated - before
      await offloader.postInit()
      const { offloadedBytes, residentBytes } = offloader.stats()
      expect(Math.min(offloadedBytes, residentBytes)).toBeGreaterThan(0)
      const { reservedBytes, liveBytes } = device.memoryStats()
      expect(reservedBytes - liveBytes).toBeLessThan(mebibyte)
      expect(device.budget.peakBytes).toBeLessThanOrEqual(mebibytes * mebibyte)
      await offloader.dispose()
      await compute.dispose()
    })
    return taken
  }

  // A small one that stays, in a piece that a large one came up in, would keep the rest of it from the slots.
  it('have the slots that were planned, after all of them were replaced', async () => {
    await replaceAll(layers(30, 12, 30, 12, 30, 12), 108)
  })

  // It leaves the rest of a piece that only others as small could share.
  it('have the slots that were planned beside a small one, where not a byte is to spare', async () => {
    const specs = [module('embed', -1, 2.25, 'embedding'), ...layers(30, 30, 30, 30, 30, 30)]
    await replaceAll(specs, 2.25 + 3 * 30 + 2 * 30)
  })

  // In the piece that a larger one was in before, a slab or a slot would keep the rest of it from everybody.
  it.each([-1, 6])('leave no rest of a larger one that shrinks, at %i', async (order) => {
    const specs = [...layers(12, 12, 12, 12, 12, 12), module('head', order, 40, 'head')]
    await replaceAll(
      specs.sort((a, b) => a.order - b.order),
      40 + 3 * 12 + 2 * 40,
    )
  })

  it('take no new memory where all have one size', async () => {
    expect(await replaceAll(layers(12, 12, 12, 12, 12, 12), 66)).toBeLessThanOrEqual(2)
  })
})

it('modules of a later call leave room for the slots of those before', async () => {
  await onDevice({ memoryLimitBytes: 60 * mebibyte }, async (device) => {
    const compute = device.createStream()
    const plan = { kvCacheBytes: 0, workspaceBytes: 0, postLoadBytes: 0 }
    const offloader = await createOffloader({ device, compute, backends: [configure(prefetch)], plan })
    const all = layers(12, 12, 12, 12, 12, 12, 12, 12)
    // Three layers stay, two slots are to come: nothing is left for two more layers.
    await offloader.wrapModules(all.slice(0, 6))
    await offloader.wrapModules(all.slice(6))
    await offloader.postInit()
    expect(offloader.stats()).toMatchObject({
      offloadedBytes: 5 * 12 * mebibyte,
      residentBytes: 3 * 12 * mebibyte,
      slotBytes: 2 * 12 * mebibyte,
    })
    expect(device.budget.peakBytes).toBe(60 * mebibyte)
    await offloader.dispose()
    await compute.dispose()
  })
})
