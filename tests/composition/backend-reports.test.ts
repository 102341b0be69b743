// What a backend says of itself is checked before an engine sees it: statistics, a forecast, a trace.
import type { Offloader, OffloaderSteps, PlacementBackend } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { rejected, thrown, withDevice } from './device-fixture.js'
import { broken, type HostSlotsOptions, offloaderOf } from './host-slots.js'
import { layerBytes, layers } from './specs.js'

const onloads = { forwards: 0, failedForwards: 0, onloads: 0, capturedOnloads: 0, demandOnloads: 0, resets: 0 }

describe('statistics', () => {
  const lying = (change: (stats: ReturnType<OffloaderSteps['stats']>) => unknown): PlacementBackend<HostSlotsOptions> =>
    broken((steps) => {
      const stats = steps.stats.bind(steps)
      return { stats: () => change(stats()) as ReturnType<OffloaderSteps['stats']> }
    })

  test.each<[string, string, RegExp, (stats: ReturnType<OffloaderSteps['stats']>) => unknown]>([
    ['too much offloaded', 'SPILLWAY_STATS_MISMATCH', /offloadedBytes 2800/, (s) => ({ ...s, offloadedBytes: 2800 })],
    ['nothing offloaded', 'SPILLWAY_STATS_MISMATCH', /offloadedBytes 0/, (s) => ({ ...s, offloadedBytes: 0 })],
    ['residents that are not', 'SPILLWAY_STATS_MISMATCH', /residentBytes 1/, (s) => ({ ...s, residentBytes: 1 })],
    ['slots that take no memory', 'SPILLWAY_STATS_MISMATCH', /slotBytes/, (s) => ({ ...s, slotBytes: 10_000 })],
    ['a fraction', 'SPILLWAY_BACKEND_MISBEHAVED', /slotBytes is 0\.5/, (s) => ({ ...s, slotBytes: 0.5 })],
    [
      'no numbers',
      'SPILLWAY_BACKEND_MISBEHAVED',
      /onloadedBytes is undefined/,
      (s) => ({ ...s, onloadedBytes: undefined }),
    ],
    ['nothing', 'SPILLWAY_BACKEND_MISBEHAVED', /stats returned null/, () => null],
    ['onloads of nothing', 'SPILLWAY_BACKEND_MISBEHAVED', /forwards is undefined/, (s) => ({ ...s, onloads: null })],
    [
      'onloads of no modules',
      'SPILLWAY_BACKEND_MISBEHAVED',
      /no list of modules/,
      (s) => ({ ...s, onloads: { ...onloads, modules: {} } }),
    ],
    [
      'an onload less than none',
      'SPILLWAY_BACKEND_MISBEHAVED',
      /onloads of a module: onloads is -1/,
      (s) => ({ ...s, onloads: { ...onloads, modules: [{ module: 'a', bytes: 1, onloads: -1, demandOnloads: 0 }] } }),
    ],
    ...(
      [
        ['of nothing', { linkMs: Number.NaN, waitMs: 0, hiddenFraction: 1 }],
        ['without an end', { linkMs: 1, waitMs: Number.POSITIVE_INFINITY, hiddenFraction: 0 }],
        ['before it began', { linkMs: -1, waitMs: 0, hiddenFraction: 1 }],
        ['of which more is hidden than there is', { linkMs: 1, waitMs: 0, hiddenFraction: 2 }],
        ['without a wait', { linkMs: 1, hiddenFraction: 1 }],
      ] as const
    ).map(([name, times]): [string, string, RegExp, (stats: ReturnType<OffloaderSteps['stats']>) => unknown] => [
      `a time ${name}`,
      'SPILLWAY_BACKEND_MISBEHAVED',
      /onloads of a module: times of an onload are linkMs, waitMs/,
      (s) => {
        const module = { module: 'a', bytes: 1, onloads: 0, demandOnloads: 0, ...times }
        return { ...s, onloads: { ...onloads, modules: [module] } }
      },
    ]),
  ])('%s', (_, code, text, change) =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(fixture, lying(change), 1)
      await offloader.wrapModules(layers(2))
      const early = thrown(() => offloader.stats())
      expect(early.code).toBe(code)
      expect(early.message).toMatch(text)
      expect((await rejected(offloader.postInit())).code).toBe(code)
      await offloader.dispose()
    }),
  )

  test('onloads that never happened are found when the stream is idle, and at the latest when disposing', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        lying((s) => ({ ...s, onloadedBytes: 1_000_000 })),
      )
      await offloader.wrapModules(layers(2))
      await offloader.postInit()
      expect((await rejected(offloader.settledStats())).code).toBe('SPILLWAY_STATS_MISMATCH')
      expect((await rejected(offloader.dispose())).code).toBe('SPILLWAY_STATS_MISMATCH')
    }))

  test('are not asked for more than is certain after a forward that was broken off', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        lying((s) => ({ ...s, onloadedBytes: 1_000_000 })),
      )
      await offloader.wrapModules(layers(2))
      await offloader.postInit()
      offloader.beginForward(fixture.compute).end(false)
      expect((await offloader.settledStats()).onloadedBytes).toBe(1_000_000)
      await offloader.dispose()
    }))

  test('may be asked for while modules are placed, when the two accounts are not yet the same', () =>
    withDevice(async (fixture) => {
      let offloader: Offloader | undefined
      const seen: number[] = []
      const backend = broken((steps) => {
        const wrap = steps.wrapModules.bind(steps)
        return {
          wrapModules: async (specs, options) => {
            const placed = await wrap(specs, options)
            seen.push(offloader!.stats().offloadedBytes, offloader!.modules.size)
            return placed
          },
        }
      })
      offloader = await offloaderOf(fixture, backend)
      await offloader.wrapModules(layers(2))
      expect(seen).toEqual([2 * layerBytes, 0])
      await offloader.dispose()
    }))

  test('slots under another tag than weights are found', () =>
    withDevice(async (fixture) => {
      const backend = broken((steps) => {
        const { context } = steps
        Object.assign(steps, { context: { ...context, memory: () => context.memory('workspace') } })
        return {}
      })
      const offloader = await offloaderOf(fixture, backend)
      await offloader.wrapModules(layers(2))
      expect((await rejected(offloader.postInit())).message).toContain('slotBytes')
      await offloader.dispose()
    }))

  test('host memory taken around the context is found', () =>
    withDevice(async (fixture) => {
      const backend = broken((steps) => {
        const host = { allocate: (bytes: number) => fixture.device.allocateHost(bytes, { storage: 'pinned' }) }
        Object.assign(steps, { context: { ...steps.context, host } })
        return {}
      })
      const offloader = await offloaderOf(fixture, backend)
      await offloader.wrapModules(layers(2))
      expect(thrown(() => offloader.stats()).message).toContain('pinned and pageable')
      await offloader.dispose()
    }))
})

describe('a forecast', () => {
  const times = { module: 'layers.0', computeMs: 1, linkMs: 1, waitMs: 0, hiddenFraction: 1 }
  const forecasting = (forecast: () => unknown): PlacementBackend<HostSlotsOptions> =>
    broken(() => ({ forecast: forecast as NonNullable<OffloaderSteps['forecast']> }))

  test.each<[string, RegExp, unknown]>([
    ['of nothing', /slotBytes is a list/, null],
    ['of slots of no size', /slotBytes is a list/, { slotBytes: [-1], slotOf: new Map() }],
    ['of slots that are not there', /slotOf is a map/, { slotBytes: [8], slotOf: new Map([['layers.0', 1]]) }],
    ['of no time', /times of a step/, { slotBytes: [], slotOf: new Map(), step: { stepMs: Number.NaN, modules: [] } }],
    [
      'that hides more than all',
      /times of an onload/,
      { slotBytes: [], slotOf: new Map(), step: { stepMs: 1, modules: [{ ...times, hiddenFraction: 1.5 }] } },
    ],
    [
      'that cannot be read',
      /cannot be read/,
      {
        get slotBytes() {
          throw new Error('hostile')
        },
      },
    ],
  ])('%s is refused', (_, text, value) =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        forecasting(() => value),
      )
      await offloader.wrapModules(layers(1))
      const error = thrown(() => offloader.explain())
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      expect(error.message).toMatch(text)
      await offloader.dispose()
    }),
  )

  test('that throws is wrapped, and times that a caller made up are refused as its own fault', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        forecasting(() => {
          throw new Error('inside')
        }),
      )
      await offloader.wrapModules(layers(1))
      expect(thrown(() => offloader.explain())).toMatchObject({
        code: 'SPILLWAY_BACKEND_FAILED',
        cause: { message: 'inside' },
      })
      for (const measured of [
        null,
        3,
        { stepMs: -1, modules: [] },
        { stepMs: 1, modules: [{ ...times, waitMs: '1' }] },
      ]) {
        expect(thrown(() => offloader.explain({ measured: measured as never })).code).toBe('SPILLWAY_INVALID_ARGUMENT')
      }
      await offloader.dispose()
    }))
})

describe('a trace', () => {
  const tracing = (stop: () => unknown): PlacementBackend<HostSlotsOptions> =>
    broken(() => ({ tracer: { start() {}, stop: stop as () => [] } }))
  const event = { lane: 'copy', module: 'layers.0', startMs: 1, endMs: 2 }

  test.each<[string, unknown]>([
    ['of nothing', undefined],
    ['of no event', [null]],
    ['of another lane', [{ ...event, lane: 'rest' }]],
    ['of nobody', [{ ...event, module: 3 }]],
    ['that ends before it begins', [{ ...event, endMs: 0 }]],
    ['of no time', [{ ...event, startMs: Number.NaN }]],
  ])('%s is refused', (_, value) =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(
        fixture,
        tracing(() => value),
      )
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      const error = await rejected(offloader.trace(() => undefined))
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      await offloader.dispose()
    }),
  )

  test('that cannot be ended is wrapped, and does not stand in the way of the next one', () =>
    withDevice(async (fixture) => {
      let stops = 0
      const offloader = await offloaderOf(
        fixture,
        tracing(() => {
          if (stops++ === 0) throw new Error('inside')
          return [event]
        }),
      )
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      const error = await rejected(offloader.trace(() => undefined))
      expect(error).toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED', cause: { message: 'inside' } })
      expect(await offloader.trace(() => 'result')).toEqual({ result: 'result', events: [event] })
      await offloader.dispose()
    }))
})
