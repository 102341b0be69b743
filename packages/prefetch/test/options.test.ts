import { configure, flagsOf } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import prefetch, { prefetchOptions } from '../src/index.js'
import { checkPrefetchConfig } from '../src/options.js'
import { failure, onDevice } from './device-rig.js'
import { contextOn } from './model-rig.js'

describe('options', () => {
  it('have the flags and defaults that are documented', () => {
    expect(flagsOf(prefetchOptions).map(({ flag }) => flag)).toEqual([
      'offload-group-size',
      'offload-num-in-group',
      'offload-prefetch-step',
    ])
    expect(configure(prefetch).config).toEqual({ groupSize: 1, numInGroup: 1, prefetchStep: 2 })
    expect(prefetch.options).toBe(prefetchOptions)
  })

  it('refuse what is no positive whole number', async () => {
    for (const key of Object.keys(prefetchOptions)) {
      for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2', null]) {
        const error = await failure('SPILLWAY_INVALID_OPTION', () => configure(prefetch, { [key]: value }))
        expect(error.message).toContain(key)
      }
    }
    await failure('SPILLWAY_UNKNOWN_OPTION', () => configure(prefetch, { groupsize: 2 } as object))
  })

  it('refuse more layers of a group than it has, naming both numbers and flags', async () => {
    const config = { groupSize: 3, numInGroup: 5, prefetchStep: 1 }
    const error = await failure('SPILLWAY_INVALID_OPTION', () => checkPrefetchConfig(config))
    expect(error.message).toMatch(/\b5\b.*\b3\b/)
    expect(error.message).toContain('--offload-num-in-group')
    expect(error.message).toContain('--offload-group-size')
    expect(error.details).toEqual({ groupSize: 3, numInGroup: 5 })
    checkPrefetchConfig({ groupSize: 3, numInGroup: 3, prefetchStep: 1 })
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      await failure('SPILLWAY_INVALID_OPTION', () => prefetch.create(contextOn(device, compute), config))
      await compute.dispose()
    })
  })
})
