// A graph with a forward that is launched while another forward is open, on any device.
import type { Graph } from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import type { NativeRing } from '../src/native-ring.js'
import { failure } from './device-rig.js'
import { RingRig } from './ring-rig.js'

export const slots = 2

export function capture(rig: RingRig, ring: NativeRing, order: readonly number[], of: number = slots): Graph {
  rig.compute.beginCapture()
  rig.forward(ring, order, of)
  return rig.compute.endCapture()
}

type RefusedCall = readonly [call: string, body: (rig: RingRig, ring: NativeRing, launch: () => void) => void]

// What a piece of layers 2 and 3 would do in the midst of 0 … 5.
export const refusedCalls: readonly RefusedCall[] = [
  [
    'before() of the next layer',
    (rig, ring, launch) => {
      for (const i of [0, 1]) rig.visit(ring, i, slots)
      launch()
      rig.addon.before(ring, 4)
    },
  ],
  [
    'after() of a layer',
    (rig, ring, launch) => {
      rig.visit(ring, 0, slots)
      rig.addon.before(ring, 1)
      launch()
      rig.addon.after(ring, 1)
    },
  ],
  [
    'end()',
    (rig, ring, launch) => {
      for (const i of [0, 1]) rig.visit(ring, i, slots)
      launch()
      rig.addon.end(ring, true)
    },
  ],
  [
    'end() of a forward that has done nothing yet',
    (rig, ring, launch) => {
      launch()
      rig.addon.end(ring, true)
    },
  ],
]

/** Refused, and forwards and replays after it are right. */
export async function runRefusedCall(device: NativeDevice, [call, body]: RefusedCall): Promise<void> {
  await using rig = await RingRig.open(device)
  const ring = rig.ring(6, slots)
  const graph = capture(rig, ring, [2, 3])
  rig.begin(ring)
  const error = await failure('SPILLWAY_CAPTURE', () => body(rig, ring, () => rig.compute.launch(graph)))
  expect(error.message).toContain('launch it between forwards')
  if (call.startsWith('end')) await failure('SPILLWAY_INVALID_ARGUMENT', () => rig.addon.end(ring, false))
  else rig.addon.end(ring, false)
  // What those two have read is not known, and nobody was told that it is right.
  await rig.wipeLog()
  await using again = capture(rig, ring, [2, 3])
  rig.forward(ring, [0, 1], slots)
  rig.compute.launch(again)
  rig.forward(ring, [4, 5, 0], slots)
  await rig.expectRightBytes()
  await graph.dispose()
}
