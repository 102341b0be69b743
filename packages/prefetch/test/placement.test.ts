import { extentBytes, type PlacedModule, slabLayout } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import { failure, onDevice } from './device-rig.js'
import { model, parameter, withSteps } from './model-rig.js'

const call = { prefix: '' }
const storages = (modules: readonly PlacedModule[]): Record<string, string> =>
  Object.fromEntries(
    modules.flatMap(({ spec, parameters }) =>
      [...parameters.values()].map(({ name, storage }) => [`${spec.name}.${name}`, storage]),
    ),
  )
const bytesOf = ({ parameters }: PlacedModule): number =>
  [...parameters.values()].reduce((sum, { tensor }) => sum + extentBytes(tensor), 0)

describe('wrapModules', () => {
  it('puts selected layers into host slabs of exact size, the rest on the device, and says so', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { groupSize: 2 }, async (steps) => {
        const placed = await steps.wrapModules(model(4), call)
        expect(storages(placed)).toEqual({
          'embed.weight': 'device',
          'layers.0.attention.weight': 'device',
          'layers.0.mlp.weight': 'device',
          'layers.1.attention.weight': 'pinned',
          'layers.1.mlp.weight': 'pinned',
          'layers.2.attention.weight': 'device',
          'layers.2.mlp.weight': 'device',
          'layers.3.attention.weight': 'pinned',
          'layers.3.mlp.weight': 'pinned',
          'norm.weight': 'device',
        })
        const offloaded = placed.filter(({ spec }) => ['layers.1', 'layers.3'].includes(spec.name))
        const slabBytes = offloaded.map(({ spec }) => slabLayout(spec.parameters).bytes)
        expect(device.counters().pinnedBytes).toBe(slabBytes[0]! + slabBytes[1]!)
        for (const { parameters } of placed) {
          const buffers = new Set([...parameters.values()].map(({ tensor }) => tensor.buffer))
          expect(buffers.size).toBeLessThanOrEqual(1)
        }
        expect(steps.stats()).toEqual({
          offloadedBytes: offloaded.reduce((sum, module) => sum + bytesOf(module), 0),
          residentBytes:
            placed.reduce((sum, module) => sum + bytesOf(module), 0) - bytesOf(offloaded[0]!) - bytesOf(offloaded[1]!),
          slotBytes: 0,
          onloadedBytes: 0,
        })
      })
    })
  })

  it('says pageable where memory is not pinned', async () => {
    await onDevice({}, async (device) => {
      await withSteps(
        device,
        {},
        async (steps) => {
          const placed = await steps.wrapModules(model(1), call)
          expect(storages(placed)['layers.0.mlp.weight']).toBe('pageable')
          expect(device.counters().pinnedBytes).toBe(0)
        },
        { host: { allocate: (bytes) => device.allocateHost(bytes, { storage: 'pageable' }) } },
      )
    })
  })

  it('keeps a parameter on the device that another module is tied to, and only that one', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        const specs = model(2)
        const tied = { ...parameter('weight', [33], { dtype: 'bf16' }), tiedTo: 'layers.0.mlp.weight' }
        specs.push({ name: 'probe', order: 99, role: 'head', parameters: [tied] })
        const placed = storages(await steps.wrapModules(specs, call))
        expect(placed['layers.0.mlp.weight']).toBe('device')
        expect(placed['layers.0.attention.weight']).toBe('pinned')
        expect(placed['layers.1.mlp.weight']).toBe('pinned')
        expect(Object.keys(placed)).not.toContain('probe.weight') // core adds what is tied
      })
    })
  })

  it('offloads a parameter that its own module reads under two names', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        const parameters = [parameter('a', [4]), { ...parameter('b', [4]), tiedTo: 'layers.0.a' }]
        const placed = await steps.wrapModules([{ name: 'layers.0', order: 0, role: 'layer', parameters }], call)
        expect(storages(placed)).toEqual({ 'layers.0.a': 'pinned' })
      })
    })
  })

  it('refuses a tie to a parameter that an earlier call has offloaded', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        await steps.wrapModules(model(1), call)
        const tied = { ...parameter('weight', [33], { dtype: 'bf16' }), tiedTo: 'layers.0.mlp.weight' }
        const late = { name: 'probe', order: 99, role: 'head', parameters: [tied] } as const
        const error = await failure('SPILLWAY_INVALID_SPEC', () => steps.wrapModules([late], call))
        expect(error.message).toContain('layers.0.mlp.weight')
        const { mlp } = { mlp: new Map([['extra', { tiedTo: 'layers.0.mlp.weight', use: 'linear' }]] as const) }
        await failure('SPILLWAY_INVALID_SPEC', () => steps.replaceParameters('embed', mlp))
      })
    })
  })

  it('takes no ring index and no memory for a layer that owns nothing', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { prefetchStep: 1 }, async (steps) => {
        const empty = { name: 'layers.8', order: 50, role: 'layer', parameters: [] } as const
        await steps.wrapModules([...model(2), empty], call)
        const ready = await steps.postInit()
        expect(ready.find(({ spec }) => spec.name === 'layers.8')!.parameters.size).toBe(0)
        const slots = new Set(
          ready.flatMap(({ spec, parameters }) =>
            spec.role === 'layer' ? [...parameters.values()].map(({ tensor }) => tensor.buffer) : [],
          ),
        )
        expect(slots.size).toBe(1)
      })
    })
  })

  it('takes parameters without elements, odd strides and scalars', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { prefetchStep: 1 }, async (steps) => {
        const parameters = [
          parameter('empty', [0, 8]),
          parameter('scalar', []),
          parameter('transposed', [3, 5], { stride: [1, 3] }),
          parameter('spread', [3, 2], { stride: [7, 2], dtype: 'u8' }),
        ]
        const layer = { name: 'layers.0', order: 0, role: 'layer', parameters } as const
        const nothing = { name: 'layers.1', order: 1, role: 'layer', parameters: [parameter('empty', [0])] } as const
        const placed = await steps.wrapModules([layer, nothing], call)
        const ready = await steps.postInit()
        for (const modules of [placed, ready]) {
          for (const { name, shape, stride, tensor } of modules[0]!.parameters.values()) {
            const spec = parameters.find((wanted) => wanted.name === name)!
            expect({ shape, stride, tensorShape: tensor.shape, tensorStride: tensor.stride }).toEqual({
              shape: spec.shape,
              stride: spec.stride,
              tensorShape: spec.shape,
              tensorStride: spec.stride,
            })
          }
        }
        expect(steps.stats().offloadedBytes).toBe(4 + 15 * 4 + 17)
      })
    })
  })
})

describe('postInit', () => {
  it('gives kernels a view in the slot at the offset of the slab, for every number of slots', async () => {
    for (const prefetchStep of [1, 2, 3, 8]) {
      await onDevice({}, async (device) => {
        await withSteps(device, { prefetchStep }, async (steps) => {
          const placed = await steps.wrapModules(model(5), call)
          const ready = await steps.postInit()
          expect(ready.map(({ spec }) => spec.name)).toEqual(placed.map(({ spec }) => spec.name))
          const slots = ready.flatMap(({ spec, parameters }, i) => {
            if (spec.role !== 'layer') return []
            for (const { name, storage, tensor } of parameters.values()) {
              expect(storage).toBe('pinned')
              expect(tensor.buffer.kind).toBe('device-buffer')
              expect(tensor.offset).toBe(placed[i]!.parameters.get(name)!.tensor.offset)
            }
            return [parameters.values().next().value!.tensor.buffer]
          })
          const distinct = Math.min(prefetchStep, 5)
          expect(new Set(slots).size).toBe(distinct)
          for (const [i, slot] of slots.entries()) expect(slot).toBe(slots[i % distinct])
          // A slot is as large as the largest slab that passes through it, not larger.
          const slabs = ready
            .filter(({ spec }) => spec.role === 'layer')
            .map(({ spec }) => slabLayout(spec.parameters).bytes)
          const sizes = slots.slice(0, distinct).map((slot) => slot.bytes)
          expect(sizes).toEqual(sizes.map((_, k) => Math.max(...slabs.filter((_, i) => i % distinct === k))))
          expect(steps.stats().slotBytes).toBe(sizes.reduce((sum, bytes) => sum + bytes, 0))
          // Resident modules stay where they were.
          expect(ready[0]!.parameters.get('weight')!.tensor).toEqual(placed[0]!.parameters.get('weight')!.tensor)
        })
      })
    }
  })
})
