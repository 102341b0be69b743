import { configure, createOffloader, type ModuleSpec, none, type Offloader, type Replacement } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { contents, type Fixture, loadAll, rejected, withDevice } from './device-fixture.js'
import { broken, hostSlots } from './host-slots.js'
import { layers, module, parameter } from './specs.js'

const create = ({ device, compute }: Fixture): Promise<Offloader> =>
  createOffloader({ device, compute, backends: [configure(none)] })

describe('specs that are refused, by module and parameter', () => {
  const w = parameter('w', [2])
  test.each<[string, unknown, RegExp]>([
    ['no list', null, /a list with at least one module/],
    ['an empty list', [], /at least one module/],
    ['a module that is null', [null], /null/],
    ['a module without a name', [module('', 0, [w])], /name/],
    ['a name with spaces', [module('a b', 0, [w])], /dotted words/],
    ['a name with an empty word', [module('a..b', 0, [w])], /dotted words/],
    ['a name with control characters', [module('a\u001b[31m', 0, [w])], /dotted words/],
    ['an order that is no number', [module('a', Number.NaN, [w])], /order NaN/],
    ['an unknown role', [{ ...module('a', 0, [w]), role: 'block' }], /role "block".*embedding/],
    ['no parameters', [{ ...module('a', 0, []), parameters: undefined }], /no list of parameters/],
    ['a parameter that is null', [module('a', 0, [null as never])], /module a/],
    ['a parameter whose name is none', [module('a', 0, [{ ...w, name: 'b c' }])], /parameter named "b c"/],
    ['a stride that is no list', [module('a', 0, [{ ...w, stride: 1 as never }])], /its stride is 1/],
    ['two parameters of one name', [module('a', 0, [w, w])], /two parameters named w/],
    ['two modules of one name', [module('a', 0, [w]), module('a', 1, [w])], /a is there twice/],
    ['two modules of one order', [module('a', 3, [w]), module('b', 3, [w])], /same order 3 as a/],
    [
      'an unknown dtype',
      [module('a', 0, [parameter('w', [2], { dtype: 'f128' as never })])],
      /module a, parameter w.*"f128"/,
    ],
    ['a dtype every object has', [module('a', 0, [parameter('w', [2], { dtype: 'toString' as never })])], /dtype/],
    ['a negative length', [module('a', 0, [{ ...w, shape: [-1] }])], /parameter w/],
    ['a fraction', [module('a', 0, [{ ...w, shape: [1.5] }])], /parameter w/],
    ['a length that is text', [module('a', 0, [{ ...w, shape: ['2'] as never }])], /shape/],
    ['a shape with a hole', [module('a', 0, [{ ...w, shape: new Array(1) }])], /shape/],
    ['a million dimensions', [module('a', 0, [{ ...w, shape: new Array(1e6).fill(1) }])], /at most 32/],
    ['more bytes than numbers count', [module('a', 0, [{ ...w, shape: [2 ** 52] }])], /2\^53/],
    ['fewer strides than lengths', [module('a', 0, [{ ...w, stride: [] }])], /layout/],
    ['an unknown use', [module('a', 0, [{ ...w, use: 'matrix' as never }])], /use "matrix"/],
    ['a tie to nothing', [module('a', 0, [{ ...w, tiedTo: 'b.w' }])], /tied to b\.w, and there is no such/],
    ['a tie to itself', [module('a', 0, [{ ...w, tiedTo: 'a.w' }])], /tied itself/],
    [
      'a chain of ties',
      [module('a', 0, [w]), module('b', 1, [{ ...w, tiedTo: 'a.w' }]), module('c', 2, [{ ...w, tiedTo: 'b.w' }])],
      /tied itself; tie it to a\.w/,
    ],
    [
      'a tie of another shape',
      [module('a', 0, [w]), module('b', 1, [parameter('w', [3], { tiedTo: 'a.w' })])],
      /f32\[3\].*f32\[2\]/,
    ],
    ['a tie that is no name', [module('a', 0, [{ ...w, tiedTo: 3 as never }])], /tied to 3/],
    [
      'two parameters of one full name',
      [module('a', 0, [parameter('b.c', [2])]), module('a.b', 1, [parameter('c', [2])])],
      /a\.b\.c/,
    ],
  ])('%s', (_, specs, text) =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      const error = await rejected(offloader.wrapModules(specs as ModuleSpec[]))
      expect(error.code).toBe('SPILLWAY_INVALID_SPEC')
      expect(error.message).toMatch(text)
      expect(fixture.device.budget.usedBytes).toBe(0)
      // Refused before anybody did anything: the next call is the first.
      await offloader.wrapModules(layers(1))
    }),
  )

  test('names and orders are unique over all calls', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await offloader.wrapModules(layers(2))
      expect((await rejected(offloader.wrapModules([module('layers.1', 9, [w])]))).code).toBe('SPILLWAY_INVALID_SPEC')
      expect((await rejected(offloader.wrapModules([module('tower', 1, [w])]))).code).toBe('SPILLWAY_INVALID_SPEC')
      expect((await rejected(offloader.wrapModules([module('tower', 2, [w])], { prefix: 3 as never }))).code).toBe(
        'SPILLWAY_INVALID_SPEC',
      )
      await offloader.wrapModules([module('tower', 2, [w])], { prefix: 'visual' })
      expect([...offloader.modules.keys()]).toEqual(['layers.0', 'layers.1', 'tower'])
    }))

  test('are copied: changing them afterwards changes nothing', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      const shape = [2]
      const specs = [module('a', 0, [parameter('w', shape)])]
      await offloader.wrapModules(specs)
      shape[0] = 1000
      specs.pop()
      const { spec } = (await offloader.postInit()).get('a')!
      expect(spec.parameters[0]!.shape).toEqual([2])
      expect(Object.isFrozen(spec.parameters[0]!.shape)).toBe(true)
    }))
})

describe('ties', () => {
  const tied = (): ModuleSpec[] => [
    { ...module('embed', 0, [parameter('weight', [6, 4], { use: 'gather' })]), role: 'embedding' },
    {
      ...module('head', 1, [parameter('weight', [6, 4], { tiedTo: 'embed.weight' }), parameter('bias', [6])]),
      role: 'head',
    },
  ]

  test.each([
    ['none', none],
    ['host-slots', hostSlots],
  ])('%s: the storage is there once, the tensor is shared, the use is its own', (_, backend) =>
    withDevice(async (fixture) => {
      const { device, compute } = fixture
      await using offloader = await createOffloader({ device, compute, backends: [configure(backend as typeof none)] })
      await loadAll(fixture, await offloader.wrapModules(tied()))
      const check = async (): Promise<void> => {
        const target = offloader.modules.get('embed')!.parameters.get('weight')!
        const follower = offloader.modules.get('head')!.parameters.get('weight')!
        expect(follower.tensor).toBe(target.tensor)
        expect(follower).toMatchObject({
          storage: target.storage,
          use: 'linear',
          tiedTo: 'embed.weight',
          shape: target.shape,
        })
        expect([...offloader.modules.get('head')!.parameters.keys()]).toEqual(['weight', 'bias'])
      }
      await check()
      const { residentBytes, offloadedBytes } = offloader.stats()
      expect(residentBytes + offloadedBytes).toBe(96 + 24)
      await offloader.postInit()
      await check()
      offloader.forward(compute, (scope) => {
        scope.before('embed')
        scope.after('embed')
      })
      const { tensor } = offloader.modules.get('head')!.parameters.get('weight')!
      expect(await fixture.read(tensor)).toEqual(contents('embed.weight', 96))
    }),
  )

  test('may point to a module of an earlier call, or of the same call further down', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      const [embed, head] = tied() as [ModuleSpec, ModuleSpec]
      await offloader.wrapModules([head, embed])
      const second = { ...module('head2', 2, [parameter('weight', [6, 4], { tiedTo: 'embed.weight' })]) }
      await offloader.wrapModules([second])
      const { tensor } = offloader.modules.get('embed')!.parameters.get('weight')!
      for (const name of ['head', 'head2'])
        expect(offloader.modules.get(name)!.parameters.get('weight')!.tensor).toBe(tensor)
    }))

  const tensorOf = async (
    offloader: Offloader,
    name: string,
    shape: number[],
  ): Promise<{ replacement: Replacement; free: () => Promise<void> }> => {
    const bytes = 4 * shape.reduce((a, b) => a * b, 1)
    const buffer = await offloader.host.allocate(bytes)
    buffer.write(contents(name, bytes))
    const { stride } = parameter(name, shape)
    return {
      replacement: { tensor: { buffer, offset: 0, dtype: 'f32', shape, stride }, use: 'linear' },
      free: () => buffer.dispose(),
    }
  }

  test('follow their target when it is replaced, its new layout included', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await loadAll(fixture, await offloader.wrapModules(tied()))
      const { replacement, free } = await tensorOf(offloader, 'new', [8, 4])
      await offloader.replaceParameters('embed', new Map([['weight', replacement]]))
      await free()
      const follower = offloader.modules.get('head')!.parameters.get('weight')!
      expect(follower.shape).toEqual([8, 4])
      expect(offloader.modules.get('head')!.spec.parameters[0]).toMatchObject({ shape: [8, 4], tiedTo: 'embed.weight' })
      expect(await fixture.read(follower.tensor)).toEqual(contents('new', 128))
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(128 + 24)
    }))

  test('can be made, cut and dropped by a replacement; the bytes are accounted for', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await loadAll(fixture, await offloader.wrapModules([...tied(), ...layers(4).slice(3)]))
      const weight = (name: string): unknown => offloader.modules.get(name)!.parameters.get('weight')?.tensor
      // Cut: the head gets storage of its own.
      const { replacement, free } = await tensorOf(offloader, 'own', [6, 4])
      await offloader.replaceParameters('head', new Map([['weight', replacement]]))
      await free()
      expect(weight('head')).not.toBe(weight('embed'))
      expect(offloader.stats().residentBytes).toBe(96 + 96 + 24 + 1400)
      // Made: its storage goes away again.
      await offloader.replaceParameters('head', new Map([['weight', { tiedTo: 'embed.weight', use: 'linear' }]]))
      expect(weight('head')).toBe(weight('embed'))
      expect(offloader.stats().residentBytes).toBe(96 + 24 + 1400)
      expect(await fixture.read(offloader.modules.get('head')!.parameters.get('bias')!.tensor)).toEqual(
        contents('head.bias', 24),
      )
      // New, under a name that was not there; then dropped.
      await offloader.replaceParameters('head', new Map([['copy', { tiedTo: 'embed.weight', use: 'gather' }]]))
      expect(offloader.modules.get('head')!.parameters.get('copy')).toMatchObject({ use: 'gather', shape: [6, 4] })
      await offloader.replaceParameters('head', new Map([['copy', null]]))
      expect(offloader.modules.get('head')!.parameters.has('copy')).toBe(false)
      await offloader.postInit()
    }))

  test.each<[string, string, Map<string, Replacement | null>, RegExp]>([
    [
      'deleting a target',
      'embed',
      new Map([['weight', null]]),
      /head, parameter weight.*tied to embed\.weight.*any more/,
    ],
    ['tying a target', 'embed', new Map([['weight', { tiedTo: 'head.bias', use: 'linear' }]]), /tied itself/],
    ['a tie to nothing', 'head', new Map([['bias', { tiedTo: 'head.nothing', use: 'linear' }]]), /no such parameter/],
    ['a tie to itself', 'head', new Map([['bias', { tiedTo: 'head.bias', use: 'linear' }]]), /tied itself/],
    [
      'a tie to a tied one',
      'head',
      new Map([['bias', { tiedTo: 'head.weight', use: 'linear' }]]),
      /tie it to embed\.weight/,
    ],
    ['deleting what is not there', 'head', new Map([['nothing', null]]), /no parameter nothing/],
    ['an unknown module', 'tail', new Map(), /tail was never passed/],
    ['no map', 'head', { bias: null } as never, /a Map from names/],
    ['a name that is none', 'head', new Map([['a b', null]]), /dotted words/],
    ['an unknown use', 'head', new Map([['bias', { tiedTo: 'embed.weight', use: 'x' as never }]]), /use "x"/],
    ['undefined', 'head', new Map([['bias', undefined as never]]), /null deletes/],
    [
      'a tensor and a tie at once',
      'head',
      new Map([['bias', { tensor: {}, tiedTo: 'embed.weight', use: 'linear' } as never]]),
      /either a tensor or tied/,
    ],
    [
      'a tensor in something that is no buffer',
      'head',
      new Map([
        ['bias', { tensor: { ...parameter('x', [1]), buffer: { kind: 'event' }, offset: 0 } as never, use: 'linear' }],
      ]),
      /its buffer is "event"/,
    ],
    [
      'a tensor without a buffer',
      'head',
      new Map([['bias', { tensor: { dtype: 'f32', shape: [1], stride: [1] } as never, use: 'linear' }]]),
      /no buffer/,
    ],
  ])('%s is refused and changes nothing', (_, name, next, text) =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await loadAll(fixture, await offloader.wrapModules(tied()))
      const before = offloader.modules
      const error = await rejected(offloader.replaceParameters(name, next))
      expect(error.code).toBe('SPILLWAY_INVALID_SPEC')
      expect(error.message).toMatch(text)
      expect(offloader.modules).toBe(before)
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(96 + 24)
    }),
  )

  test('a backend hears only of what it owns: nothing, a deletion, or a new tensor', () =>
    withDevice(async (fixture) => {
      const heard: [string, unknown][][] = []
      const backend = broken((steps) => {
        const replace = steps.replaceParameters.bind(steps)
        return {
          replaceParameters: (name, next) => {
            heard.push(
              [...next].map(([parameter, replacement]) => [parameter, replacement && Object.keys(replacement)]),
            )
            return replace(name, next)
          },
        }
      })
      const { device, compute } = fixture
      // The target stays on the device: a tie made this late to one on the host is refused.
      const backends = [configure(backend, { resident: 1 })]
      await using offloader = await createOffloader({ device, compute, backends })
      await offloader.wrapModules(tied())
      const tie: Replacement = { tiedTo: 'embed.weight', use: 'linear' }
      await offloader.replaceParameters('head', new Map([['copy', tie]]))
      await offloader.replaceParameters('head', new Map([['weight', { ...tie, use: 'gather' }]]))
      await offloader.replaceParameters('head', new Map([['weight', null]]))
      expect(heard).toEqual([])
      const { replacement, free } = await tensorOf(offloader, 'x', [6, 4])
      const next = new Map<string, Replacement | null>([
        ['copy', null],
        ['bias', tie],
        ['own', replacement],
      ])
      await offloader.replaceParameters('head', next)
      await free()
      expect(heard).toEqual([
        [
          ['bias', null],
          ['own', ['tensor', 'use']],
        ],
      ])
      await offloader.postInit()
    }))

  test('views that do not lie in a live buffer are refused', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await offloader.wrapModules(tied())
      const { replacement, free } = await tensorOf(offloader, 'x', [6])
      const { tensor } = replacement as { tensor: object }
      const replace = (change: object): Promise<unknown> =>
        offloader.replaceParameters(
          'head',
          new Map([['bias', { tensor: { ...tensor, ...change } as never, use: 'linear' as const }]]),
        )
      for (const change of [{ offset: 4 }, { offset: -4 }, { offset: 0.5 }, { shape: [7] }, { stride: [2] }]) {
        expect((await rejected(replace(change))).message, JSON.stringify(change)).toMatch(/not inside|number/)
      }
      await free()
      expect((await rejected(replace({}))).message).toContain('disposed')
    }))
})
