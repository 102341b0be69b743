import { describe, expect, expectTypeOf, test } from 'vitest'
import {
  checkFlagCollisions,
  checkOptionSpecs,
  configure,
  flagsOf,
  none,
  type OptionSpecs,
  optionHelp,
  type PlacementBackend,
  parseFlagValue,
  parseOptions,
} from '../src/index.js'
import { thrown } from './thrown.js'

const specs: OptionSpecs = {
  groupSize: { type: 'integer', default: 8, min: 1, max: 1000, help: 'layers in a group', flag: 'offload-group-size' },
  fraction: { type: 'number', default: 0.5, min: 0, max: 1, help: 'how much' },
  budget: { type: 'bytes', help: 'how many bytes', min: 1 },
  label: { type: 'string', default: '', help: 'a text' },
  params: { type: 'names', default: [], help: 'which' },
  order: { type: 'choice', choices: ['spread', 'last'], default: 'spread', help: 'where' },
  verify: { type: 'flag', default: false, help: 'check' },
}
const defaults = { groupSize: 8, fraction: 0.5, label: '', params: [], order: 'spread', verify: false }

describe('parseOptions', () => {
  test('fills in defaults; what has none is absent; the result is frozen through', () => {
    const config = parseOptions(specs, {})
    expect(config).toEqual(defaults)
    expect('budget' in config).toBe(false)
    expect(Object.isFrozen(config)).toBe(true)
    expect(Object.isFrozen(config.params)).toBe(true)
  })

  test('undefined is not given', () => {
    expect(parseOptions(specs, { groupSize: undefined })).toEqual(defaults)
  })

  test('takes what is given, sizes as text too', () => {
    const given = {
      groupSize: 2,
      fraction: 1,
      budget: '1GiB',
      label: 'x',
      params: ['a', 'b'],
      order: 'last',
      verify: true,
    }
    expect(parseOptions(specs, given)).toEqual({ ...given, budget: 2 ** 30 })
  })

  test('is idempotent', () => {
    const config = parseOptions(specs, { budget: '7KiB', params: ['a'] })
    expect(parseOptions(specs, config)).toEqual(config)
  })

  test('the list given may change afterwards', () => {
    const params = ['a']
    const config = parseOptions(specs, { params })
    params.push('b')
    expect(config.params).toEqual(['a'])
  })

  test.each<[string, unknown]>([
    ['groupSize', 0],
    ['groupSize', 1001],
    ['groupSize', 1.5],
    ['groupSize', Number.NaN],
    ['groupSize', Number.POSITIVE_INFINITY],
    ['groupSize', 2 ** 53],
    ['groupSize', '8'],
    ['groupSize', null],
    ['groupSize', 8n],
    ['fraction', Number.NaN],
    ['fraction', 1.01],
    ['fraction', -0.1],
    ['budget', 0],
    ['budget', '12 parsecs'],
    ['budget', '99999999TiB'],
    ['label', 1],
    ['params', 'a,b'],
    ['params', ['a', '']],
    ['params', ['a', 1]],
    ['order', 'Spread'],
    ['order', 1],
    ['verify', 'true'],
    ['verify', 1],
  ])('%s: %s is refused by name and flag', (key, value) => {
    const error = thrown(() => parseOptions(specs, { [key]: value }, 'prefetch'))
    expect(error.code).toBe('SPILLWAY_INVALID_OPTION')
    expect(error.message).toContain(`prefetch: ${key} (--`)
  })

  test('an unknown key is answered with the nearest one', () => {
    const error = thrown(() => parseOptions(specs, { groupsize: 1 }, 'prefetch'))
    expect(error.code).toBe('SPILLWAY_UNKNOWN_OPTION')
    expect(error.message).toContain('did you mean groupSize?')
  })

  test('names that every object has are no options', () => {
    for (const raw of [JSON.parse('{"__proto__": 1}'), { constructor: 1 }, { toString: 1 }]) {
      expect(thrown(() => parseOptions(specs, raw)).code).toBe('SPILLWAY_UNKNOWN_OPTION')
    }
  })

  test.each([null, undefined, 3, 'x', []])('options that are %s are refused', (raw) => {
    expect(thrown(() => parseOptions(specs, raw)).code).toBe('SPILLWAY_INVALID_OPTION')
  })

  test('a value that cannot be shown is still refused in a sentence', () => {
    const loop: Record<string, unknown> = {}
    loop.loop = loop
    expect(thrown(() => parseOptions(specs, { groupSize: loop })).message).toContain('cannot be shown')
  })
})

describe('flags', () => {
  test('come in kebab-case unless the spec says otherwise', () => {
    const flags = flagsOf({ ...specs, keepInHost: { type: 'flag', default: true, help: 'x' } })
    expect(flags.map(({ flag }) => flag)).toEqual([
      'offload-group-size',
      'fraction',
      'budget',
      'label',
      'params',
      'order',
      'verify',
      'keep-in-host',
    ])
    expect(flags.map(({ placeholder }) => placeholder)).toEqual([
      'N',
      'N',
      'SIZE',
      'TEXT',
      'NAME,NAME',
      'spread|last',
      undefined,
      undefined,
    ])
  })

  test.each<[string, string | undefined, unknown]>([
    ['groupSize', '12', 12],
    ['groupSize', '+12', 12],
    ['fraction', '.25', 0.25],
    ['fraction', '1e-2', 0.01],
    ['budget', '2MiB', 2 ** 21],
    ['label', '', ''],
    ['params', 'a,b c,', ['a', 'b', 'c']],
    ['order', 'last', 'last'],
    ['verify', undefined, true],
    ['verify', 'true', true],
    ['verify', 'false', false],
  ])('%s from %s', (key, text, value) => {
    expect(parseFlagValue(specs[key]!, text, key)).toEqual(value)
  })

  test.each<[string, string | undefined]>([
    ['groupSize', ''],
    ['groupSize', '0x10'],
    ['groupSize', '1e1'],
    ['groupSize', ' 3'],
    ['groupSize', '9'.repeat(30)],
    ['groupSize', undefined],
    ['fraction', 'NaN'],
    ['fraction', 'Infinity'],
    ['fraction', '1e999'],
    ['budget', '-1'],
    ['order', ''],
    ['verify', 'yes'],
  ])('%s from %s is refused', (key, text) => {
    const error = thrown(() => parseFlagValue(specs[key]!, text, key))
    expect(error.code).toBe('SPILLWAY_INVALID_OPTION')
    expect(error.message).toContain(`--${key}`)
  })

  test('a missing value is asked for', () => {
    expect(thrown(() => parseFlagValue(specs.groupSize!, undefined, 'group-size')).message).toBe(
      '--group-size needs a value: --group-size N',
    )
  })

  test('help is one aligned line each, with default and bounds', () => {
    expect(optionHelp({ ...specs, room: { type: 'bytes', default: 2 ** 21, help: 'kept free' } })).toEqual([
      '--offload-group-size N  layers in a group (default 8; from 1 to 1000)',
      '--fraction N            how much (default 0.5; from 0 to 1)',
      '--budget SIZE           how many bytes',
      '--label TEXT            a text',
      '--params NAME,NAME      which',
      '--order spread|last     where (default spread)',
      '--verify                check',
      '--room SIZE             kept free (default 2 MiB)',
    ])
    expect(
      optionHelp({
        spare: { type: 'flag', default: true, help: 'spare it' },
        least: { type: 'integer', min: 1, help: 'x' },
        most: { type: 'number', max: 9, help: 'x' },
        free: { type: 'number', help: 'x' },
      }),
    ).toEqual(['--no-spare  spare it', '--least N   x (at least 1)', '--most N    x (at most 9)', '--free N    x'])
    expect(optionHelp({})).toEqual([])
  })

  test('a flag that is taken is a collision, a switch also by its --no- form', () => {
    const error = thrown(() =>
      checkFlagCollisions('mine', { prompt: { type: 'string', help: 'x' } }, ['model', 'prompt']),
    )
    expect(error.code).toBe('SPILLWAY_OPTION_COLLISION')
    expect(error.message).toContain('--prompt')
    expect(error.message).toContain('mine')
    const negated = { color: { type: 'flag', default: false, help: 'x' } } as const
    expect(thrown(() => checkFlagCollisions('mine', negated, ['no-color'])).code).toBe('SPILLWAY_OPTION_COLLISION')
    expect(() => checkFlagCollisions('mine', specs, ['model', 'prompt'])).not.toThrow()
  })
})

describe('option specs from a package', () => {
  test('are copied and frozen', () => {
    const copy = checkOptionSpecs(specs, 'mine')
    expect(copy).toStrictEqual(specs)
    expect(copy).not.toBe(specs)
    expect(Object.isFrozen(copy.groupSize)).toBe(true)
  })

  test.each<[string, unknown]>([
    ['no object', null],
    ['a list', []],
    ['a spec that is no object', { a: 3 }],
    ['an unknown type', { a: { type: 'float', help: 'x' } }],
    ['no help', { a: { type: 'integer' } }],
    ['a key that is no name', { 'a-b': { type: 'integer', help: 'x' } }],
    ['__proto__', JSON.parse('{"__proto__": {"type": "integer", "help": "x"}}')],
    ['a flag with dashes before it', { a: { type: 'integer', help: 'x', flag: '--a' } }],
    ['min above max', { a: { type: 'integer', help: 'x', min: 2, max: 1 } }],
    ['a bound that is NaN', { a: { type: 'integer', help: 'x', min: Number.NaN } }],
    ['a default out of bounds', { a: { type: 'integer', help: 'x', min: 2, default: 1 } }],
    ['a default of another type', { a: { type: 'integer', help: 'x', default: '1' } }],
    ['a choice without choices', { a: { type: 'choice', help: 'x', default: 'b', choices: [] } }],
    ['a choice whose default is no choice', { a: { type: 'choice', help: 'x', default: 'c', choices: ['b'] } }],
    ['choices that are no list', { a: { type: 'choice', help: 'x', default: 'b', choices: 'abc' } }],
    ['choices that are no text', { a: { type: 'choice', help: 'x', default: 'b', choices: ['b', 3] } }],
    ['a choice without a default', { a: { type: 'choice', help: 'x', choices: ['b'] } }],
    ['a flag without a default', { a: { type: 'flag', help: 'x' } }],
    ['two options with one flag', { a: { type: 'string', help: 'x', flag: 'b' }, b: { type: 'string', help: 'x' } }],
  ])('%s is refused', (_, value) => {
    const error = thrown(() => checkOptionSpecs(value, 'mine'))
    expect(error.code).toBe('SPILLWAY_BACKEND_INVALID')
    expect(error.message).toContain('mine')
  })
})

describe('configure', () => {
  interface Options {
    readonly groupSize: number
    readonly order: 'spread' | 'last'
  }
  const backend: PlacementBackend<Options> = {
    ...none,
    name: 'mine',
    options: { groupSize: specs.groupSize!, order: specs.order! },
    create: (context) => none.create(context, {}),
  }

  test('checks, completes and freezes', () => {
    const configured = configure(backend, { groupSize: 3 })
    expect(configured).toEqual({ backend, config: { groupSize: 3, order: 'spread' } })
    expect(configured.backend).toBe(backend)
    expect(Object.isFrozen(configured)).toBe(true)
    expect(configure(none).config).toEqual({})
  })

  test('is typed by the backend', () => {
    expectTypeOf<Parameters<typeof configure<Options>>[1]>().toEqualTypeOf<Partial<Options> | undefined>()
    // @ts-expect-error groupSize is a number
    expect(thrown(() => configure(backend, { groupSize: '3' })).code).toBe('SPILLWAY_INVALID_OPTION')
    // @ts-expect-error there is no such option
    expect(thrown(() => configure(backend, { groupSise: 3 })).code).toBe('SPILLWAY_UNKNOWN_OPTION')
  })

  test('refuses what is no backend', () => {
    expect(thrown(() => configure({} as never)).code).toBe('SPILLWAY_BACKEND_INVALID')
  })
})
