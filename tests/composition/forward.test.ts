import { configure, createOffloader, type ForwardSteps, type Offloader, type Stream } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { collectGarbage } from '../../packages/device/test/device-rig.js'
import { contents, type Fixture, loadAll, thrown, withDevice } from './device-fixture.js'
import { broken, type HostSlots, hostSlots } from './host-slots.js'
import { layerSlabBytes, layers } from './specs.js'

interface Ready {
  readonly offloader: Offloader
  /** What the backend was told at the end of each forward. */
  readonly ends: () => readonly boolean[]
}

async function ready(
  fixture: Fixture,
  forward?: (inner: ForwardSteps) => Partial<ForwardSteps>,
  count = 2,
): Promise<Ready> {
  let made: HostSlots | undefined
  const backend = broken((steps) => {
    made = steps
    const begin = steps.beginForward.bind(steps)
    return {
      beginForward: (stream: Stream) => {
        const inner = begin(stream)
        return { ...inner, ...forward?.(inner) }
      },
    }
  })
  const { device, compute } = fixture
  const offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
  await loadAll(fixture, await offloader.wrapModules(layers(count)))
  await offloader.postInit()
  return { offloader, ends: () => made!.ends }
}

test('bytes really move: counted at the device, equal to what the backend says, right in the slots', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    const { offloader, ends } = await ready(fixture)
    await using _ = offloader
    const before = device.counters().hostToDeviceBytes
    const result = offloader.forward(compute, (scope) => {
      for (const name of ['layers.0', 'layers.1', 'layers.1']) {
        scope.before(name)
        scope.after(name)
      }
      return 'enqueued'
    })
    expect(result).toBe('enqueued')
    const stats = await offloader.settledStats()
    expect(device.counters().hostToDeviceBytes - before).toBe(3 * layerSlabBytes)
    expect(stats.onloadedBytes).toBe(3 * layerSlabBytes)
    const { tensor, storage } = offloader.modules.get('layers.1')!.parameters.get('up')!
    expect([storage, tensor.buffer.kind]).toEqual(['pinned', 'device-buffer'])
    expect(await fixture.read(tensor)).toEqual(contents('layers.1.up', 1000))
    expect(ends()).toEqual([true])
  }))

test('one forward at a time', () =>
  withDevice(async (fixture) => {
    const { offloader } = await ready(fixture)
    await using _ = offloader
    const scope = offloader.beginForward(fixture.compute)
    expect(thrown(() => offloader.beginForward(fixture.compute)).code).toBe('SPILLWAY_FORWARD_OPEN')
    scope.end(true)
    offloader.beginForward(fixture.compute).end(true)
  }))

describe('misuse ends the forward, not ok, and the next one works', () => {
  const inside = (scope: ForwardSteps): ForwardSteps => {
    scope.before('layers.0')
    return scope
  }
  test.each<[string, (scope: ForwardSteps) => void]>([
    ['after without before', (scope) => scope.after('layers.0')],
    ['before twice', (scope) => inside(scope).before('layers.1')],
    ['after of another module', (scope) => inside(scope).after('layers.1')],
    ['before of an unknown module', (scope) => scope.before('layers.9')],
    ['after of an unknown module', (scope) => scope.after('toString')],
    ['a module that is no name', (scope) => scope.before(undefined as never)],
    ['end(true) inside of a module', (scope) => inside(scope).end(true)],
  ])('%s', (_, misuse) =>
    withDevice(async (fixture) => {
      const { offloader, ends } = await ready(fixture)
      const scope = offloader.beginForward(fixture.compute)
      expect(thrown(() => misuse(scope)).code).toBe('SPILLWAY_FORWARD_ORDER')
      expect(ends()).toEqual([false])
      expect(thrown(() => scope.before('layers.0')).code).toBe('SPILLWAY_FORWARD_ORDER')
      expect(thrown(() => scope.after('layers.0')).code).toBe('SPILLWAY_FORWARD_ORDER')
      expect(thrown(() => scope.end(true)).code).toBe('SPILLWAY_FORWARD_ORDER')
      scope.end(false)
      expect(ends()).toEqual([false])
      offloader.beginForward(fixture.compute).end(true)
      expect(ends()).toEqual([false, true])
      await offloader.dispose()
    }),
  )
})

test('modules may be left out, come again and come in any order', () =>
  withDevice(async (fixture) => {
    const { offloader, ends } = await ready(fixture, undefined, 4)
    offloader.forward(fixture.compute, (scope) => {
      for (const name of ['layers.3', 'layers.0', 'layers.3', 'layers.3']) {
        scope.before(name)
        scope.after(name)
      }
    })
    expect(ends()).toEqual([true])
    await offloader.dispose()
  }))

describe('forward(stream, body)', () => {
  test('throws on what the body throws and ends not ok', () =>
    withDevice(async (fixture) => {
      const { offloader, ends } = await ready(fixture)
      const mine = new Error('mine')
      const body = (): never => {
        throw mine
      }
      expect(() => offloader.forward(fixture.compute, body)).toThrow(mine)
      expect(ends()).toEqual([false])
      offloader.forward(fixture.compute, () => undefined)
      expect(ends()).toEqual([false, true])
      await offloader.dispose()
    }))

  test('refuses a body that returns a promise, and that promise may reject', () =>
    withDevice(async (fixture) => {
      const { offloader, ends } = await ready(fixture)
      const unhandled: unknown[] = []
      const listen = (reason: unknown): void => void unhandled.push(reason)
      process.on('unhandledRejection', listen)
      const late = async (scope: Pick<ForwardSteps, 'before'>): Promise<void> => {
        await null
        scope.before('layers.0')
      }
      expect(thrown(() => offloader.forward(fixture.compute, late)).code).toBe('SPILLWAY_FORWARD_ASYNC')
      // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
      const thenable = { then: () => undefined }
      expect(thrown(() => offloader.forward(fixture.compute, () => thenable)).code).toBe('SPILLWAY_FORWARD_ASYNC')
      await new Promise((resolve) => setImmediate(resolve))
      process.off('unhandledRejection', listen)
      expect(unhandled).toEqual([])
      expect(ends()).toEqual([false, false])
      await offloader.dispose()
    }))

  test('a body that swallows a misuse does not pass for a good forward', () =>
    withDevice(async (fixture) => {
      const { offloader, ends } = await ready(fixture)
      const body = (scope: Pick<ForwardSteps, 'after'>): void => {
        try {
          scope.after('layers.0')
        } catch {}
      }
      expect(thrown(() => offloader.forward(fixture.compute, body)).code).toBe('SPILLWAY_FORWARD_ORDER')
      expect(ends()).toEqual([false])
      await offloader.dispose()
    }))
})

describe('a backend that throws', () => {
  const throws = (): never => {
    throw new Error('inside')
  }
  test.each(['before', 'after'] as const)('in %s: wrapped, ended once, next forward works', (verb) =>
    withDevice(async (fixture) => {
      let fail = true
      const { offloader, ends } = await ready(fixture, (inner) => ({
        [verb]: (module: string) => (fail ? throws() : inner[verb](module)),
      }))
      const body = (scope: Pick<ForwardSteps, 'before' | 'after'>): void => {
        scope.before('layers.0')
        scope.after('layers.0')
      }
      const error = thrown(() => offloader.forward(fixture.compute, body))
      expect(error).toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED', cause: { message: 'inside' } })
      expect(error.message).toContain(`broken failed in ${verb}`)
      expect(ends()).toEqual([false])
      fail = false
      offloader.forward(fixture.compute, body)
      expect(ends()).toEqual([false, true])
      await offloader.dispose()
    }),
  )

  test('in end: the offloader has failed, and says so from then on', () =>
    withDevice(async (fixture) => {
      const { offloader } = await ready(fixture, () => ({ end: throws }))
      expect(thrown(() => offloader.forward(fixture.compute, () => undefined)).code).toBe('SPILLWAY_BACKEND_FAILED')
      const error = thrown(() => offloader.beginForward(fixture.compute))
      expect(error.code).toBe('SPILLWAY_INVALID_STATE')
      expect(error.cause).toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED' })
      await offloader.dispose()
    }))

  test('in end after the body threw: the error of the body is the one reported', () =>
    withDevice(async (fixture) => {
      const { offloader } = await ready(fixture, () => ({ end: throws }))
      const body = (): never => {
        throw new Error('first')
      }
      expect(() => offloader.forward(fixture.compute, body)).toThrow('first')
      await offloader.dispose()
    }))

  test('by returning forward steps that lack a verb', () =>
    withDevice(async (fixture) => {
      const { offloader } = await ready(fixture, () => ({ end: undefined as never }))
      const error = thrown(() => offloader.beginForward(fixture.compute))
      expect(error.code).toBe('SPILLWAY_BACKEND_MISBEHAVED')
      expect(error.message).toContain('without end')
      await offloader.dispose()
    }))
})

test('a backend without support for graphs refuses a capture and nothing else', () =>
  withDevice(async ({ device, compute }) => {
    const backend = { ...hostSlots, supports: { ...hostSlots.supports, graphs: false } }
    await using offloader = await createOffloader({ device, compute, backends: [configure(backend)] })
    await offloader.wrapModules(layers(1))
    await offloader.postInit()
    offloader.beginForward(compute).end(true)
    compute.beginCapture()
    const error = thrown(() => offloader.beginForward(compute))
    await compute.endCapture().dispose()
    expect(error.code).toBe('SPILLWAY_NOT_SUPPORTED')
    offloader.beginForward(compute).end(true)
  }))

test('what is no stream, or is disposed, is refused', () =>
  withDevice(async (fixture) => {
    const { offloader } = await ready(fixture)
    const gone = fixture.device.createStream()
    await gone.dispose()
    for (const stream of [undefined, {}, gone]) {
      expect(thrown(() => offloader.beginForward(stream as never)).code).toBe('SPILLWAY_INVALID_ARGUMENT')
    }
    await offloader.dispose()
  }))

test('a stream for each forward: those that were disposed are not kept', () =>
  withDevice(async (fixture) => {
    const offloader = await createOffloader({ device: fixture.device, compute: fixture.compute, backends: [] })
    await offloader.wrapModules(layers(1))
    await offloader.postInit()
    const streams: WeakRef<Stream>[] = []
    for (let i = 0; i < 5; i++) {
      const stream = fixture.device.createStream()
      streams.push(new WeakRef(stream))
      offloader.forward(stream, (scope) => {
        scope.before('layers.0')
        scope.after('layers.0')
      })
      await stream.synchronize()
      await stream.dispose()
    }
    // Not until there is none: looking at one keeps it.
    let rounds = 0
    await collectGarbage(() => ++rounds > 5)
    expect(streams.filter((stream) => stream.deref() !== undefined).length).toBeLessThanOrEqual(1)
    await offloader.dispose()
  }))
