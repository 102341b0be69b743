import type { OffloaderSteps, Parameter, PlacementBackend } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { rejected, thrown, withDevice } from './device-fixture.js'
import { broken, type HostSlotsOptions, hostSlots, offloaderOf } from './host-slots.js'
import { layers } from './specs.js'

describe('what a backend throws', () => {
  test.each(['wrapModules', 'replaceParameters', 'postInit', 'stats'] as const)(
    'in %s is wrapped with its name',
    (verb) =>
      withDevice(async (fixture) => {
        const fail = (): never => {
          throw new Error('inside')
        }
        const offloader = await offloaderOf(
          fixture,
          broken(() => ({ [verb]: verb === 'stats' ? fail : async () => fail() })),
        )
        const call = async (): Promise<unknown> => {
          await offloader.wrapModules(layers(1))
          if (verb === 'stats') return offloader.stats()
          if (verb === 'postInit') return offloader.postInit()
          return offloader.replaceParameters('layers.0', new Map([['down', null]]))
        }
        const error = await rejected(call())
        expect(error).toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED', cause: { message: 'inside' } })
        expect(error.message).toContain(`backend broken failed in ${verb}: inside`)
        await offloader.dispose()
      }),
  )

  test('with a code passes as it is', () =>
    withDevice(async (fixture) => {
      const coded = Object.assign(new Error('x'), { code: 'SPILLWAY_OUT_OF_MEMORY' })
      const offloader = await offloaderOf(
        fixture,
        broken(() => ({ wrapModules: () => Promise.reject(coded) })),
      )
      expect(await rejected(offloader.wrapModules(layers(1)))).toBe(coded)
      await offloader.dispose()
    }))

  test('in dispose: reported, and what it left is freed and reported too', () =>
    withDevice(async (fixture) => {
      const failing = await offloaderOf(
        fixture,
        broken(() => ({ dispose: () => Promise.reject(new Error('stuck')) })),
      )
      await failing.wrapModules(layers(2))
      const error = await rejected(failing.dispose())
      expect(error.code).toBe('SPILLWAY_BACKEND_FAILED')
      expect(error.message).toMatch(/stuck.*left 2848 bytes/)

      const forgetful = await offloaderOf(
        fixture,
        broken(() => ({ dispose: async () => {} })),
        1,
      )
      await forgetful.wrapModules(layers(2))
      expect((await rejected(forgetful.dispose())).code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
    }))

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['steps without verbs', {}],
    [
      'steps without dispose',
      { wrapModules() {}, replaceParameters() {}, postInit() {}, beginForward() {}, stats() {} },
    ],
  ])('create returning %s is refused', (_, steps) =>
    withDevice(async (fixture) => {
      const backend = { ...hostSlots, create: async () => steps as OffloaderSteps }
      expect((await rejected(offloaderOf(fixture, backend))).code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
    }),
  )

  test('create failing after it took memory leaves none', () =>
    withDevice(async (fixture) => {
      const backend: typeof hostSlots = {
        ...hostSlots,
        create: async (context) => {
          context.memory('weights').allocate(100, { stream: context.compute, recovery: { kind: 'copy' } })
          await context.host.allocate(100)
          throw new Error('too late')
        },
      }
      expect((await rejected(offloaderOf(fixture, backend))).code).toBe('SPILLWAY_BACKEND_FAILED')
    }))
})

describe('kernels', () => {
  const operation = { kind: 'linear', maxRows: 4, input: 'f32', output: 'f32' } as const
  const supports = { ...hostSlots.supports, kernels: true }
  test.each<[string, Partial<PlacementBackend<HostSlotsOptions>>, unknown, string | null]>([
    ['no support', {}, { name: 'k', scratchBytes: 0, enqueue() {} }, null],
    ['no kernel for this weight', { supports }, null, null],
    ['a kernel', { supports }, { name: 'k', scratchBytes: 0, enqueue() {} }, 'k'],
    ['a plan that is none', { supports }, { name: 'k', scratchBytes: -1, enqueue() {} }, 'SPILLWAY_BACKEND_MISBEHAVED'],
  ])('%s', (_, more, plan, expected) =>
    withDevice(async (fixture) => {
      const backend = broken(() => ({ kernels: { plan: () => plan as never } }), more)
      const offloader = await offloaderOf(fixture, backend)
      await offloader.wrapModules(layers(1))
      const weight = (): Parameter => offloader.modules.get('layers.0')!.parameters.get('up')!
      expect(thrown(() => offloader.planKernel({ ...operation, weight: weight() })).code).toBe('SPILLWAY_INVALID_STATE')
      await offloader.postInit()
      const ask = (): unknown => offloader.planKernel({ ...operation, weight: weight() })
      if (expected?.startsWith('SPILLWAY')) expect(thrown(ask).code).toBe(expected)
      else expect(expected === null ? ask() : (ask() as { name: string }).name).toBe(expected)
      await offloader.dispose()
    }),
  )

  test('a provider that is not there is null', () =>
    withDevice(async (fixture) => {
      const offloader = await offloaderOf(fixture, { ...hostSlots, supports })
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      const weight = offloader.modules.get('layers.0')!.parameters.get('up')!
      expect(offloader.planKernel({ ...operation, weight })).toBeNull()
      expect(thrown(() => offloader.planKernel({ ...operation, weight, maxRows: 0 })).code).toBe(
        'SPILLWAY_INVALID_ARGUMENT',
      )
      await offloader.dispose()
    }))
})
