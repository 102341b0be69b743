import { expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { probe } from './allocator-probe.js'
import { AllocatorRig } from './allocator-rig.js'

test('cached allocations and frees ask the source for nothing; what they take is printed', () => {
  for (const live of [16, 1000]) {
    const rig = new AllocatorRig()
    probe.measure(rig.handle, live, 10_000)
    const calls = probe.sourceCalls(rig.handle)
    const { allocateNs, freeNs } = probe.measure(rig.handle, live, rounds(10_000, 200_000))
    expect(probe.sourceCalls(rig.handle) - calls).toBeLessThan(live)
    console.log(`among ${live} blocks, medians: allocate ${allocateNs.toFixed(0)} ns, free ${freeNs.toFixed(0)} ns`)
  }
})
