// Each point where the device can fail within a ring's calls, one after another: what the ring knows of its slots stays
// true, so that the next forward is right, and a capture after it, or refused.
import { isSpillwayError } from '@spillway/core'
import { expect, it } from 'vitest'
import type { NativeRing } from '../src/native-ring.js'
import { onDevice } from './device-rig.js'
import { RingRig } from './ring-rig.js'

const elements = 5
const slots = 2
const all = [0, 1, 2, 3, 4]

/** Runs `body`; a failure that is injected ends the forward, and the capture. True: it came through. */
function attempt(rig: RingRig, ring: NativeRing, body: () => void): boolean {
  try {
    body()
    return true
  } catch (error) {
    expect(isSpillwayError(error), String(error)).toBe(true)
    try {
      rig.addon.end(ring, false)
    } catch (failure) {
      // There was no forward, or it cannot be ended in this capture.
      expect(isSpillwayError(failure), String(failure)).toBe(true)
    }
    return false
  }
}

function endCapture(rig: RingRig): ReturnType<RingRig['compute']['endCapture']> | undefined {
  if (!rig.compute.capturing) return undefined
  try {
    return rig.compute.endCapture()
  } catch (error) {
    expect(isSpillwayError(error, 'SPILLWAY_CAPTURE') || isSpillwayError(error, 'SPILLWAY_SYSTEM')).toBe(true)
    return undefined
  }
}

/** Everything right after all: eager, captured and replayed. */
async function expectRight(rig: RingRig, ring: NativeRing, what: string): Promise<void> {
  await rig.settle()
  await rig.wipeLog()
  rig.forward(ring, [4, 1, 0, 2], slots)
  rig.compute.beginCapture()
  rig.forward(ring, all, slots)
  const graph = rig.compute.endCapture()
  rig.compute.launch(graph)
  rig.forward(ring, all, slots)
  try {
    await rig.expectRightBytes()
  } catch (error) {
    throw new Error(`${what}: ${String(error)}`, { cause: error })
  }
  await graph.dispose()
}

it.each([
  ['eager forwards, in and out of order', false],
  ['a capture and a replay', true],
] as const)('%s', async (what, captures) => {
  for (const adversarialSeed of [undefined, 3]) {
    // Not checked: a capture that is broken off has work that nobody joins, as it should.
    const order = adversarialSeed === undefined ? {} : { adversarialSeed }
    await onDevice({ check: !captures, ...order }, async (device) => {
      await using rig = await RingRig.open(device)
      const other = device.createStream()
      let number = 0
      for (let fired = true; fired; ) {
        number++
        const ring = rig.ring(elements, slots)
        await rig.settle()
        device.failures.arm({ at: 'any', number })
        if (captures) {
          const whole = attempt(rig, ring, () => {
            rig.compute.beginCapture()
            rig.forward(ring, all, slots)
          })
          const graph = endCapture(rig)
          if (whole && graph !== undefined) attempt(rig, ring, () => rig.compute.launch(graph))
          await graph?.dispose()
        } else {
          attempt(rig, ring, () => rig.forward(ring, all, slots))
          attempt(rig, ring, () => rig.forward(ring, [3, 3, 0], slots, other))
          attempt(rig, ring, () => rig.forward(ring, all, slots))
        }
        fired = device.failures.fired
        device.failures.disarm()
        if (other.capturing || rig.compute.capturing) endCapture(rig)
        await other.synchronize()
        await expectRight(rig, ring, `${what}, failure ${number}`)
        rig.addon.close(ring)
      }
      expect(number).toBeGreaterThan(captures ? 30 : 60)
      await other.dispose()
    })
  }
})
