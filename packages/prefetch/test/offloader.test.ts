// The backend as users have it: through core's offloader, over a real device.
import {
  configure,
  createOffloader,
  extentBytes,
  type MemorySource,
  type Offloader,
  parameterBytes,
  type Recovery,
  slabLayout,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import type { PrefetchConfig } from '../src/options.js'
import { expectNothingLeft, failure, liveHandles, onDevice, pattern } from './device-rig.js'
import { load, model, readParameters, seedOf, withSteps } from './model-rig.js'

const layers = 7
const count = (length: number): number[] => Array.from({ length }, (_, i) => i)
const slabBytes = (indices: number[]): number =>
  indices.reduce((sum, i) => sum + slabLayout(model(layers)[i + 1]!.parameters).bytes, 0)
const parametersBytes = (indices: number[]): number =>
  indices.reduce((sum, i) => sum + parameterBytes(model(layers)[i + 1]!.parameters), 0)

async function withModel(
  device: NativeDevice,
  config: Partial<PrefetchConfig>,
  body: (offloader: Offloader) => Promise<void>,
): Promise<void> {
  await using compute = device.createStream()
  await using offloader = await createOffloader({
    device,
    compute,
    backends: [configure(prefetch, { groupSize: 1, ...config })],
  })
  await offloader.wrapModules(model(layers))
  await load(device, offloader.modules.values(), compute)
  await offloader.postInit()
  await body(offloader)
}

/** A forward that reads every parameter of every module, and the check that they were the right ones. */
async function checkedForward(
  device: NativeDevice,
  offloader: Offloader,
  stream = device.createStream(),
): Promise<void> {
  const host = await device.allocateHost(64 * 1024, { storage: 'pinned' })
  const checks: (() => void)[] = []
  offloader.forward(stream, (scope) => {
    let used = 0
    for (const [module, { parameters }] of offloader.modules) {
      scope.before(module)
      for (const { name, tensor, tiedTo } of parameters.values()) {
        const bytes = extentBytes(tensor)
        const at = used
        used += bytes
        stream.copy(host, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
        const seed = tiedTo === undefined ? seedOf(module, name) : seedOf('embed', 'weight')
        checks.push(() => expect(host.read(at, bytes), `${module}.${name}`).toEqual(pattern(seed, bytes)))
      }
      scope.after(module)
    }
  })
  await stream.synchronize()
  expect(checks).toHaveLength(2 * layers + 3)
  for (const check of checks) check()
  await host.dispose()
  await stream.dispose()
}

describe('prefetch', () => {
  it('gives every module its own weights, and copies what the rule says, for every group, number and step', async () => {
    for (const groupSize of [1, 2, 3, 8]) {
      for (const numInGroup of [1, 2, 3, 8].filter((n) => n <= groupSize)) {
        for (const prefetchStep of [1, 2, 3, 8]) {
          await onDevice({}, async (device) => {
            const config = { groupSize, numInGroup, prefetchStep }
            const selected = count(layers).filter((m) => m % groupSize >= groupSize - numInGroup)
            if (selected.length === 0) return
            const slots = Math.min(prefetchStep, selected.length)
            const first = slabBytes(selected.slice(0, slots))
            const shared = slabBytes(selected.filter((_, i) => i >= slots || i + slots < selected.length))
            const offloadedBytes = parametersBytes(selected)
            const residentBytes = 16 * 4 * 4 + 4 * 4 + parametersBytes(count(layers)) - offloadedBytes
            await withModel(device, config, async (offloader) => {
              const figures = { offloadedBytes, residentBytes }
              expect(offloader.stats(), JSON.stringify(config)).toMatchObject({ ...figures, onloadedBytes: first })
              for (let i = 0; i < 3; i++) await checkedForward(device, offloader)
              expect(await offloader.settledStats()).toMatchObject({ ...figures, onloadedBytes: first + 3 * shared })
            })
            // What the device counted once all is done: loading what is resident, and the onloads.
            await expectNothingLeft(device)
            expect(device.counters().hostToDeviceBytesByTag.weights).toBe(residentBytes + first + 3 * shared)
          })
        }
      }
    }
  })

  it('recovers from a forward that threw, and from layers left out or repeated', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await withModel(device, { prefetchStep: 3 }, async (offloader) => {
        const stream = device.createStream()
        for (const order of [[0, 1, 2, 3], [6], [5, 5, 0], []]) {
          expect(() =>
            offloader.forward(stream, (scope) => {
              for (const i of order) {
                scope.before(`layers.${i}`)
                scope.after(`layers.${i}`)
              }
              scope.before('layers.4')
              throw new Error('the engine failed')
            }),
          ).toThrow('the engine failed')
          await checkedForward(device, offloader)
        }
        await stream.dispose()
      })
    })
  })

  it('replays a captured forward between others', async () => {
    const all = slabBytes(count(layers))
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await withModel(device, { prefetchStep: 2 }, async (offloader) => {
        const stream = device.createStream()
        const host = await device.allocateHost(64 * 1024, { storage: 'pinned' })
        const run = (): Map<string, number> => {
          const places = new Map<string, number>()
          let used = 0
          offloader.forward(stream, (scope) => {
            for (const i of count(layers)) {
              const { tensor } = offloader.modules.get(`layers.${i}`)!.parameters.get('mlp.weight')!
              scope.before(`layers.${i}`)
              stream.copy(host, tensor.buffer, { toOffset: used, fromOffset: tensor.offset, bytes: 66 })
              places.set(`layers.${i}`, used)
              used += 66
              scope.after(`layers.${i}`)
            }
          })
          return places
        }
        await checkedForward(device, offloader)
        stream.beginCapture()
        const places = run()
        const graph = stream.endCapture()
        for (let replay = 0; replay < 3; replay++) {
          host.write(new Uint8Array(host.bytes))
          stream.launch(graph)
          await stream.synchronize()
          for (const [module, at] of places) {
            expect(host.read(at, 66), module).toEqual(pattern(seedOf(module, 'mlp.weight'), 66))
          }
          if (replay < 2) await checkedForward(device, offloader)
        }
        expect(offloader.stats().onloadedBytes).toBe(slabBytes([0, 1]) + 3 * all)
        await graph.dispose()
        await host.dispose()
        await stream.dispose()
      })
      // Replays copy all over again, and only the device can count that.
      await expectNothingLeft(device)
      const resident = 16 * 4 * 4 + 4 * 4
      expect(device.counters().hostToDeviceBytesByTag.weights).toBe(resident + slabBytes([0, 1]) + (3 + 3) * all)
    })
  })

  it('is an error when the options select no layer', async () => {
    await onDevice({}, async (device) => {
      const before = liveHandles(device)
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch, { groupSize: 50 })] })
      await offloader.wrapModules(model(layers))
      await failure('SPILLWAY_NOTHING_OFFLOADED', () => offloader.postInit())
      await offloader.dispose()
      await compute.dispose()
      expect(liveHandles(device)).toEqual(before)
    })
  })

  it('gives back every handle and byte, also when disposed with copies on their way', async () => {
    await onDevice({ linkLatencyMs: 5 }, async (device) => {
      await withModel(device, { prefetchStep: 4 }, async (offloader) => {
        const stream = device.createStream()
        offloader.forward(stream, (scope) => {
          scope.before('layers.0')
          scope.after('layers.0')
        })
        await stream.synchronize()
        await stream.dispose()
      })
    })
  })
})

describe('memory that a residency backend takes away', () => {
  it('is a copy for what is resident and rebuilt for slots', async () => {
    await onDevice({ linkLatencyMs: 0.5 }, async (device) => {
      const allocations: { bytes: number; recovery: Recovery; fill: () => void }[] = []
      const compute = device.createStream()
      const memory = (tag: string): MemorySource => ({
        tag,
        allocate(bytes, { stream, recovery }) {
          const buffer = device.allocate(bytes, { tag, stream })
          allocations.push({ bytes, recovery, fill: () => compute.fill(buffer, 0xee) })
          return buffer
        },
      })
      await withSteps(
        device,
        { prefetchStep: 3 },
        async (steps, stream) => {
          await load(device, await steps.wrapModules(model(layers), { prefix: '' }), stream)
          const ready = await steps.postInit()
          const kinds = allocations.map(({ recovery }) => recovery.kind)
          expect(kinds).toEqual(['copy', 'copy', 'rebuild', 'rebuild', 'rebuild'])
          await stream.synchronize()
          // As core does before a residency backend takes memory away: wait for the ring's own copies too.
          await steps.synchronize?.()
          const { onloadedBytes, residentBytes } = steps.stats()
          expect(device.counters().hostToDeviceBytesByTag.weights).toBe(onloadedBytes + residentBytes)
          for (const { recovery, fill } of allocations) {
            if (recovery.kind !== 'rebuild') continue
            fill()
            recovery.rebuild(compute)
          }
          await readParameters(device, ready, steps, stream)
          await compute.synchronize()
        },
        { memory },
      )
      await compute.dispose()
    })
  })
})
