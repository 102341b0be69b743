import { setTimeout as sleep } from 'node:timers/promises'
import { isSpillwayError } from '@spillway/core'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { parseAllocatorConf } from '../src/allocator-conf.js'
import {
  type AllocatorSettings,
  checkAllocatorSettings,
  currentAllocatorSettings,
  resolveAllocatorSettings,
  withAllocatorSettings,
} from '../src/allocator-settings.js'

const variables = ['SPILLWAY_ALLOC_CONF', 'PYTORCH_ALLOC_CONF', 'PYTORCH_CUDA_ALLOC_CONF'] as const

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** Code, message and details of what `call` throws. */
function refused(call: () => unknown): { code: string; message: string; details: Record<string, unknown> } {
  try {
    call()
  } catch (error) {
    if (!isSpillwayError(error)) throw error
    return { code: error.code, message: error.message, details: { ...error.details } }
  }
  throw new Error('nothing was thrown')
}

const ours = (value: string) => parseAllocatorConf({ variable: 'SPILLWAY_ALLOC_CONF', value })
const theirs = (value: string) => parseAllocatorConf({ variable: 'PYTORCH_ALLOC_CONF', value })

describe('the variables', () => {
  test.each(['max_split_size_mb:20,expandable_segments:True', ' Max_Split_Size_MB : 20 , expandableSegments:1 ,, '])(
    'spaces, case and commas do not matter: %s',
    (value) => {
      expect(ours(value)).toEqual({ maxSplitSizeMb: 20, expandableSegments: true })
      expect(theirs(value)).toEqual({ maxSplitSizeMb: 20, expandableSegments: true })
    },
  )

  test('all keys', () => {
    expect(ours('garbage_collection_threshold:0.8,roundup_power2_divisions:4,expandable_segments:false')).toEqual({
      garbageCollectionThreshold: 0.8,
      roundupPower2Divisions: 4,
      expandableSegments: false,
    })
    expect(ours('roundup_power2_divisions:[256:1, 512:2,1024:4,>:8],max_split_size_mb:64')).toEqual({
      roundupPower2Divisions: [...Array(9).fill(1), 2, 4, ...Array(5).fill(8)],
      maxSplitSizeMb: 64,
    })
    expect(ours(',')).toEqual({})
  })

  test.each([
    'max_split_size_mb:19',
    'max_split_size_mb:-1',
    'max_split_size_mb:twenty',
    'max_split_size_mb',
    'expandable_segments:yes',
    'garbage_collection_threshold:1.5',
    'garbage_collection_threshold:',
    'roundup_power2_divisions:3',
    'roundup_power2_divisions:[256:1,100:2]',
    'roundup_power2_divisions:[512:1,256:2]',
    'roundup_power2_divisions:[256',
    'roundup_power2_divisions:[]',
  ])('a bad value is an error that quotes the key: %s', (value) => {
    const [key] = value.split(':')
    for (const parse of [ours, theirs]) {
      const { code, message, details } = refused(() => parse(value))
      expect(code).toBe('SPILLWAY_INVALID_ENVIRONMENT')
      expect(message).toContain(key)
      expect(details).toMatchObject({ value, key })
    }
  })

  test('unknown keys are an error in ours and one warning in theirs', () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const value = 'backend:native,max_split_size_mb:40,pinned_use_cuda_host_register:True,constructor:1'
    expect(refused(() => ours(value)).message).toContain('"backend", "pinned_use_cuda_host_register", "constructor"')
    expect(warn).not.toHaveBeenCalled()
    vi.stubEnv('PYTORCH_CUDA_ALLOC_CONF', value)
    for (let i = 0; i < 3; i++) expect(currentAllocatorSettings().maxSplitSizeMb).toBe(40)
    expect(warn).toHaveBeenCalledTimes(1)
    expect(warn.mock.calls[0]![0]).toMatch(/PYTORCH_CUDA_ALLOC_CONF.*"backend"/)
  })

  test('ours before PyTorch’s new name before its old one; an empty one says nothing', () => {
    variables.forEach((variable, index) => {
      vi.stubEnv(variable, `max_split_size_mb:${30 + index}`)
    })
    for (const [index, variable] of variables.entries()) {
      expect(currentAllocatorSettings().maxSplitSizeMb).toBe(30 + index)
      vi.stubEnv(variable, index === 0 ? ' ' : '')
    }
    expect(currentAllocatorSettings().maxSplitSizeMb).toBe(Number.POSITIVE_INFINITY)
  })
})

test.each<[string, unknown]>([
  ['maxSplitSizeMb', 19],
  ['maxSplitSizeMb', Number.NaN],
  ['maxSplitSizeMb', '20'],
  ['expandableSegments', 'true'],
  ['garbageCollectionThreshold', -0.1],
  ['roundupPower2Divisions', 3],
  ['roundupPower2Divisions', [1, 2]],
  ['roundupPower2Divisions', Array(16).fill('4')],
])('a setting that is not allowed is an error that quotes it: %s %s', (key, value) => {
  const { code, message, details } = refused(() => checkAllocatorSettings({ [key]: value }))
  expect(code).toBe('SPILLWAY_INVALID_OPTION')
  expect(message).toContain(key)
  expect(details).toEqual({ option: key, value })
})

test('an unknown setting is an error that lists the known ones', () => {
  const given = { max_split_size_mb: 20 } as AllocatorSettings
  const { code, message } = refused(() => withAllocatorSettings(given, () => 'never'))
  expect(code).toBe('SPILLWAY_UNKNOWN_OPTION')
  expect(message).toMatch(/"max_split_size_mb" is no allocator setting; there are maxSplitSizeMb/)
  expect(refused(() => checkAllocatorSettings(null)).code).toBe('SPILLWAY_INVALID_OPTION')
})

describe('scopes', () => {
  const now = () => currentAllocatorSettings().maxSplitSizeMb

  test('nest, and change only what they name', () => {
    vi.stubEnv('SPILLWAY_ALLOC_CONF', 'garbage_collection_threshold:0.5')
    withAllocatorSettings({ maxSplitSizeMb: 20 }, () => {
      expect(currentAllocatorSettings()).toMatchObject({ maxSplitSizeMb: 20, garbageCollectionThreshold: 0.5 })
      withAllocatorSettings({ expandableSegments: true, maxSplitSizeMb: undefined }, () =>
        expect(currentAllocatorSettings()).toMatchObject({ maxSplitSizeMb: 20, expandableSegments: true }),
      )
      withAllocatorSettings({ maxSplitSizeMb: Number.POSITIVE_INFINITY }, () =>
        expect(now()).toBe(Number.POSITIVE_INFINITY),
      )
      expect(currentAllocatorSettings()).toMatchObject({ maxSplitSizeMb: 20, expandableSegments: false })
    })
    expect(now()).toBe(Number.POSITIVE_INFINITY)
  })

  test('overlap without touching each other, through waiting and throwing', async () => {
    const seen: number[] = []
    const scope = (mb: number, ms: number, fail: boolean) =>
      withAllocatorSettings({ maxSplitSizeMb: mb }, async () => {
        for (let i = 0; i < 3; i++) {
          await sleep(ms)
          seen.push(now() - mb)
        }
        if (fail) throw new Error('on purpose')
      })
    const ended = await Promise.allSettled([scope(20, 3, false), scope(30, 1, true), scope(40, 2, false)])
    expect(ended.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(seen).toEqual(Array(9).fill(0))
    expect(() =>
      withAllocatorSettings({ maxSplitSizeMb: 20 }, () => {
        throw new Error('on purpose')
      }),
    ).toThrow('on purpose')
    expect(now()).toBe(Number.POSITIVE_INFINITY)
  })

  test('what is given cannot be changed later, nor what is read', () => {
    const given = { maxSplitSizeMb: 20, roundupPower2Divisions: Array<number>(16).fill(2) }
    withAllocatorSettings(given, () => {
      given.maxSplitSizeMb = 1
      given.roundupPower2Divisions[0] = 3
      const read = currentAllocatorSettings()
      expect(read).toMatchObject({ maxSplitSizeMb: 20, roundupPower2Divisions: Array(16).fill(2) })
      expect(Object.isFrozen(read) && Object.isFrozen(read.roundupPower2Divisions)).toBe(true)
    })
  })

  test('a pool’s settings come first, then the scope, passed or around, then the process; pools do not expand', () => {
    vi.stubEnv('SPILLWAY_ALLOC_CONF', 'max_split_size_mb:50,garbage_collection_threshold:0.5,expandable_segments:true')
    withAllocatorSettings({ maxSplitSizeMb: 40, roundupPower2Divisions: 2 }, () => {
      const roundupPower2Divisions = Array(16).fill(2)
      expect(resolveAllocatorSettings({ pool: { maxSplitSizeMb: 30 } })).toEqual({
        maxSplitSizeMb: 30,
        expandableSegments: false,
        garbageCollectionThreshold: 0.5,
        roundupPower2Divisions,
      })
      expect(resolveAllocatorSettings({ pool: {} }).maxSplitSizeMb).toBe(40)
      expect(resolveAllocatorSettings({ scope: {} })).toMatchObject({ maxSplitSizeMb: 50, expandableSegments: true })
      expect(resolveAllocatorSettings({ scope: { maxSplitSizeMb: 60 } }).maxSplitSizeMb).toBe(60)
    })
  })
})
