import { configure, createOffloader, type Parameter, type PlacedModule, type PlacementBackend } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { rejected, thrown, withDevice } from './device-fixture.js'
import { broken, type HostSlots, type HostSlotsOptions, hostSlots, offloaderOf } from './host-slots.js'
import { layerBytes, layers, module, parameter } from './specs.js'

/** The first module with parameters changed by `change`; undefined drops one. */
function alter(modules: readonly PlacedModule[], change: (parameter: Parameter) => unknown): readonly PlacedModule[] {
  const [first, ...rest] = modules as [PlacedModule, ...PlacedModule[]]
  const parameters = new Map<string, Parameter>()
  for (const [name, value] of first.parameters) {
    const changed = change(value)
    if (changed !== undefined) parameters.set(name, changed as Parameter)
  }
  return [{ ...first, parameters }, ...rest]
}
const moved =
  (tensor: object) =>
  (p: Parameter): unknown =>
    p.name === 'down' ? { ...p, tensor: { ...p.tensor, ...tensor } } : p
const claims =
  (more: object) =>
  (p: Parameter): unknown =>
    p.name === 'down' ? { ...p, ...more } : p

/** What is wrong, what the error must name, and the change to what `wrapModules` returns. */
type Fault = [string, RegExp, (placed: readonly PlacedModule[], steps: HostSlots) => unknown]
const faults: Fault[] = [
  ['nothing', /undefined instead of a list/, () => undefined],
  ['something that is no module', /no module/, () => [null]],
  ['a module whose parameters are no map', /no module/, ([a, b]) => [{ ...a, parameters: {} }, b]],
  ['too few modules', /layers\.1 is missing/, (placed) => placed.slice(0, 1)],
  ['a module twice', /layers\.0 twice/, ([a, b]) => [a, b, a]],
  [
    'a module nobody asked for',
    /extra was not asked for/,
    ([a, b]) => [a, b, { ...a, spec: { ...a!.spec, name: 'extra' } }],
  ],
  [
    'a parameter missing',
    /layers\.0, parameter down, was not placed/,
    (p) => alter(p, (x) => (x.name === 'down' ? undefined : x)),
  ],
  [
    'a parameter that is null',
    /parameter down, was not placed/,
    (p) => alter(p, (x) => (x.name === 'down' ? null : x)),
  ],
  [
    'a parameter too many',
    /parameter extra.*not in the spec/,
    ([a, b]) => [{ ...a, parameters: new Map([...a!.parameters, ['extra', a!.parameters.get('up')!]]) }, b],
  ],
  ['another shape', /parameter down: its layout is f32\[99\]/, (p) => alter(p, moved({ shape: [99] }))],
  ['another dtype', /its layout is f16/, (p) => alter(p, moved({ dtype: 'f16' }))],
  ['another stride', /stride \[2\]/, (p) => alter(p, moved({ stride: [2], shape: [40] }))],
  ['a tensor past the end', /not inside of its buffer/, (p) => alter(p, moved({ offset: 1280 }))],
  ['a negative offset', /not inside/, (p) => alter(p, moved({ offset: -256 }))],
  ['a crooked offset', /no multiple of 256/, (p) => alter(p, moved({ offset: 1020 }))],
  ['two parameters in one place', /overlaps/, (p) => alter(p, moved({ offset: 0 }))],
  [
    'two modules in one place',
    /layers\.0, parameter up, overlaps layers\.1, parameter up/,
    ([a, b]) => [a, { ...b, parameters: new Map([...a!.parameters].map(([name, p]) => [name, { ...p }])) }],
  ],
  [
    'storage device in host memory',
    /storage is device, its buffer is pinned/,
    (p) => alter(p, claims({ storage: 'device' })),
  ],
  [
    'storage mapped in pinned memory',
    /storage is mapped, its buffer is pinned/,
    (p) => alter(p, claims({ storage: 'mapped' })),
  ],
  ['storage that does not exist', /storage is "disk"/, (p) => alter(p, claims({ storage: 'disk' }))],
  ['no tensor', /parameter down: it is undefined/, (p) => alter(p, claims({ tensor: undefined }))],
  [
    'a getter that throws',
    /reading its result failed: ha/,
    ([, b]) => [
      {
        get spec() {
          throw new Error('ha')
        },
      },
      b,
    ],
  ],
]

describe('wrapModules of a broken backend returns', () => {
  test.each(faults)('%s', (_, text, change) =>
    withDevice(async (fixture) => {
      const backend = broken((steps) => {
        const wrap = steps.wrapModules.bind(steps)
        return { wrapModules: async (specs, options) => change(await wrap(specs, options), steps) as PlacedModule[] }
      })
      const offloader = await offloaderOf(fixture, backend)
      const error = await rejected(offloader.wrapModules(layers(2)))
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      expect(error.message).toContain('backend broken')
      expect(error.message).toMatch(text)
      expect(offloader.modules.size).toBe(0)
      // The two accounts differ now; only disposing is left, and it frees what the backend holds.
      expect((await rejected(offloader.wrapModules(layers(1)))).code).toBe('SPILLWAY_INVALID_STATE')
      await offloader.dispose()
    }),
  )

  test('a tied parameter with storage of its own', () =>
    withDevice(async (fixture) => {
      const backend = broken((steps) => {
        const wrap = steps.wrapModules.bind(steps)
        return {
          wrapModules: async (specs, options) => {
            const [a, b] = (await wrap(specs, options)) as [PlacedModule, PlacedModule]
            return [a, { ...b, parameters: new Map(a.parameters) }]
          },
        }
      })
      const offloader = await offloaderOf(fixture, backend)
      const specs = [module('a', 0, [parameter('w', [4])]), module('b', 1, [parameter('w', [4], { tiedTo: 'a.w' })])]
      const error = await rejected(offloader.wrapModules(specs))
      expect(error).toMatchObject({ code: 'SPILLWAY_BACKEND_MISBEHAVED', details: { module: 'b', parameter: 'w' } })
      await offloader.dispose()
    }))

  test('pinned memory where memory is not pinned', () =>
    withDevice(async ({ device, compute }) => {
      const backend = broken((steps) => {
        const context = {
          ...steps.context,
          host: { allocate: (bytes: number) => device.allocateHost(bytes, { storage: 'pinned' }) },
        }
        Object.assign(steps, { context })
        return {}
      })
      const offloader = await createOffloader({ device, compute, backends: [configure(backend)], pin: 'off' })
      const error = await rejected(offloader.wrapModules(layers(1)))
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      expect(error.message).toContain('not pinned here')
      await offloader.dispose()
    }))
})

describe('postInit of a broken backend', () => {
  const endingWith = (change: (steps: HostSlots) => unknown): PlacementBackend<HostSlotsOptions> =>
    broken((steps) => {
      const postInit = steps.postInit.bind(steps)
      return {
        postInit: async () => {
          const placed = await postInit()
          return (change(steps) ?? placed) as PlacedModule[]
        },
      }
    })

  test.each<[string, RegExp, (steps: HostSlots) => unknown]>([
    [
      'leaves tensors where kernels cannot read',
      /kernels cannot read/,
      (steps) => [...steps.modules.values()].map((m) => steps.placed({ ...m, slot: undefined })),
    ],
    ['forgets a module', /layers\.1 is missing/, (steps) => [steps.placed(steps.modules.get('layers.0')!)]],
    [
      'gives a resident parameter bytes that others pass through',
      /overlaps/,
      (steps) => {
        const [a, b] = [...steps.modules.values()].map((m) => steps.placed(m)) as [PlacedModule, PlacedModule]
        const resident = new Map(
          [...b.parameters].map(([name, p]) => [
            name,
            { ...p, storage: 'device', tensor: a.parameters.get(name)!.tensor },
          ]),
        )
        return [a, { ...b, parameters: resident }]
      },
    ],
  ])('that %s', (_, text, change) =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(fixture, endingWith(change))
      await offloader.wrapModules(layers(2))
      const error = await rejected(offloader.postInit())
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      expect(error.message).toMatch(text)
      expect(thrown(() => offloader.beginForward(fixture.compute)).code).toBe('SPILLWAY_INVALID_STATE')
      await offloader.dispose()
    }),
  )

  test('that may share slots between modules is none', () =>
    withDevice(async (fixture) => {
      const sharing = endingWith((steps) => {
        const [a, b] = [...steps.modules.values()]
        return [steps.placed(a!), steps.placed({ ...b!, slot: a!.slot })]
      })
      const offloader = await offloaderOf(fixture, sharing)
      await offloader.wrapModules(layers(2))
      await offloader.postInit()
      await offloader.dispose()
    }))

  test('that ends with nothing offloaded is an error, not a silence', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(fixture, hostSlots, 9)
      await offloader.wrapModules(layers(2))
      const error = await rejected(offloader.postInit())
      expect(error.code).toBe('SPILLWAY_NOTHING_OFFLOADED')
      expect(error.message).toContain('host-slots')
      await offloader.dispose()
    }))

  test('that says itself that nothing was to be offloaded is fine', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        broken(() => ({ offloads: false })),
        9,
      )
      await offloader.wrapModules(layers(2))
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(2 * layerBytes)
      await offloader.dispose()
    }))
})
