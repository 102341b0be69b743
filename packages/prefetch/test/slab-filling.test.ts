// How replaced parameters get to their slabs: over which ways, from any place, and what stands when it fails.
import {
  contiguousStride,
  type DType,
  dtypeBytes,
  extentBytes,
  type MemorySource,
  type ModuleSpec,
  type OffloaderSteps,
  type ParameterSpec,
  type PlacedModule,
  type Replacement,
  SpillwayError,
  type Stream,
  type TensorView,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { describe, expect, it, vi } from 'vitest'
import { Random } from '../../../tests/order/random.js'
import { liveHandles, onDevice, pattern } from './device-rig.js'
import { load, model, parameter, seedOf, tensorBytes, withSteps } from './model-rig.js'

const call = { prefix: '' }

type Next = ReadonlyMap<string, Replacement | null>

function counts(device: NativeDevice) {
  const { hostToDeviceBytes, deviceToHostBytes, hostToHostBytes, launches, pinnedBytes } = device.counters()
  return { hostToDeviceBytes, deviceToHostBytes, hostToHostBytes, launches, pinnedBytes }
}

/** Swaps the two parameters of a layer of `model`, which keeps the size of its slab; where both lie, as they are. */
function swapped({ parameters }: PlacedModule): Next {
  const [attention, mlp] = [...parameters.values()]
  return new Map([
    ['attention.weight', null],
    ['mlp.weight', null],
    ['z.mlp', { tensor: mlp!.tensor, use: 'linear' }],
    ['a.attention', { tensor: attention!.tensor, use: 'linear' }],
  ])
}

describe('a layer on the host', () => {
  const sameSize: ModuleSpec[] = model(3).map((spec) =>
    spec.role === 'layer'
      ? { ...spec, parameters: [parameter('attention.weight', [64]), parameter('mlp.weight', [32, 2])] }
      : spec,
  )

  it('of the same size comes up whole, is taken apart by one launch, and goes down into the same memory', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { groupSize: 1 }, async (steps, compute) => {
        const placed = (await steps.wrapModules(sameSize, call)).find(({ spec }) => spec.name === 'layers.1')!
        await load(device, [placed], compute)
        const slab = placed.parameters.get('mlp.weight')!.tensor.buffer
        const before = counts(device)
        const { parameters } = await steps.replaceParameters('layers.1', swapped(placed))
        expect(counts(device)).toEqual({
          ...before,
          hostToDeviceBytes: before.hostToDeviceBytes + slab.bytes,
          deviceToHostBytes: before.deviceToHostBytes + slab.bytes,
          launches: before.launches + 1,
        })
        expect([...parameters.values()].map(({ name, tensor }) => [name, tensor.offset])).toEqual([
          ['z.mlp', 0],
          ['a.attention', 256],
        ])
        for (const [name, was] of [
          ['z.mlp', 'mlp.weight'],
          ['a.attention', 'attention.weight'],
        ] as const) {
          expect(parameters.get(name)!.tensor.buffer).toBe(slab)
          const bytes = await tensorBytes(device, compute, parameters.get(name)!.tensor)
          expect(bytes).toEqual(pattern(seedOf('layers.1', was), 256))
        }
      })
    })
  })

  it('comes up tensor by tensor where there is to be one slot: then nothing is left to move', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, { groupSize: 1, prefetchStep: 1 }, async (steps, compute) => {
        const placed = (await steps.wrapModules(sameSize, call)).find(({ spec }) => spec.name === 'layers.1')!
        await load(device, [placed], compute)
        const before = counts(device)
        const { parameters } = await steps.replaceParameters('layers.1', swapped(placed))
        expect(counts(device).launches).toBe(before.launches)
        expect(counts(device).hostToDeviceBytes - before.hostToDeviceBytes).toBe(512)
        const bytes = await tensorBytes(device, compute, parameters.get('a.attention')!.tensor)
        expect(bytes).toEqual(pattern(seedOf('layers.1', 'attention.weight'), 256))
      })
    })
  })

  it('comes up tensor by tensor where room for all of it turns out to lie in pieces', async () => {
    await onDevice({}, async (device) => {
      let staged = 0
      const memory = (tag: string): MemorySource => ({
        tag,
        allocate(bytes, { stream }) {
          if (tag === 'workspace' && ++staged === 2) throw new SpillwayError('SPILLWAY_OUT_OF_MEMORY', 'in pieces')
          return device.allocate(bytes, { tag, stream })
        },
      })
      const replace = async (steps: OffloaderSteps, compute: Stream): Promise<void> => {
        const placed = (await steps.wrapModules(sameSize, call)).find(({ spec }) => spec.name === 'layers.1')!
        await load(device, [placed], compute)
        const { launches } = counts(device)
        const { parameters } = await steps.replaceParameters('layers.1', swapped(placed))
        expect(counts(device).launches).toBe(launches)
        const bytes = await tensorBytes(device, compute, parameters.get('a.attention')!.tensor)
        expect(bytes).toEqual(pattern(seedOf('layers.1', 'attention.weight'), 256))
      }
      await withSteps(device, { groupSize: 1 }, replace, { memory })
      expect(staged).toBe(2)
    })
  })
})

/** Strides of every kind that a slab must keep. */
const layouts: readonly Omit<TensorView, 'buffer' | 'offset'>[] = [
  { dtype: 'f32', shape: [9, 16], stride: [16, 1] },
  { dtype: 'bf16', shape: [33], stride: [1] },
  { dtype: 'f16', shape: [5, 7], stride: [1, 5] },
  { dtype: 'i8', shape: [6, 5], stride: [11, 1] },
  { dtype: 'f64', shape: [3, 4, 5], stride: [100, 25, 3] },
  { dtype: 'bf16', shape: [9, 3], stride: [0, 1] },
  { dtype: 'f8e4m3', shape: [3000], stride: [1] },
  { dtype: 'bool', shape: [1], stride: [1] },
  { dtype: 'i32', shape: [], stride: [] },
  { dtype: 'u8', shape: [0, 7], stride: [7, 1] },
]

interface RandomRun {
  readonly device: NativeDevice
  readonly steps: OffloaderSteps
  readonly compute: Stream
  readonly random: Random
  /** Elements of every parameter, by `module.parameter`. */
  readonly contents: Map<string, Uint8Array>
}

/** A replacement of a module's parameters, from places of every kind, some of them the module's own or a neighbour's. */
async function randomReplacement(run: RandomRun, module: PlacedModule, neighbour: PlacedModule) {
  const { device, compute, random, contents } = run
  const { name } = module.spec
  const next = new Map<string, Replacement | null>()
  const after = new Map<string, Uint8Array>()
  const buffers: { dispose(): Promise<void> }[] = []
  const names = new Set([...module.parameters.keys(), `a.new${random.below(3)}`, `b.new${random.below(3)}`])
  for (const parameter of names) {
    const old = contents.get(`${name}.${parameter}`)
    const kind = random.below(old === undefined ? 4 : 6)
    if (kind === 4) {
      after.set(parameter, old!)
    } else if (kind === 5) {
      next.set(parameter, null)
    } else if (kind === 3) {
      const owner = random.chance(50) ? module : neighbour
      const all = [...owner.parameters.values()]
      if (all.length === 0) continue
      const from = all[random.below(all.length)]!
      next.set(parameter, { tensor: from.tensor, use: 'other' })
      after.set(parameter, contents.get(`${owner.spec.name}.${from.name}`)!)
    } else {
      const layout = layouts[random.below(layouts.length)]!
      const offset = dtypeBytes[layout.dtype] * random.below(20)
      const bytes = offset + extentBytes(layout) + 1
      const content = pattern(random.below(250), bytes)
      const host = await device.allocateHost(bytes, { storage: kind === 1 ? 'pageable' : 'pinned' })
      host.write(content)
      buffers.push(host)
      let buffer: TensorView['buffer'] = host
      if (kind === 2) {
        buffer = device.allocate(bytes, { tag: 'made', stream: compute })
        compute.copy(buffer, host)
        buffers.push(buffer)
      }
      next.set(parameter, { tensor: { ...layout, buffer, offset }, use: 'other' })
      after.set(parameter, elements(content.subarray(offset), layout))
    }
  }
  return { next, after, release: () => Promise.all(buffers.map((buffer) => buffer.dispose())) }
}

/** The elements one after another, without gaps. */
function elements(bytes: Uint8Array, { dtype, shape, stride }: Omit<TensorView, 'buffer' | 'offset'>): Uint8Array {
  const width = dtypeBytes[dtype]
  const found: Uint8Array[] = []
  const visit = (dimension: number, at: number): void => {
    if (dimension === shape.length) {
      found.push(bytes.subarray(at * width, (at + 1) * width))
      return
    }
    for (let i = 0; i < shape[dimension]!; i++) visit(dimension + 1, at + i * stride[dimension]!)
  }
  visit(0, 0)
  return Uint8Array.from(Buffer.concat(found))
}

async function expectContents({ device, compute, contents }: RandomRun, { spec, parameters }: PlacedModule) {
  for (const { name, tensor } of parameters.values()) {
    const bytes = extentBytes(tensor) === 0 ? new Uint8Array() : await tensorBytes(device, compute, tensor)
    const same = Buffer.compare(elements(bytes, tensor), contents.get(`${spec.name}.${name}`)!) === 0
    expect(same, `${spec.name}.${name}`).toBe(true)
  }
}

function randomModel(random: Random): ModuleSpec[] {
  const parameters = (): ParameterSpec[] =>
    ['a.0', 'b.0', 'a.1', 'b.1', 'a.2'].slice(0, 1 + random.below(5)).map((name) => {
      return { name, use: 'other', ...layouts[random.below(layouts.length)]! }
    })
  const spec = (i: number): ModuleSpec => ({ name: `layers.${i}`, order: i, role: 'layer', parameters: parameters() })
  // The last one keeps the ring from being empty.
  const whole = { name: 'a.0', dtype: 'f32' as DType, shape: [64, 64], stride: contiguousStride([64, 64]) }
  return [spec(0), spec(1), spec(2), { ...spec(3), parameters: [{ ...whole, use: 'other' }] }]
}

describe('replaceParameters', () => {
  it.each([
    { groupSize: 1, prefetchStep: 3 },
    { groupSize: 1, prefetchStep: 1 },
    { groupSize: 2, prefetchStep: 2 },
    { groupSize: 1, prefetchStep: 2, params: ['a'] },
  ])('gives every parameter its bytes, from and to memory of any kind: %o', async (config) => {
    await onDevice({}, async (device) => {
      let launches = 0
      for (let seed = 0; seed < 10; seed++) {
        const random = new Random(seed)
        await withSteps(device, config, async (steps, compute) => {
          const run: RandomRun = { device, steps, compute, random, contents: new Map() }
          const modules = new Map(
            (await steps.wrapModules(randomModel(random), call)).map((one) => [one.spec.name, one]),
          )
          await load(device, modules.values(), compute)
          for (const { spec, parameters } of modules.values()) {
            for (const { name, tensor } of parameters.values()) {
              const bytes = pattern(seedOf(spec.name, name), extentBytes(tensor))
              run.contents.set(`${spec.name}.${name}`, elements(bytes, tensor))
            }
          }
          for (const name of ['layers.0', 'layers.2', 'layers.1', 'layers.0']) {
            const neighbour = modules.get(name === 'layers.1' ? 'layers.2' : 'layers.1')!
            const { next, after, release } = await randomReplacement(run, modules.get(name)!, neighbour)
            const made = await steps.replaceParameters(name, next)
            await release()
            for (const parameter of modules.get(name)!.parameters.keys()) run.contents.delete(`${name}.${parameter}`)
            for (const [parameter, bytes] of after) run.contents.set(`${name}.${parameter}`, bytes)
            expect([...made.parameters.keys()].sort()).toEqual([...after.keys()].sort())
            modules.set(name, made)
            for (const one of modules.values()) await expectContents(run, one)
          }
          for (const one of await steps.postInit()) {
            const forward = steps.beginForward(compute)
            forward.before(one.spec.name)
            await expectContents(run, one)
            forward.after(one.spec.name)
            forward.end(true)
          }
          launches = device.counters().launches
        })
      }
      expect(launches).toBeGreaterThan(10)
    })
  })
})

describe('whichever step of a replacement fails', () => {
  it.each([
    ['on the host', { groupSize: 1 }],
    ['on the host, with one slot to be', { groupSize: 1, prefetchStep: 1 }],
    ['on the device', { groupSize: 2 }],
    ['on both', { groupSize: 1, params: ['mlp'] }],
  ] as const)('the old parameters of a layer %s stand, or the new ones are there whole', async (_, config) => {
    await onDevice({}, async (device) => {
      let failures = 0
      for (let k = 1; ; k++) {
        let fired = false
        await withSteps(
          device,
          { ...config, params: [...('params' in config ? config.params : [])] },
          async (steps, compute) => {
            const placed = (await steps.wrapModules(model(2), call)).find(({ spec }) => spec.name === 'layers.0')!
            await load(device, [placed], compute)
            const made = device.allocate(66, { tag: 'made', stream: compute })
            compute.fill(made, 0x5a)
            await compute.synchronize()
            const tensor: TensorView = { buffer: made, offset: 0, dtype: 'bf16', shape: [33], stride: [1] }
            const next: Next = new Map([['mlp.weight', { tensor, use: 'linear' }]])
            const held = () => {
              const { pinnedBytes, pageableBytes } = device.counters()
              const { usedBytes } = device.budget
              return { stats: steps.stats(), handles: liveHandles(device), usedBytes, pinnedBytes, pageableBytes }
            }
            const before = held()
            device.failures.arm({ at: 'any', number: k })
            let now = placed
            let error: unknown
            try {
              now = await steps.replaceParameters('layers.0', next)
            } catch (thrown) {
              error = thrown
            }
            fired = device.failures.fired
            device.failures.disarm()
            const old = pattern(seedOf('layers.0', 'mlp.weight'), 66)
            const expected = error === undefined ? new Uint8Array(66).fill(0x5a) : old
            if (error !== undefined) {
              failures++
              expect(error).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_/) })
              await vi.waitFor(() => expect(held()).toEqual(before))
            }
            for (const [name, bytes] of [
              ['mlp.weight', expected],
              ['attention.weight', pattern(seedOf('layers.0', 'attention.weight'), 160)],
            ] as const) {
              expect(await tensorBytes(device, compute, now.parameters.get(name)!.tensor), `failure ${k}`).toEqual(
                bytes,
              )
            }
            // Another try comes through.
            await steps.replaceParameters('layers.0', next)
            await made.dispose()
          },
        )
        if (!fired) break
      }
      // Memory, a launch, a copy at the least; a wait that fails is made again.
      expect(failures).toBeGreaterThanOrEqual(3)
    })
  })
})
