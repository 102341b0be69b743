import {
  type AllocatorSettings,
  type NativeDevice,
  type OpenDeviceOptions,
  withAllocatorSettings,
} from '@spillway/device'
import { expect, test } from 'vitest'
import { Random } from '../order/random.js'

const MiB = 2 ** 20
const whole: AllocatorSettings = { maxSplitSizeMb: 20 }

export interface ModelLoadSizes {
  /** Of a layer's weights as they are stored, and as kernels want them. */
  readonly storedBytes: number
  readonly repackedBytes: number
  readonly layers: number
  /** Allocations of 4 to 16 MiB, one after another. */
  readonly scratches: number
}

type Buffers = { dispose(): Promise<void> }[]

/** What loaders of models have run into, on a device with work on a stream that nobody waits for. */
export function testModelLoad(
  open: (options?: OpenDeviceOptions) => Promise<NativeDevice>,
  { storedBytes, repackedBytes, layers, scratches }: ModelLoadSizes,
): void {
  const weightBytes = layers * repackedBytes
  const neededBytes = storedBytes + weightBytes
  // Nobody waits for the stream. What the last layer was stored as goes back before its weights are taken if the stream
  // was done with it by then, and stays cached beside them if not: on a busy machine either is seen.
  const peaks = [neededBytes, neededBytes - repackedBytes]

  async function on(
    options: OpenDeviceOptions,
    body: (device: NativeDevice, stream: ReturnType<NativeDevice['createStream']>) => Promise<void>,
  ): Promise<void> {
    const device = await open(options)
    const stream = device.createStream()
    try {
      await body(device, stream)
    } finally {
      await stream.dispose()
      await device.dispose()
    }
  }

  /** Weights as stored are freed, and what they are repacked into is taken: layer after layer. */
  function load(
    device: NativeDevice,
    stream: ReturnType<NativeDevice['createStream']>,
    from: Pick<NativeDevice, 'allocate'> = device,
  ): Buffers {
    const weights: Buffers = []
    try {
      for (let layer = 0; layer < layers; layer++) {
        const stored = from.allocate(storedBytes, { tag: 'stored', stream })
        stream.fill(stored, layer)
        void stored.dispose()
        const repacked = from.allocate(repackedBytes, { tag: 'weights', stream })
        weights.push(repacked)
        stream.fill(repacked, layer)
      }
    } catch (error) {
      for (const buffer of weights) void buffer.dispose()
      throw error
    }
    return weights
  }
  const dispose = (buffers: Buffers) => Promise.all(buffers.map((buffer) => buffer.dispose()))

  test('a load that repacks does not fit without whole blocks; the error names the setting, and with it the load fits', () =>
    on({ memoryLimitBytes: neededBytes }, async (device, stream) => {
      let refused: { code?: string; message?: string } = {}
      try {
        await dispose(load(device, stream))
      } catch (error) {
        refused = error as typeof refused
      }
      expect(refused).toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
      expect(refused.message).toMatch(/resident.*cached in pieces of at most.*maxSplitSizeMb: 20 would have/s)
      await stream.synchronize()
      device.releaseCachedMemory()
      const weights = withAllocatorSettings(whole, () => load(device, stream))
      await stream.synchronize()
      device.releaseCachedMemory()
      expect(device.memoryStats()).toMatchObject({ reservedBytes: weightBytes, liveBytes: weightBytes })
      await dispose(weights)
    }))

  test('so does it in segments that grow', () =>
    on({ memoryLimitBytes: neededBytes + 64 * MiB }, async (device, stream) => {
      const settings = { expandableSegments: true }
      const weights = withAllocatorSettings(settings, () => load(device, stream))
      const { segments, stats } = device.memorySnapshot()
      expect(segments.filter(({ sizeClass }) => sizeClass === 'large').map(({ expandable }) => expandable)).toEqual([
        true,
      ])
      expect(stats.peakReservedBytes).toBeLessThanOrEqual(neededBytes + 64 * MiB)
      await stream.synchronize()
      const { reservedBytes } = device.memoryStats()
      const released = device.releaseCachedMemory()
      expect(released, 'the free end').toBeGreaterThan(0)
      expect(device.memoryStats().reservedBytes).toBe(reservedBytes - released)
      await dispose(weights)
    }))

  test('what is free goes back inside of the scope although 2 MiB were taken since', () =>
    on({}, (device, stream) =>
      withAllocatorSettings(whole, async () => {
        const large = device.allocate(storedBytes, { tag: 'stored', stream })
        stream.fill(large, 1)
        await large.dispose()
        const small = device.allocate(2 * MiB, { tag: 'weights', stream })
        await stream.synchronize()
        device.releaseCachedMemory()
        expect(device.memoryStats().reservedBytes).toBeLessThan(storedBytes)
        await small.dispose()
      }),
    ))

  test('a loader that takes and frees 4 to 16 MiB of scratch stays within one and a half of what was live', () =>
    on({}, (device, stream) =>
      withAllocatorSettings(whole, async () => {
        const random = new Random(1)
        for (let i = 0; i < scratches; i++) {
          const scratch = device.allocate(random.from(4, 16) * MiB, { tag: 'scratch', stream })
          stream.fill(scratch, i % 251)
          void scratch.dispose()
        }
        const { peakReservedBytes, peakLiveBytes } = device.memoryStats()
        expect(peakReservedBytes / peakLiveBytes).toBeLessThanOrEqual(1.5)
      }),
    ))

  test('the same load in a pool takes as much as outside, and what the pool caches goes back while it is in use', () =>
    on({}, async (device, stream) => {
      const outside = withAllocatorSettings(whole, () => load(device, stream))
      expect(peaks).toContain(device.memoryStats().peakReservedBytes)
      await dispose(outside)
      await stream.synchronize()
      device.releaseCachedMemory()
      // Growing segments as well: a pool never has them.
      const pool = device.memoryPool('weights', { ...whole, expandableSegments: true })
      const inside = load(device, stream, pool)
      const stats = () => device.memoryStats().pools.weights!
      expect(peaks).toContain(stats().peakReservedBytes)
      expect(device.memorySnapshot().segments.every(({ expandable }) => !expandable)).toBe(true)
      await stream.synchronize()
      const { reservedBytes, liveBytes } = stats()
      expect(reservedBytes - liveBytes).toBeLessThanOrEqual(storedBytes)
      expect(pool.releaseCachedMemory()).toBe(reservedBytes - liveBytes)
      expect(stats()).toMatchObject({ reservedBytes: weightBytes, liveBytes: weightBytes })
      expect(device.budget).toMatchObject({ usedBytes: weightBytes, cachedBytes: 0 })
      await dispose(inside)
    }))
}
