import { configure, createOffloader, none, type Offloader, type OffloaderOptions, throwIfAborted } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { type Fixture, physicalBytes, rejected, thrown, withDevice } from './device-fixture.js'
import { broken, type HostSlots, hostSlots } from './host-slots.js'
import { layerSlabBytes, layers, module, parameter } from './specs.js'

const create = ({ device, compute }: Fixture, more: Partial<OffloaderOptions> = {}): Promise<Offloader> =>
  createOffloader({ device, compute, backends: [configure(hostSlots)], ...more })

type Call = (offloader: Offloader, fixture: Fixture) => unknown
const calls: Readonly<Record<string, Call>> = {
  wrapModules: (offloader) => offloader.wrapModules([module('late', 99, [parameter('w', [1])])]),
  replaceParameters: (offloader) => offloader.replaceParameters('layers.0', new Map()),
  postInit: (offloader) => offloader.postInit(),
  beginForward: (offloader, { compute }) => offloader.beginForward(compute).end(true),
  forward: (offloader, { compute }) => offloader.forward(compute, () => undefined),
  planKernel: (offloader) =>
    offloader.planKernel({ kind: 'linear', maxRows: 1, input: 'f32', output: 'f32', weight: {} as never }),
  explain: (offloader) => offloader.explain(),
  stats: (offloader) => offloader.stats(),
  settledStats: (offloader) => offloader.settledStats(),
  memory: (offloader, { compute }) =>
    offloader
      .memory('workspace')
      .allocate(1, { stream: compute, recovery: { kind: 'copy' } })
      .dispose(),
}
const always = ['stats', 'settledStats', 'memory']
const allowed: Readonly<Record<string, readonly string[]>> = {
  new: ['wrapModules', ...always],
  wrapped: ['wrapModules', 'replaceParameters', 'postInit', 'explain', ...always],
  ready: ['beginForward', 'forward', 'planKernel', 'explain', ...always],
  failed: always,
  disposed: [],
}

async function bring(fixture: Fixture, state: string): Promise<Offloader> {
  const offloader = await create(
    fixture,
    state === 'failed' ? { backends: [configure(hostSlots, { resident: 9 })] } : {},
  )
  if (state === 'new') return offloader
  await offloader.wrapModules(layers(1))
  if (state === 'failed') await rejected(offloader.postInit())
  if (state === 'ready') await offloader.postInit()
  if (state === 'disposed') await offloader.dispose()
  return offloader
}

describe.each(Object.keys(allowed))('while %s', (state) => {
  test.each(Object.keys(calls))('%s', (call) =>
    withDevice(async (fixture) => {
      const offloader = await bring(fixture, state)
      const run = async (): Promise<unknown> => calls[call]!(offloader, fixture)
      if (allowed[state]!.includes(call)) {
        await run()
      } else {
        const error = await rejected(run())
        expect(error.code).toBe(state === 'disposed' ? 'SPILLWAY_DISPOSED' : 'SPILLWAY_INVALID_STATE')
        expect(error.message).toContain(call === 'forward' ? 'beginForward' : call)
      }
      await offloader.dispose()
    }),
  )
})

test('one asynchronous call at a time', () =>
  withDevice(async (fixture) => {
    await using offloader = await create(fixture)
    const first = offloader.wrapModules(layers(1))
    for (const call of ['wrapModules', 'postInit', 'replaceParameters']) {
      expect((await rejected(calls[call]!(offloader, fixture) as Promise<unknown>)).code).toBe('SPILLWAY_INVALID_STATE')
    }
    await first
    await offloader.postInit()
  }))

describe('creating', () => {
  test.each<[string, Partial<OffloaderOptions>, string]>([
    ['no device', { device: undefined as never }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['no stream', { compute: {} as never }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['a plan with NaN', { plan: { kvCacheBytes: Number.NaN, workspaceBytes: 0 } }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['a plan with less than nothing', { plan: { kvCacheBytes: 0, workspaceBytes: -1 } }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['backends that are no list', { backends: 'prefetch' as never }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['a backend that was not configured', { backends: [none as never] }, 'SPILLWAY_BACKEND_INVALID'],
    [
      'a configuration written by hand, wrongly',
      { backends: [{ backend: hostSlots, config: { resident: -1 } }] },
      'SPILLWAY_INVALID_OPTION',
    ],
    ['an unknown option', { backends: [{ backend: hostSlots, config: { residents: 1 } }] }, 'SPILLWAY_UNKNOWN_OPTION'],
    ['a pin setting that is none', { pin: 'yes' as never }, 'SPILLWAY_INVALID_OPTION'],
  ])('with %s is refused', (_, more, code) =>
    withDevice(async (fixture) => {
      expect((await rejected(create(fixture, more))).code).toBe(code)
    }),
  )

  test('a configuration written by hand gets its defaults', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture, { backends: [{ backend: hostSlots, config: {} }] })
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(0)
    }))
})

describe('the pin decision', () => {
  const environment = { pinMemoryDisabledBy: 'SPILLWAY_DISABLE_PIN_MEMORY' }
  test.each<[Partial<OffloaderOptions>, boolean]>([
    [{ environment: { pinMemoryDisabledBy: undefined } }, true],
    [{ environment }, false],
    [{ environment, pin: 'on' }, true],
    [{ pin: 'off' }, false],
  ])('%j: what a backend gets from ctx.host is %s, and so is everything that says so', (more, pin) =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture, more)
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      const own = await offloader.host.allocate(10)
      expect(offloader.pin.pin).toBe(pin)
      expect(offloader.stats().pinned).toEqual(offloader.pin)
      expect(offloader.modules.get('layers.0')!.parameters.get('up')!.storage).toBe(pin ? 'pinned' : 'pageable')
      const { pinnedBytes, pageableBytes } = fixture.device.counters()
      expect(pin ? pageableBytes : pinnedBytes).toBe(0)
      expect(own.storage).toBe(pin ? 'pinned' : 'pageable')
      await own.dispose()
    }),
  )

  test('a backend that needs pinned memory is refused where memory is not pinned', () =>
    withDevice(async (fixture) => {
      const picky = { ...hostSlots, supports: { ...hostSlots.supports, unpinned: false } }
      const error = await rejected(create(fixture, { backends: [configure(picky)], pin: 'off' }))
      expect(error.code).toBe('SPILLWAY_PIN_REQUIRED')
      expect(error.message).toContain('set to off')
      await using offloader = await create(fixture, { backends: [configure(picky)], pin: 'on' })
      expect(offloader.pin.pin).toBe(true)
    }))
})

describe('memory for the engine', () => {
  test.each<[string, number, object, string]>([
    ['no bytes', 0, { recovery: { kind: 'copy' } }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['NaN bytes', Number.NaN, { recovery: { kind: 'copy' } }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['no recovery', 1, {}, 'SPILLWAY_INVALID_ARGUMENT'],
    ['an unknown recovery', 1, { recovery: { kind: 'hope' } }, 'SPILLWAY_INVALID_ARGUMENT'],
    ['too many bytes', 2 ** 30, { recovery: { kind: 'copy' } }, 'SPILLWAY_OUT_OF_MEMORY'],
  ])('%s', (_, bytes, options, code) =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      const source = offloader.memory('kv_cache')
      expect(thrown(() => source.allocate(bytes, { stream: fixture.compute, ...options } as never)).code).toBe(code)
      expect(thrown(() => offloader.memory('')).code).toBe('SPILLWAY_INVALID_ARGUMENT')
      expect((await rejected(offloader.host.allocate(-1))).code).toBe('SPILLWAY_INVALID_ARGUMENT')
    }),
  )

  test('counts as its tag, is in the peak, and outlives nothing', () =>
    withDevice(async (fixture) => {
      const offloader = await create(fixture)
      const source = offloader.memory('kv_cache')
      const cache = source.allocate(1000, { stream: fixture.compute, recovery: { kind: 'copy' } })
      expect(fixture.device.budget.usedBytesByTag).toMatchObject({ kv_cache: physicalBytes(1000) })
      await cache.dispose()
      await offloader.wrapModules(layers(1))
      expect(offloader.stats().peakDeviceBytes).toBe(physicalBytes(1000))
      await offloader.dispose()
      expect(thrown(() => source.allocate(1, { stream: fixture.compute, recovery: { kind: 'copy' } })).code).toBe(
        'SPILLWAY_DISPOSED',
      )
      expect((await rejected(offloader.host.allocate(1))).code).toBe('SPILLWAY_DISPOSED')
    }))
})

describe('aborting and disposing', () => {
  /** Waits for its signal in the second module, as a real backend waits for memory. */
  const slow = (onWait: () => void = () => {}): typeof hostSlots =>
    broken((steps: HostSlots) => {
      const wrap = steps.wrapModules.bind(steps)
      return {
        wrapModules: async (specs, options) => {
          onWait()
          await new Promise<void>((resolve) =>
            options.signal?.addEventListener('abort', () => resolve(), { once: true }),
          )
          throwIfAborted(options.signal, 'waiting')
          return wrap(specs, options)
        },
      }
    })

  test('a signal that fires while modules are placed', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture, { backends: [configure(slow())] })
      const controller = new AbortController()
      const wrapping = offloader.wrapModules(layers(2), { signal: controller.signal })
      controller.abort()
      expect((await rejected(wrapping)).code).toBe('SPILLWAY_ABORTED')
      expect(offloader.modules.size).toBe(0)
    }))

  test("a backend that rejects with the signal's reason is an abort too", () =>
    withDevice(async (fixture) => {
      const backend = broken(() => ({
        wrapModules: async (_, { signal }) => {
          await new Promise((resolve) => setImmediate(resolve))
          signal!.throwIfAborted()
          return []
        },
      }))
      await using offloader = await create(fixture, { backends: [configure(backend)] })
      const controller = new AbortController()
      const wrapping = offloader.wrapModules(layers(1), { signal: controller.signal })
      controller.abort(new Error('enough'))
      expect(await rejected(wrapping)).toMatchObject({ code: 'SPILLWAY_ABORTED', cause: { message: 'enough' } })
    }))

  test('an abort does not hide a failure that has a code', () =>
    withDevice(async (fixture) => {
      const coded = Object.assign(new Error('x'), { code: 'SPILLWAY_OUT_OF_MEMORY' })
      const backend = broken(() => ({
        wrapModules: async () => {
          await new Promise((resolve) => setImmediate(resolve))
          throw coded
        },
      }))
      await using offloader = await create(fixture, { backends: [configure(backend)] })
      const controller = new AbortController()
      const wrapping = offloader.wrapModules(layers(1), { signal: controller.signal })
      controller.abort()
      expect(await rejected(wrapping)).toBe(coded)
    }))

  test('disposing during postInit: disposed it is, not failed', () =>
    withDevice(async (fixture) => {
      const backend = broken((steps) => {
        const postInit = steps.postInit.bind(steps)
        return {
          postInit: async () => {
            await new Promise((resolve) => setImmediate(resolve))
            return postInit()
          },
        }
      })
      const offloader = await create(fixture, { backends: [configure(backend)] })
      await offloader.wrapModules(layers(1))
      const ending = rejected(offloader.postInit())
      await offloader.dispose()
      expect((await ending).code).toBe('SPILLWAY_DISPOSED')
      expect(thrown(() => offloader.stats()).code).toBe('SPILLWAY_DISPOSED')
    }))

  test('disposing stops what is running, waits for it, and frees everything once', () =>
    withDevice(async (fixture) => {
      let waiting = false
      const offloader = await create(fixture, {
        backends: [
          configure(
            slow(() => {
              waiting = true
            }),
          ),
        ],
      })
      const wrapping = rejected(offloader.wrapModules(layers(2)))
      await new Promise((resolve) => setImmediate(resolve))
      expect(waiting).toBe(true)
      await Promise.all([offloader.dispose(), offloader.dispose()])
      expect((await wrapping).code).toBe('SPILLWAY_ABORTED')
    }))

  test('disposing ends an open forward, not ok', () =>
    withDevice(async (fixture) => {
      let steps: HostSlots | undefined
      const backend = broken((made) => {
        steps = made
        return {}
      })
      const offloader = await create(fixture, { backends: [configure(backend)] })
      await offloader.wrapModules(layers(1))
      await offloader.postInit()
      const scope = offloader.beginForward(fixture.compute)
      scope.before('layers.0')
      await offloader.dispose()
      expect(steps!.ends).toEqual([false])
      expect(steps!.disposals).toBe(1)
      expect(thrown(() => scope.after('layers.0')).code).toBe('SPILLWAY_FORWARD_ORDER')
      scope.end(false)
    }))
})

test('the k-th allocation fails, for every k: coded, and nothing is left', async () => {
  // Three modules on the device, two slots, five in all; the limit lets k of them through.
  for (let k = 0; k <= 5; k++) {
    await withDevice(
      async (fixture) => {
        const offloader = await create(fixture, { backends: [configure(hostSlots, { resident: 3 })] })
        const failure = await (async () => {
          await offloader.wrapModules(layers(5))
          await offloader.postInit()
        })().then(
          () => undefined,
          (error: unknown) => error,
        )
        if (k === 5) expect(failure).toBeUndefined()
        else expect(failure).toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
        await offloader.dispose()
      },
      k * physicalBytes(layerSlabBytes) + 1,
    )
  }
})
