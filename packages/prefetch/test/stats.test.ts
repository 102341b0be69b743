// What is counted of forwards and their onloads, held against what the device counts.
import { configure, createOffloader } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { onDevice } from './device-rig.js'
import { load, parameter } from './model-rig.js'

const kibibyte = 1024
const layer = (i: number, bytes: number) => ({
  name: `layers.${i}`,
  order: i + 1,
  role: 'layer' as const,
  parameters: [parameter('weight', [bytes], { dtype: 'u8' })],
})

describe('stats', () => {
  it('count forwards that skip, repeat, reorder, throw and are aborted, and onloads by layer', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 2 })]
      const offloader = await createOffloader({ device, compute, backends })
      await offloader.wrapModules([0, 1, 2, 3].map((i) => layer(i, 8 * kibibyte)))
      expect(offloader.stats().onloads).toBeUndefined()
      await load(device, offloader.modules.values(), compute)
      await offloader.postInit()
      const forward = (order: readonly number[], failing?: Error): void =>
        offloader.forward(compute, (scope) => {
          for (const i of order) {
            scope.before(`layers.${i}`)
            scope.after(`layers.${i}`)
          }
          if (failing !== undefined) throw failing
        })
      const counted = async () => {
        const { onloads, onloadedBytes } = await offloader.settledStats()
        await offloader.settledStats()
        const { modules, ...counts } = onloads!
        // The device says the same: every layer is 8 KiB, and all that was copied into weights are onloads.
        expect(onloadedBytes).toBe(counts.onloads * 8 * kibibyte)
        expect(device.counters().hostToDeviceBytesByTag.weights).toBe(onloadedBytes)
        expect(modules.reduce((sum, one) => sum + one.onloads, 0)).toBe(counts.onloads)
        expect(modules.map(({ module, bytes }) => [module, bytes])).toEqual(
          [0, 1, 2, 3].map((i) => [`layers.${i}`, 8 * kibibyte]),
        )
        return { ...counts, byLayer: modules.map((one) => one.onloads), demanded: modules.map((m) => m.demandOnloads) }
      }
      const start = { failedForwards: 0, capturedOnloads: 0, demandOnloads: 0, resets: 0, demanded: [0, 0, 0, 0] }
      expect(await counted()).toEqual({ ...start, forwards: 0, onloads: 2, byLayer: [1, 1, 0, 0] })
      forward([0, 1, 2, 3])
      expect(await counted()).toEqual({ ...start, forwards: 1, onloads: 6, byLayer: [2, 2, 1, 1] })
      // Layer 1 is left out: 3 comes on demand, and the order is as it should be at the end.
      forward([0, 2, 3])
      expect(await counted()).toMatchObject({
        forwards: 2,
        onloads: 10,
        demandOnloads: 1,
        resets: 0,
        demanded: [0, 0, 0, 1],
      })
      // Layer 0 again, which layer 2 has taken the place of.
      forward([0, 0, 1, 2, 3])
      expect(await counted()).toMatchObject({ forwards: 3, demandOnloads: 2, resets: 0, demanded: [1, 0, 0, 1] })
      // Backwards: 3 and 2 on demand, then 1 and 0 are where they were put.
      forward([3, 2, 1, 0])
      expect(await counted()).toMatchObject({ forwards: 4, demandOnloads: 4, resets: 1, demanded: [1, 0, 1, 2] })
      expect(() => forward([0, 1], new Error('thrown'))).toThrow('thrown')
      expect(await counted()).toMatchObject({ forwards: 5, failedForwards: 1, resets: 2 })
      offloader.beginForward(compute).end(false)
      expect(await counted()).toMatchObject({ forwards: 6, failedForwards: 2, resets: 2 })
      await offloader.dispose()
      await compute.dispose()
    })
  })
})

it('copies a layer with every dtype and odd strides at once, and keeps every layout', async () => {
  const dtypes = ['i8', 'i32', 'f8e4m3', 'f8e5m2', 'f16', 'bf16', 'f32', 'u8', 'i16', 'i64', 'f64', 'bool'] as const
  const odd = (i: number) => ({
    name: `layers.${i}`,
    order: i,
    role: 'layer' as const,
    parameters: [
      ...dtypes.map((dtype, k) => parameter(`any.${dtype}`, [3 + k, 5], { dtype, stride: [1, 3 + k] })),
      ...dtypes.map((dtype) => parameter(`padded.${dtype}`, [4, 3], { dtype, stride: [7 + i, 2] })),
    ],
  })
  await onDevice({}, async (device) => {
    const compute = device.createStream()
    const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 2 })]
    const offloader = await createOffloader({ device, compute, backends })
    const loading = await offloader.wrapModules([0, 1, 2, 3].map(odd))
    await load(device, offloader.modules.values(), compute)
    await offloader.postInit()
    await offloader.settledStats()
    const { copies, bytes } = {
      copies: device.counters().hostToDeviceCopies,
      bytes: device.counters().hostToDeviceBytes,
    }
    offloader.forward(compute, (scope) => {
      for (const i of [0, 1, 2, 3]) {
        scope.before(`layers.${i}`)
        scope.after(`layers.${i}`)
      }
    })
    await offloader.settledStats()
    const slabBytes = loading.map(({ parameters }) => [...parameters.values()][0]!.tensor.buffer.bytes)
    expect(device.counters().hostToDeviceCopies - copies).toBe(4)
    expect(device.counters().hostToDeviceBytes - bytes).toBe(slabBytes.reduce((sum, one) => sum + one, 0))
    for (const [i, { parameters }] of [...offloader.modules.values()].entries()) {
      for (const [name, { tensor, dtype, shape, stride, storage }] of parameters) {
        const spec = odd(i).parameters.find((one) => one.name === name)!
        expect(storage).toBe('pinned')
        expect({ dtype, shape, stride }).toEqual({ dtype: spec.dtype, shape: spec.shape, stride: spec.stride })
        expect(tensor.buffer.kind).toBe('device-buffer')
        expect(tensor.offset).toBe(loading[i]!.parameters.get(name)!.tensor.offset)
      }
    }
    await offloader.dispose()
    await compute.dispose()
  })
})
