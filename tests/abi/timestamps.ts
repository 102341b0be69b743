// What timestamps must do on every device. They are native only: the test addon records and reads them.
import { handleOf, type NativeDevice, type NativeStream } from '@spillway/device'
import { expect } from 'vitest'
import { disposeAll, pinned } from '../../packages/device/test/device-rig.js'
import { probe } from './abi-probe.js'

const bytes = 2 ** 20

export interface TimedLink {
  readonly device: NativeDevice
  /** Nothing crosses it faster: the throttle of a host device, or more than any link there is. */
  readonly bytesPerSecond: number
}

export const record = (timestamp: number, stream: NativeStream): void =>
  probe.recordTimestamp(timestamp, handleOf(stream))

/** A timestamp, and what was elapsed between two, on one device. */
export function timestampsOf(device: NativeDevice): {
  readonly create: () => number
  readonly elapsed: (from: number, to: number) => number
} {
  const handle = handleOf(device)
  return {
    create: () => probe.createTimestamp(handle),
    elapsed: (from, to) => probe.elapsedMs(handle, from, to),
  }
}

export const timestampCases: readonly (readonly [string, (link: TimedLink) => Promise<void>])[] = [
  [
    'take the time when everything before them is done, and are not known before they are reached',
    async ({ device, bytesPerSecond }) => {
      const { create, elapsed } = timestampsOf(device)
      const stream = device.createStream()
      const host = await pinned(device, bytes)
      const target = device.allocate(bytes, { tag: 'target' })
      const [begin, end, never] = [create(), create(), create()]
      expect(elapsed(begin, end)).toBeNaN()
      record(begin, stream)
      stream.copy(target, host)
      record(end, stream)
      await stream.synchronize()
      const ms = elapsed(begin, end)
      expect(ms).toBeGreaterThanOrEqual((bytes / bytesPerSecond) * 1000 - 0.001)
      expect(elapsed(end, begin)).toBe(-ms)
      expect(elapsed(end, end)).toBe(0)
      expect([elapsed(begin, never), elapsed(never, end)]).toEqual([Number.NaN, Number.NaN])
      expect(device.counters().liveHandles.timestamp).toBe(3)
      probe.dropTimestamps()
      await disposeAll(stream, host, target)
    },
  ],
  [
    'in a capture are stamped at every replay, and kept by the graph',
    async ({ device, bytesPerSecond }) => {
      const { create, elapsed } = timestampsOf(device)
      const [stream, side] = [device.createStream(), device.createStream()]
      const [fork, join] = [device.createEvent(), device.createEvent()]
      const host = await pinned(device, bytes)
      const target = device.allocate(bytes, { tag: 'target' })
      const [zero, begin, end] = [create(), create(), create()]
      record(zero, stream)
      stream.beginCapture()
      record(begin, stream)
      stream.record(fork)
      side.wait(fork)
      side.copy(target, host)
      record(end, side)
      side.record(join)
      stream.wait(join)
      const graph = stream.endCapture()
      expect(graph.nodeCount).toBeGreaterThanOrEqual(3)
      await stream.synchronize()
      expect([elapsed(begin, end), elapsed(zero, end)]).toEqual([Number.NaN, Number.NaN])
      const least = (bytes / bytesPerSecond) * 1000 - 0.001
      let before = 0
      for (let replay = 0; replay < 3; replay++) {
        stream.launch(graph)
        await stream.synchronize()
        expect(elapsed(begin, end)).toBeGreaterThanOrEqual(least)
        expect(elapsed(zero, end) - before).toBeGreaterThanOrEqual(least)
        before = elapsed(zero, end)
      }
      // Outside of a capture again.
      record(begin, stream)
      record(end, stream)
      await stream.synchronize()
      expect(elapsed(zero, begin)).toBeGreaterThanOrEqual(before)
      expect(elapsed(begin, end)).toBeGreaterThanOrEqual(0)
      probe.dropTimestamps()
      stream.launch(graph)
      await stream.synchronize()
      expect(device.counters().liveHandles.timestamp).toBe(2)
      await disposeAll(stream, side, fork, join, host, target, graph)
    },
  ],
]
