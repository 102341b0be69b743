// A captured forward forks: its copies run beside its compute, at every replay. By timestamps of the device, which order
// nothing.
import { expect, it } from 'vitest'
import { onDevice } from '../../packages/prefetch/test/device-rig.js'
import { RingRig } from '../../packages/prefetch/test/ring-rig.js'
import { probe } from '../abi/abi-probe.js'
import { record, timestampsOf } from '../abi/timestamps.js'

const elements = 6
const slots = 2
const linkLatencyMs = 4

it('a replay reads one layer while the next but one comes', async () => {
  // Reading a layer takes as long as copying one: both are copies that take this long, in opposite directions.
  await onDevice({ linkLatencyMs }, async (device) => {
    await using rig = await RingRig.open(device)
    const { create, elapsed } = timestampsOf(device)
    const ring = rig.ring(elements, slots)
    const reads = Array.from({ length: elements }, () => ({ begin: create(), end: create(), nextIsThere: create() }))
    await rig.settle()
    rig.compute.beginCapture()
    rig.begin(ring)
    for (const [i, { begin, end, nextIsThere }] of reads.entries()) {
      rig.addon.before(ring, i)
      record(begin, rig.compute)
      rig.delay()
      rig.read(i, slots)
      record(end, rig.compute)
      rig.addon.after(ring, i)
      record(nextIsThere, rig.copyStream)
    }
    rig.addon.end(ring, true)
    await using graph = rig.compute.endCapture()
    let beside = 0
    for (let replay = 0; replay < 3; replay++) {
      await rig.wipeLog(true)
      rig.compute.launch(graph)
      await rig.expectRightBytes()
      for (const [i, { end, nextIsThere }] of reads.entries()) {
        // A copy comes after the layer in its slot was read,
        expect(elapsed(end, nextIsThere)).toBeGreaterThan(0)
        // and while the layer after that is read.
        const next = reads[i + 1]
        if (next !== undefined && elapsed(next.begin, nextIsThere) > linkLatencyMs / 2) beside++
      }
    }
    expect(beside).toBeGreaterThan(elements)
    probe.dropTimestamps()
  })
})
