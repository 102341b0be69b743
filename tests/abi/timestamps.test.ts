import { attach, handleOf } from '@spillway/device'
import { expect, test } from 'vitest'
import { disposeAll, expectCode, expectNothingLeft, MiB, onDevice } from '../../packages/device/test/device-rig.js'
import { RingRig } from '../../packages/prefetch/test/ring-rig.js'
import { probe } from './abi-probe.js'
import { record, timestampCases, timestampsOf } from './timestamps.js'

const INVALID_ARGUMENT = 1
const linkBytesPerSecond = 100 * MiB

test.each(timestampCases)('timestamps %s', (_, body) =>
  onDevice({ linkBytesPerSecond, check: true }, async (device) => {
    await body({ device, bytesPerSecond: linkBytesPerSecond })
    // Work that is done lets go of them on the stream's own thread.
    await expect.poll(() => Object.values(device.counters().liveHandles).every((count) => count === 0)).toBe(true)
  }),
)

test('a timestamp that was recorded again is not known until it is reached again', () =>
  onDevice({ adversarialSeed: 1 }, async (device) => {
    const { create, elapsed } = timestampsOf(device)
    const stream = device.createStream()
    const [zero, again] = [create(), create()]
    record(zero, stream)
    stream.beginCapture()
    record(again, stream)
    const graph = stream.endCapture()
    // An adversarial device runs nothing that nobody waits for.
    expect(elapsed(zero, zero)).toBeNaN()
    let before = Number.NEGATIVE_INFINITY
    for (let i = 0; i < 3; i++) {
      if (i === 1) record(again, stream)
      else stream.launch(graph)
      expect(elapsed(zero, again)).toBeNaN()
      await stream.synchronize()
      expect(elapsed(zero, again)).toBeGreaterThan(before)
      before = elapsed(zero, again)
    }
    probe.dropTimestamps()
    await disposeAll(stream, graph)
  }))

test('timestamps order nothing', () =>
  onDevice({ check: true }, async (device) => {
    const { create } = timestampsOf(device)
    const [one, other] = [device.createStream(), device.createStream()]
    const buffer = device.allocate(64, { tag: 'shared' })
    const timestamp = create()
    one.fill(buffer, 1)
    record(timestamp, one)
    record(timestamp, other)
    other.fill(buffer, 2)
    await Promise.all([one.synchronize(), other.synchronize()])
    expect(device.checker!.takeViolations()).toHaveLength(1)
    probe.dropTimestamps()
    await disposeAll(one, other, buffer)
  }))

test('a timestamp on a stream that is not joined back is work nobody waits for', () =>
  onDevice({}, async (device) => {
    const { create } = timestampsOf(device)
    const [main, side, event] = [device.createStream(), device.createStream(), device.createEvent()]
    main.beginCapture()
    main.record(event)
    side.wait(event)
    record(create(), side)
    await expectCode('SPILLWAY_CAPTURE', () => main.endCapture())
    probe.dropTimestamps()
    await disposeAll(main, side, event)
  }))

test('timestamps are refused across devices, to NULL handles, and by a closed device', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const { create } = timestampsOf(device)
    const timestamp = create()
    expect(probe.hostileTiming(handleOf(device), handleOf(stream), timestamp)).toEqual(Array(7).fill(INVALID_ARGUMENT))
    await onDevice({}, async (other) => {
      const elsewhere = other.createStream()
      await expectCode('SPILLWAY_WRONG_DEVICE', () => record(timestamp, elsewhere))
      const theirs = timestampsOf(other).create()
      await expectCode('SPILLWAY_WRONG_DEVICE', () => timestampsOf(device).elapsed(timestamp, theirs))
      probe.dropTimestamps()
      await elsewhere.dispose()
    })
    await stream.dispose()
    await expect.poll(() => device.counters().liveHandles.stream).toBe(0)
  }))

test('where the device takes no times, a ring works without, and refuses a trace', () =>
  onDevice({ check: true }, async (device) => {
    await using rig = await RingRig.open(device)
    for (const times of [false, true]) {
      rig.addon.attach(times ? attach() : probe.tableWithoutTiming())
      const ring = rig.ring(5, 2)
      expect(rig.addon.canTime(ring)).toBe(times)
      for (let i = 0; i < 3; i++) rig.forward(ring, [0, 1, 2, 3, 4], 2)
      await rig.expectRightBytes()
      expect([...rig.addon.elementTimes(ring)].some(Number.isNaN)).toBe(!times)
      expect(device.counters().liveHandles.timestamp! > 0).toBe(times)
      if (times) rig.addon.beginTrace(ring)
      else await expectCode('SPILLWAY_NOT_SUPPORTED', () => rig.addon.beginTrace(ring))
    }
  }))

test('what fails to be created or recorded leaves nothing', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const { create, elapsed } = timestampsOf(device)
    device.failures.arm({ at: 'event', number: 1 })
    await expectCode('SPILLWAY_SYSTEM', create)
    expectNothingLeftButTheStream()
    const timestamp = create()
    device.failures.arm({ at: 'event', number: 1 })
    await expectCode('SPILLWAY_SYSTEM', () => record(timestamp, stream))
    await stream.synchronize()
    expect(elapsed(timestamp, timestamp)).toBeNaN()
    probe.dropTimestamps()
    await stream.dispose()
    expectNothingLeft(device)

    function expectNothingLeftButTheStream(): void {
      expect(device.counters().liveHandles).toMatchObject({ stream: 1, timestamp: 0 })
    }
  }))
