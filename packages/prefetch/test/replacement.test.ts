import { type PlacedModule, type Replacement, slabLayout, type TensorView } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import { failure, liveHandles, onDevice, pattern } from './device-rig.js'
import { load, model, parameter, seedOf, tensorBytes, withSteps } from './model-rig.js'

const call = { prefix: '' }
type Next = ReadonlyMap<string, Replacement | null>

for (const [where, config] of [
  ['on the host', { groupSize: 1 }],
  ['on the device', { groupSize: 2 }], // layers.0 stays resident
] as const) {
  describe(`replaceParameters of a layer ${where}`, () => {
    it('replaces, adds and deletes, keeps the rest byte for byte, and shrinks the slab', async () => {
      await onDevice({}, async (device) => {
        await withSteps(device, config, async (steps, compute) => {
          const placed = await steps.wrapModules(model(2), call)
          await load(device, placed, compute)
          const before = steps.stats()
          const fused = await device.allocateHost(512, { storage: 'pageable' })
          fused.write(pattern(200, 512))
          const view: TensorView = { buffer: fused, offset: 128, dtype: 'f16', shape: [3, 4], stride: [1, 3] }
          const next: Next = new Map<string, Replacement | null>([
            ['attention.weight', null],
            ['fused.weight', { tensor: view, use: 'linear' }],
          ])
          const module = await steps.replaceParameters('layers.0', next)
          expect([...module.parameters.keys()]).toEqual(['mlp.weight', 'fused.weight'])
          const made = module.parameters.get('fused.weight')!
          expect(made).toMatchObject({ dtype: 'f16', shape: [3, 4], stride: [1, 3], use: 'linear' })
          expect(made.storage).toBe(where === 'on the host' ? 'pinned' : 'device')
          expect(await tensorBytes(device, compute, made.tensor)).toEqual(pattern(200, 512).subarray(128, 128 + 24))
          const kept = module.parameters.get('mlp.weight')!
          expect(await tensorBytes(device, compute, kept.tensor)).toEqual(pattern(seedOf('layers.0', 'mlp.weight'), 66))
          expect(kept.tensor.buffer).toBe(made.tensor.buffer)
          expect(kept.tensor.buffer.bytes).toBe(slabLayout(module.spec.parameters).bytes)
          const change = 24 - 8 * 5 * 4
          const figure = where === 'on the host' ? 'offloadedBytes' : 'residentBytes'
          expect(steps.stats()).toEqual({ ...before, [figure]: before[figure] + change })
          await fused.dispose()
        })
      })
    })

    it('fuses its own parameters, reading the slab it replaces', async () => {
      await onDevice({}, async (device) => {
        await withSteps(device, config, async (steps, compute) => {
          const placed = await steps.wrapModules(model(2), call)
          await load(device, placed, compute)
          const { tensor } = placed.find(({ spec }) => spec.name === 'layers.0')!.parameters.get('attention.weight')!
          const rows: TensorView = { ...tensor, shape: [4, 5], offset: tensor.offset + 80 }
          const module = await steps.replaceParameters('layers.0', new Map([['half', { tensor: rows, use: 'linear' }]]))
          const half = await tensorBytes(device, compute, module.parameters.get('half')!.tensor)
          expect(half).toEqual(pattern(seedOf('layers.0', 'attention.weight'), 160).subarray(80, 160))
        })
      })
    })

    it('leaves the old parameters, and no handle, when a copy is refused', async () => {
      await onDevice({}, async (device) => {
        await withSteps(device, config, async (steps, compute) => {
          const placed = await steps.wrapModules(model(2), call)
          await load(device, placed, compute)
          const gone = await device.allocateHost(64, { storage: 'pinned' })
          await gone.dispose()
          const before = { stats: steps.stats(), handles: liveHandles(device), usedBytes: device.budget.usedBytes }
          const tensor: TensorView = { buffer: gone, offset: 0, dtype: 'u8', shape: [64], stride: [1] }
          await failure('SPILLWAY_DISPOSED', () =>
            steps.replaceParameters('layers.0', new Map([['mlp.weight', { tensor, use: 'linear' }]])),
          )
          expect({
            stats: steps.stats(),
            handles: liveHandles(device),
            usedBytes: device.budget.usedBytes,
          }).toEqual(before)
          const old = placed.find(({ spec }) => spec.name === 'layers.0')!.parameters.get('mlp.weight')!
          expect(await tensorBytes(device, compute, old.tensor)).toEqual(pattern(seedOf('layers.0', 'mlp.weight'), 66))
        })
      })
    })
  })
}

describe('replaceParameters', () => {
  it('refuses a module that was never placed', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        await failure('SPILLWAY_INVALID_ARGUMENT', () => steps.replaceParameters('nobody', new Map()))
      })
    })
  })

  it('takes a layer out of the ring that ends with no parameter, and one in that gets its first', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { prefetchStep: 1 }, async (steps) => {
        const empty = { name: 'layers.9', order: 50, role: 'layer', parameters: [] } as const
        await steps.wrapModules([...model(1), empty], call)
        const scratch = await device.allocateHost(1024, { storage: 'pinned' })
        const tensor: TensorView = { buffer: scratch, offset: 0, dtype: 'f32', shape: [32, 8], stride: [8, 1] }
        await steps.replaceParameters('layers.9', new Map([['weight', { tensor, use: 'linear' }]]))
        const emptied: PlacedModule = await steps.replaceParameters(
          'layers.0',
          new Map([
            ['attention.weight', null],
            ['mlp.weight', null],
          ]),
        )
        expect(emptied.parameters.size).toBe(0)
        expect(device.counters().pinnedBytes).toBe(2 * 1024) // the slab of layers.9, and scratch
        const ready = await steps.postInit()
        expect(steps.stats()).toMatchObject({ offloadedBytes: 1024, slotBytes: 1024 })
        expect(ready.find(({ spec }) => spec.name === 'layers.9')!.parameters.get('weight')!.tensor.offset).toBe(0)
        await scratch.dispose()
      })
    })
  })

  it('keeps a parameter on the device that others are tied to, when it is replaced', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        const specs = model(1)
        const tied = { ...parameter('weight', [33], { dtype: 'bf16' }), tiedTo: 'layers.0.mlp.weight' }
        await steps.wrapModules([...specs, { name: 'probe', order: 99, role: 'head', parameters: [tied] }], call)
        const scratch = await device.allocateHost(66, { storage: 'pinned' })
        const tensor: TensorView = { buffer: scratch, offset: 0, dtype: 'bf16', shape: [33], stride: [1] }
        const { parameters } = await steps.replaceParameters(
          'layers.0',
          new Map([['mlp.weight', { tensor, use: 'linear' }]]),
        )
        expect(parameters.get('mlp.weight')!.storage).toBe('device')
        expect(parameters.get('attention.weight')!.storage).toBe('pinned')
        await scratch.dispose()
      })
    })
  })
})
