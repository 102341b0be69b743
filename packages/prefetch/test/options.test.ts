import { configure, flagsOf } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import prefetch, { prefetchOptions } from '../src/index.js'
import { checkPrefetchConfig } from '../src/options.js'
import { failure, onDevice } from './device-rig.js'
import { contextOn } from './model-rig.js'

const defaults = { groupSize: 0, numInGroup: 1, params: [] }

describe('options', () => {
  it('have the flags and defaults that are documented', () => {
    expect(flagsOf(prefetchOptions).map(({ flag }) => flag)).toEqual([
      'offload-group-size',
      'offload-num-in-group',
      'offload-prefetch-step',
      'offload-params',
    ])
    expect(configure(prefetch).config).toEqual(defaults)
    expect(checkPrefetchConfig(defaults)).toEqual([])
    expect(prefetch.options).toBe(prefetchOptions)
  })

  it('refuse what is no whole number in range', async () => {
    for (const key of ['groupSize', 'numInGroup', 'prefetchStep']) {
      for (const value of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2', null]) {
        const error = await failure('SPILLWAY_INVALID_OPTION', () => configure(prefetch, { [key]: value }))
        expect(error.message).toContain(key)
      }
      const zero = () => configure(prefetch, { [key]: 0 })
      if (key === 'groupSize') zero()
      else await failure('SPILLWAY_INVALID_OPTION', zero)
    }
    await failure('SPILLWAY_UNKNOWN_OPTION', () => configure(prefetch, { groupsize: 2 } as object))
  })

  it('refuse more layers of a group than it has, naming both numbers and flags', async () => {
    const config = { groupSize: 3, numInGroup: 5, prefetchStep: 1, params: [] }
    const error = await failure('SPILLWAY_INVALID_OPTION', () => checkPrefetchConfig(config))
    expect(error.message).toMatch(/\b5\b.*\b3\b/)
    expect(error.message).toContain('--offload-num-in-group')
    expect(error.message).toContain('--offload-group-size')
    expect(error.details).toEqual({ groupSize: 3, numInGroup: 5 })
    expect(checkPrefetchConfig({ groupSize: 3, numInGroup: 3, prefetchStep: 3, params: [] })).toEqual([])
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      await failure('SPILLWAY_INVALID_OPTION', () => prefetch.create(contextOn(device, compute), config))
      await compute.dispose()
    })
  })

  it('take what has no effect, and say so', () => {
    const [ignored, ...rest] = checkPrefetchConfig({ ...defaults, numInGroup: 5 })
    expect(rest).toEqual([])
    expect(ignored!.code).toBe('SPILLWAY_OPTION_IGNORED')
    expect(ignored!.message).toMatch(/--offload-num-in-group\) is 5 and ignored.*--offload-group-size/)
  })

  it('explain, with the numbers, a step that is less than what is offloaded in a row', () => {
    const [late, ...rest] = checkPrefetchConfig({ groupSize: 8, numInGroup: 4, params: [] })
    expect(rest).toEqual([])
    expect(late!.code).toBe('SPILLWAY_PREFETCH_STEP')
    expect(late!.message).toMatch(/--offload-prefetch-step\) is 2.*--offload-num-in-group\), which is 4.*\b2 cannot/)
    expect(late!.message).toContain('4 slots')
    expect(checkPrefetchConfig({ groupSize: 8, numInGroup: 4, prefetchStep: 4, params: [] })).toEqual([])
  })

  it('say it through the warnings of the process', async () => {
    const seen: (Error & { code?: string })[] = []
    const listen = (warning: Error): number => seen.push(warning)
    process.on('warning', listen)
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      for (let twice = 0; twice < 2; twice++) {
        const config = { groupSize: 31, numInGroup: 7, prefetchStep: 3, params: [] }
        await (await prefetch.create(contextOn(device, compute), config)).dispose()
      }
      await compute.dispose()
    })
    process.off('warning', listen)
    expect(seen.map(({ name, code }) => ({ name, code }))).toEqual([
      { name: 'SpillwayWarning', code: 'SPILLWAY_PREFETCH_STEP' },
    ])
  })

  it('refuse patterns that no name can match', async () => {
    for (const pattern of ['mlp.', '.mlp', 'a..b', 'mlp.*', 'm?p', 'two words', '.', 'layers[0]']) {
      const config = { ...defaults, params: ['mlp', pattern] }
      const error = await failure('SPILLWAY_INVALID_OPTION', () => checkPrefetchConfig(config))
      expect(error.message).toContain(JSON.stringify(pattern))
      expect(error.message).toContain('--offload-params')
    }
  })
})
