import {
  type ConfiguredBackend,
  configure,
  createOffloader,
  type Device,
  type HostBuffer,
  none,
  type ResidencyBackend,
} from '@spillway/core'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { describe, expect, test } from 'vitest'
import { contents, copyOut, loadAll, physicalBytes, rejected, thrown, withDevice } from './device-fixture.js'
import { broken, hostSlots } from './host-slots.js'
import { Shelf, shelf } from './shelf.js'
import { layerBytes, layerSlabBytes, layers } from './specs.js'

/** A `shelf` whose steps the test can look into. */
function watched(): { backend: ResidencyBackend<Readonly<Record<string, never>>>; steps: () => Shelf } {
  let made: Shelf | undefined
  const backend = {
    ...shelf,
    create: async (context: ConstructorParameters<typeof Shelf>[0]) => (made = new Shelf(context)),
  }
  return { backend, steps: () => made! }
}

/** Work on the wake stream, long enough that a forward without a wait would overtake the copies behind it. */
async function slowWake(device: Device, steps: Shelf): Promise<HostBuffer> {
  const slow = await device.allocateHost(2 ** 26, { storage: 'pageable' })
  steps.beforeWake = (stream) => {
    for (let i = 0; i < 4; i++) stream.fill(slow, i)
  }
  return slow
}

describe('which backends go together', () => {
  test.each<[string, ConfiguredBackend[], string[]]>([
    ['placement + residency', [configure(hostSlots), configure(shelf)], ['host-slots', 'shelf']],
    ['residency + placement', [configure(shelf), configure(hostSlots)], ['host-slots', 'shelf']],
    ['residency alone', [configure(shelf)], ['none', 'shelf']],
    ['none + residency', [configure(none), configure(shelf)], ['none', 'shelf']],
  ])('%s', (_, backends, names) =>
    withDevice(async ({ device, compute }) => {
      await using offloader = await createOffloader({ device, compute, backends })
      expect(offloader.names).toEqual(names)
      expect(offloader.residency).toBeDefined()
    }),
  )

  test.each<[string, ConfiguredBackend[]]>([
    ['two placement backends', [configure(hostSlots), configure(none)]],
    ['two residency backends', [configure(shelf), configure({ ...shelf, name: 'other' })]],
    ['the same one twice', [configure(none), configure(none)]],
  ])('%s are a conflict', (_, backends) =>
    withDevice(async ({ device, compute }) => {
      const error = await rejected(createOffloader({ device, compute, backends }))
      expect(error.code).toBe('SPILLWAY_BACKEND_CONFLICT')
      expect(error.details.names).toHaveLength(2)
    }),
  )
})

test('everything comes from the residency backend: weights, slots, and what the engine takes', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    const { backend, steps } = watched()
    await using offloader = await createOffloader({
      device,
      compute,
      backends: [configure(hostSlots, { resident: 1 }), configure(backend)],
    })
    await offloader.wrapModules(layers(2))
    await offloader.postInit()
    const cache = offloader
      .memory('kv_cache')
      .allocate(64, { stream: compute, recovery: { kind: 'rebuild', rebuild() {} } })
    expect(steps().kept.map(({ tag, module, recovery }) => [tag, module, recovery.kind])).toEqual([
      ['weights', 'layers.0', 'copy'],
      ['weights', 'layers.1', 'rebuild'],
      ['kv_cache', undefined, 'rebuild'],
    ])
    expect(device.budget.usedBytesByTag).toMatchObject({
      weights: 2 * physicalBytes(layerSlabBytes),
      kv_cache: physicalBytes(64),
    })
    expect(offloader.stats()).toMatchObject({
      residentBytes: layerBytes,
      offloadedBytes: layerBytes,
      slotBytes: layerSlabBytes,
    })
    await cache.dispose()
  }))

test('sleep loses the bytes, wake brings them back; forwards are refused in between', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    await using offloader = await createOffloader({
      device,
      compute,
      backends: [configure(hostSlots, { resident: 1 }), configure(shelf)],
    })
    await loadAll(fixture, await offloader.wrapModules(layers(2)))
    await offloader.postInit()
    const resident = offloader.modules.get('layers.0')!.parameters.get('up')!.tensor
    const run = (): void =>
      offloader.forward(compute, (scope) => {
        for (const name of ['layers.0', 'layers.1']) {
          scope.before(name)
          scope.after(name)
        }
      })
    run()
    await compute.synchronize()

    const report = await offloader.residency!.sleep({ level: 1, after: [compute] })
    expect(report.copiedBytes).toBe(layerSlabBytes)
    expect(await fixture.read(resident)).toEqual(new Uint8Array(1000).fill(0xee))
    const error = thrown(run)
    expect(error.code).toBe('SPILLWAY_ASLEEP')
    expect(error.details.tags).toEqual(['weights'])

    await offloader.residency!.wake()
    run()
    expect(await fixture.read(resident)).toEqual(contents('layers.0.up', 1000))
    const slotted = offloader.modules.get('layers.1')!.parameters.get('down')!.tensor
    expect(await fixture.read(slotted)).toEqual(contents('layers.1.down', 400))
  }))

test('a discarded cache keeps the gate shut and bumps its epoch', () =>
  withDevice(async ({ device, compute }) => {
    await using offloader = await createOffloader({ device, compute, backends: [configure(shelf)] })
    await offloader.wrapModules(layers(1))
    await offloader.postInit()
    const { residency } = offloader
    const cache = offloader
      .memory('kv_cache')
      .allocate(64, { stream: compute, recovery: { kind: 'rebuild', rebuild() {} } })
    await residency!.discard(['kv_cache'])
    expect(residency!.epoch('kv_cache')).toBe(1)
    expect(thrown(() => offloader.beginForward(compute)).message).toContain('kv_cache is discarded')
    await residency!.wake({ tags: ['kv_cache'] })
    offloader.beginForward(compute).end(true)
    await cache.dispose()
  }))

test('a forward that starts while memory is waking waits for its module, not for everything', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    const { backend, steps } = watched()
    await using offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
    await loadAll(fixture, await offloader.wrapModules(layers(2)))
    await offloader.postInit()
    await offloader.residency!.sleep({ level: 1 })
    const slow = await slowWake(device, steps())
    const out = await device.allocateHost(1000, { storage: 'pinned' })
    const waking = offloader.residency!.wake()
    expect(offloader.residency!.state().get('weights')).toBe('waking')
    offloader.forward(compute, (scope) => {
      scope.before('layers.1')
      copyOut(compute, out, offloader.modules.get('layers.1')!.parameters.get('up')!.tensor)
      scope.after('layers.1')
    })
    await compute.synchronize()
    expect(out.read()).toEqual(contents('layers.1.up', 1000))
    await waking
    await out.dispose()
    await slow.dispose()
  }, 2 ** 20))

test('a captured forward contains the wait for its fence, though memory is awake', () =>
  withDevice(async ({ device, compute }) => {
    const out = await device.allocateHost(1000, { storage: 'pinned' })
    const nodes = async (backends: ConfiguredBackend[]): Promise<number> => {
      await using offloader = await createOffloader({ device, compute, backends })
      await offloader.wrapModules(layers(1))
      const { tensor } = (await offloader.postInit()).get('layers.0')!.parameters.get('up')!
      compute.beginCapture()
      offloader.forward(compute, (scope) => {
        scope.before('layers.0')
        copyOut(compute, out, tensor)
        scope.after('layers.0')
      })
      const graph = compute.endCapture()
      const { nodeCount } = graph
      await graph.dispose()
      return nodeCount
    }
    const without = await nodes([configure(none)])
    expect(await nodes([configure(none), configure(shelf)])).toBe(without + 1)
    await out.dispose()
  }))

test('a graph captured awake reads the right bytes when replayed after a sleep', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    const { backend, steps } = watched()
    await using offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
    await loadAll(fixture, await offloader.wrapModules(layers(1)))
    const { tensor } = (await offloader.postInit()).get('layers.0')!.parameters.get('up')!
    const out = await device.allocateHost(1000, { storage: 'pinned' })
    compute.beginCapture()
    offloader.forward(compute, (scope) => {
      scope.before('layers.0')
      copyOut(compute, out, tensor)
      scope.after('layers.0')
    })
    const graph = compute.endCapture()
    await offloader.residency!.sleep({ level: 1 })
    const slow = await slowWake(device, steps())
    const waking = offloader.residency!.wake()
    compute.launch(graph)
    await compute.synchronize()
    expect(out.read()).toEqual(contents('layers.0.up', 1000))
    await waking
    await slow.dispose()
    await graph.dispose()
    await out.dispose()
  }))

test('sleep, wake and placing take turns; none of them inside of a forward', () =>
  withDevice(async ({ device, compute }) => {
    await using offloader = await createOffloader({ device, compute, backends: [configure(shelf)] })
    const residency = offloader.residency!
    const wrapping = offloader.wrapModules(layers(1))
    expect((await rejected(residency.sleep({ level: 1 }))).code).toBe('SPILLWAY_INVALID_STATE')
    await wrapping
    await offloader.postInit()
    const sleeping = residency.sleep({ level: 1 })
    expect(thrown(() => offloader.beginForward(compute)).code).toBe('SPILLWAY_ASLEEP')
    expect((await rejected(residency.wake())).code).toBe('SPILLWAY_INVALID_STATE')
    await sleeping
    await residency.wake()
    const scope = offloader.beginForward(compute)
    expect((await rejected(residency.sleep({ level: 1 }))).code).toBe('SPILLWAY_FORWARD_OPEN')
    scope.end(true)
    expect((await rejected(residency.sleep({ level: 3 as never }))).code).toBe('SPILLWAY_INVALID_ARGUMENT')
    await residency.sleep({ level: 1 })
    await residency.wake()
  }))

test('placing while asleep is refused', () =>
  withDevice(async ({ device, compute }) => {
    await using offloader = await createOffloader({ device, compute, backends: [configure(shelf)] })
    await offloader.wrapModules(layers(1))
    await offloader.residency!.sleep({ level: 1 })
    const more = layers(2).slice(1)
    expect((await rejected(offloader.wrapModules(more))).code).toBe('SPILLWAY_ASLEEP')
    expect((await rejected(offloader.postInit())).code).toBe('SPILLWAY_ASLEEP')
    await offloader.residency!.wake()
    await offloader.wrapModules(more)
    await offloader.postInit()
  }))

test('errors of a residency backend are wrapped with its name; a placement that cannot be made disposes it', () =>
  withDevice(async ({ device, compute }) => {
    const { backend, steps } = watched()
    await using offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
    steps().wake = () => Promise.reject(new Error('no luck'))
    const error = await rejected(offloader.residency!.wake())
    expect(error).toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED', cause: { message: 'no luck' } })
    expect(error.message).toContain('shelf')

    const second = watched()
    const failing = broken(() => ({}), { create: () => Promise.reject(new Error('cannot')) })
    const backends = [configure(second.backend), configure(failing)]
    expect((await rejected(createOffloader({ device, compute, backends }))).code).toBe('SPILLWAY_BACKEND_FAILED')
    expect(second.steps().disposals).toBe(1)
  }))

test('a residency backend that gives less than was asked for', () =>
  withDevice(async ({ device, compute }) => {
    const { backend, steps } = watched()
    await using offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
    const source = steps().source.bind(steps())
    steps().source = (tag) => ({ tag, allocate: (bytes, options) => source(tag).allocate(bytes - 1, options) })
    const error = await rejected(offloader.wrapModules(layers(1)))
    expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
    expect(error.message).toContain('backend shelf')
  }))

test('a residency backend that needs pinned memory is refused where memory is not pinned', () =>
  withDevice(async ({ device, compute }) => {
    const picky = { ...shelf, supports: { ...shelf.supports, unpinned: false } }
    const creating = createOffloader({ device, compute, backends: [configure(picky)], pin: 'off' })
    expect((await rejected(creating)).code).toBe('SPILLWAY_PIN_REQUIRED')
  }))

test('the placement backend is disposed first, each exactly once', () =>
  withDevice(async ({ device, compute }) => {
    const order: string[] = []
    const logged = (name: string, dispose: () => Promise<void>): Promise<void> => {
      order.push(name)
      return dispose()
    }
    const { backend } = watched()
    const placement = broken((steps) => {
      const dispose = steps.dispose.bind(steps)
      return { dispose: () => logged('placement', dispose) }
    })
    const residency = {
      ...backend,
      create: async (context: ConstructorParameters<typeof Shelf>[0]) => {
        const steps = await backend.create(context, {})
        const dispose = steps.dispose.bind(steps)
        return Object.assign(steps, { dispose: () => logged('residency', dispose) })
      },
    }
    const offloader = await createOffloader({ device, compute, backends: [configure(residency), configure(placement)] })
    await offloader.wrapModules(layers(1))
    const first = offloader.dispose()
    expect(offloader.dispose()).toBe(first)
    await first
    await offloader[Symbol.asyncDispose]()
    expect(order).toEqual(['placement', 'residency'])
    expect(thrown(() => offloader.residency!.state()).code).toBe('SPILLWAY_DISPOSED')
  }))

describe('a placement backend with a stream of its own', () => {
  test.each<['sleep' | 'discard']>([['sleep'], ['discard']])('%s waits for its copies', async (verb) => {
    // What is checked is order, not luck: without the wait, the shelf writes to slots that copies may still write to.
    const device = await openDevice('host', { memoryLimitBytes: 2 ** 20, check: true })
    const compute = device.createStream()
    const { backend, steps } = watched()
    const offloader = await createOffloader({
      device,
      compute,
      backends: [configure(prefetch, { groupSize: 1, prefetchStep: 2 }), configure(backend)],
    })
    await offloader.wrapModules(layers(4))
    await offloader.postInit()
    offloader.forward(compute, (forward) => {
      for (const { name } of layers(4)) {
        forward.before(name)
        forward.after(name)
      }
    })
    if (verb === 'sleep') await offloader.residency!.sleep({ level: 1 })
    else await offloader.residency!.discard(['weights'])
    for (const { buffer } of steps().kept) compute.fill(buffer, 1)
    await compute.synchronize()
    expect(device.checker!.takeViolations()).toEqual([])
    await offloader.dispose()
    await compute.dispose()
    await device.dispose()
  })
})
