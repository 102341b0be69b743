// Link time, wait time and hidden fraction of each layer, as the device took them.
import {
  configure,
  createOffloader,
  type Graph,
  type ModuleOnloads,
  type Offloader,
  type Stream,
  timesOf,
} from '@spillway/core'
import type { NativeDevice, OpenDeviceOptions } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { onDevice } from './device-rig.js'
import { load, model } from './model-rig.js'

const layers = 5
const modules = model(layers).map(({ name }) => name)
/** A layer takes some 3 ms. */
const linkBytesPerSecond = 10 ** 5
const mostLayerBytes = 400

interface Rig {
  readonly device: NativeDevice
  readonly offloader: Offloader
  readonly compute: Stream
  /** One forward, each module's kernels as long as `kernelBytes` on the way from the device. */
  readonly forward: (kernelBytes?: number) => void
  readonly capture: (kernelBytes?: number) => Graph
  /** In a trace, so that its replays take times. */
  readonly captureTimed: (kernelBytes?: number) => Promise<Graph>
  readonly times: () => readonly ModuleOnloads[]
}

async function withModel(
  prefetchStep: number,
  options: OpenDeviceOptions,
  body: (rig: Rig) => Promise<void>,
): Promise<void> {
  await onDevice({ linkBytesPerSecond, ...options }, async (device) => {
    const compute = device.createStream()
    const offloader = await createOffloader({
      device,
      compute,
      backends: [configure(prefetch, { groupSize: 1, prefetchStep })],
    })
    await offloader.wrapModules(model(layers))
    await load(device, offloader.modules.values(), compute)
    await offloader.postInit()
    const [from, to] = [
      device.allocate(4096, { tag: 'scratch' }),
      await device.allocateHost(4096, { storage: 'pinned' }),
    ]
    compute.fill(from, 1)
    const forward = (kernelBytes = 0): void =>
      offloader.forward(compute, (scope) => {
        for (const module of modules) {
          scope.before(module)
          compute.copy(to, from, { bytes: kernelBytes })
          scope.after(module)
        }
      })
    const capture = (kernelBytes = 0): Graph => {
      compute.beginCapture()
      forward(kernelBytes)
      return compute.endCapture()
    }
    const captureTimed = async (kernelBytes = 0): Promise<Graph> =>
      (await offloader.trace(() => capture(kernelBytes))).result
    const times = (): readonly ModuleOnloads[] => offloader.stats().onloads!.modules
    await body({ device, offloader, compute, forward, capture, captureTimed, times })
    await compute.synchronize()
    await Promise.all([from.dispose(), to.dispose()])
    await offloader.dispose()
    await compute.dispose()
  })
}

/** What a link with a throttle gives as the least, and times that fit together. */
function expectSound(times: readonly ModuleOnloads[]): void {
  expect(times.map(({ module }) => module)).toEqual(modules.filter((name) => name.startsWith('layers')))
  for (const { module, bytes, linkMs, waitMs, hiddenFraction } of times) {
    expect(linkMs, module).toBeGreaterThanOrEqual((bytes / linkBytesPerSecond) * 1000 - 0.001)
    expect(waitMs, module).toBeGreaterThanOrEqual(0)
    expect(hiddenFraction, module).toBe(Math.max(0, 1 - waitMs! / linkMs!))
  }
}

const measured = (times: readonly ModuleOnloads[]): boolean => times.every(({ linkMs }) => linkMs !== undefined)
const onlyTimes = (times: readonly ModuleOnloads[]): unknown =>
  times.map(({ linkMs, waitMs, hiddenFraction }) => [linkMs, waitMs, hiddenFraction])

/** Tries until it is so: what a busy machine does to one try it does not do to all. */
async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 40; i++) if (await condition()) return
  expect.fail('it never was so')
}

describe('forwards outside of captures', () => {
  it('are timed from the second on, and then every sixteenth', async () => {
    await withModel(2, {}, async ({ offloader, forward, times }) => {
      expect(times().some((one) => 'linkMs' in one || 'waitMs' in one || 'hiddenFraction' in one)).toBe(false)
      forward()
      await offloader.settledStats()
      expect(measured(times())).toBe(false)
      forward()
      await offloader.settledStats()
      expectSound(times())
      const second = onlyTimes(times())
      for (let i = 3; i < 18; i++) forward()
      await offloader.settledStats()
      expect(onlyTimes(times())).toEqual(second)
      forward()
      await offloader.settledStats()
      expectSound(times())
      expect(onlyTimes(times())).not.toEqual(second)
    })
  })

  it('that nobody asked about are still known while the next one to be timed is under way', async () => {
    // Such a device does nothing that nobody waits for.
    await withModel(2, { adversarialSeed: 3 }, async ({ compute, forward, times }) => {
      for (let i = 1; i < 18; i++) forward()
      await compute.synchronize()
      forward()
      expectSound(times())
    })
  })

  it('that leave layers out leave their times as they were', async () => {
    await withModel(1, {}, async ({ offloader, compute, times }) => {
      const only = (...wanted: string[]): void => {
        for (const module of wanted) {
          offloader.forward(compute, (scope) => {
            scope.before(module)
            scope.after(module)
          })
        }
      }
      only('layers.0', 'layers.2')
      await offloader.settledStats()
      expect(times().map(({ linkMs }) => linkMs !== undefined)).toEqual([false, false, true, false, false])
    })
  })

  it('that are broken off tell nothing of a layer that was only waited for', async () => {
    await withModel(2, {}, async ({ offloader, compute, forward, times }) => {
      forward()
      const broken = (): void =>
        offloader.forward(compute, (scope) => {
          scope.before('layers.0')
          scope.after('layers.0')
          scope.before('layers.1')
          throw new Error('the engine fails')
        })
      expect(broken).toThrow('the engine fails')
      await compute.synchronize()
      await offloader.settledStats()
      // Layer 0 is copied once more for the next forward, layer 2 was not reached.
      expect(times().map(({ linkMs }) => linkMs !== undefined)).toEqual([true, false, false, false, false])
    })
  })

  it('with a slot for each layer: nothing crosses the link again, and nobody waits', async () => {
    await withModel(8, {}, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      forward()
      await offloader.settledStats()
      const still = Array(layers).fill([0, 0, 1])
      expect(onlyTimes(times())).toEqual(still)
      const graph = await captureTimed()
      compute.launch(graph)
      await offloader.settledStats()
      expect(onlyTimes(times())).toEqual(still)
      await graph.dispose()
    })
  })
})

describe('replays of a graph', () => {
  it('that was not captured in a trace take no times, and no nodes for them', async () => {
    await withModel(2, {}, async ({ device, offloader, compute, forward, capture, captureTimed, times }) => {
      forward()
      await offloader.settledStats()
      const { timestamp } = device.counters().liveHandles
      const graph = capture()
      expect(device.counters().liveHandles.timestamp).toBe(timestamp)
      const { events } = await offloader.trace(() => compute.launch(graph))
      expect(events).toEqual([])
      expect(measured(times())).toBe(false)
      const timed = await captureTimed()
      expect(timed.nodeCount - graph.nodeCount).toBeGreaterThanOrEqual(4 * layers)
      await Promise.all([graph.dispose(), timed.dispose()])
    })
  })

  it('are timed each, as a trace of the same replay has them', async () => {
    await withModel(2, {}, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      const graph = await captureTimed(100)
      await offloader.settledStats()
      expect(measured(times())).toBe(false)
      let before: unknown
      for (let i = 0; i < 3; i++) {
        const { events } = await offloader.trace(() => compute.launch(graph))
        expectSound(times())
        const traced = new Map(timesOf(events).modules.map((one) => [one.module, one]))
        for (const { module, linkMs, waitMs } of times()) {
          expect(traced.get(module)!.linkMs, module).toBeCloseTo(linkMs!, 6)
          expect(traced.get(module)!.waitMs, module).toBeCloseTo(waitMs!, 6)
        }
        expect(onlyTimes(times())).not.toEqual(before)
        before = onlyTimes(times())
      }
      // One after another, without a word between them: the last one's.
      for (let i = 0; i < 3; i++) compute.launch(graph)
      await offloader.settledStats()
      expectSound(times())
      await graph.dispose()
    })
  })

  it('of several graphs: those of the one that was replayed last', async () => {
    await withModel(1, {}, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      const graphs = [await captureTimed(0), await captureTimed(1000)]
      for (const last of [1, 0, 1, 1, 0]) {
        compute.launch(graphs[1 - last]!)
        compute.launch(graphs[last]!)
        const { events } = await offloader.trace(() => compute.launch(graphs[last]!))
        const waits = new Map(timesOf(events).modules.map(({ module, waitMs }) => [module, waitMs]))
        for (const { module, waitMs } of times()) expect(waitMs, module).toBeCloseTo(waits.get(module)!, 6)
      }
      await Promise.all(graphs.map((graph) => graph.dispose()))
    })
  })

  it('that are under way give no times that mix two of them', async () => {
    await withModel(2, {}, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      const graph = await captureTimed()
      compute.launch(graph)
      await offloader.settledStats()
      expectSound(times())
      for (let i = 0; i < 5; i++) {
        compute.launch(graph)
        let done = false
        const settled = compute.synchronize().then(() => {
          done = true
        })
        while (!done) {
          expectSound(times())
          await new Promise(setImmediate)
        }
        await settled
      }
      await graph.dispose()
    })
  })

  it('are waited for by nobody: until they are done, the times before stand', async () => {
    // Such a device does nothing that nobody waits for.
    await withModel(2, { adversarialSeed: 3 }, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      forward()
      expect(measured(times())).toBe(false)
      await offloader.settledStats()
      const eager = onlyTimes(times())
      expect(measured(times())).toBe(true)
      const graph = await captureTimed()
      compute.launch(graph)
      expect(onlyTimes(times())).toEqual(eager)
      await offloader.settledStats()
      expect(onlyTimes(times())).not.toEqual(eager)
      await graph.dispose()
    })
  })

  it('hide their copies behind long kernels, and nothing when each layer is copied after the one before it', async () => {
    // Checked, a device does one thing at a time.
    await withModel(2, { check: false }, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      const graph = await captureTimed(4 * mostLayerBytes)
      await eventually(async () => {
        compute.launch(graph)
        await offloader.settledStats()
        expectSound(times())
        return times().every(({ hiddenFraction }) => hiddenFraction! > 0.9)
      })
      await graph.dispose()
    })
    await withModel(1, { check: false }, async ({ offloader, compute, forward, captureTimed, times }) => {
      forward()
      // Or the first layer would wait for this forward's copy.
      await offloader.settledStats()
      const graph = await captureTimed()
      await eventually(async () => {
        compute.launch(graph)
        await offloader.settledStats()
        return times().every(({ hiddenFraction }) => hiddenFraction! < 0.1)
      })
      await graph.dispose()
    })
  })

  it('that can be no more take no timestamps for ever', async () => {
    await withModel(2, {}, async ({ device, offloader, forward, captureTimed }) => {
      forward()
      const count = async (): Promise<number> => {
        await offloader.settledStats()
        return device.counters().liveHandles.timestamp!
      }
      const none = await count()
      await (await captureTimed()).dispose()
      const one = (await count()) - none
      expect(one).toBeGreaterThanOrEqual(4 * layers)
      for (let i = 0; i < 40; i++) await (await captureTimed()).dispose()
      expect(await count()).toBe(none + 16 * one)
    })
  })
})
