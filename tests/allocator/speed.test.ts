import { expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { probe } from './allocator-probe.js'
import { AllocatorRig } from './allocator-rig.js'

test('cached allocations and frees ask the source for nothing; what they take is printed', () => {
  for (const live of [16, 1000]) {
    const rig = new AllocatorRig()
    probe.measure(rig.handle, live, 10_000)
    const calls = probe.sourceCalls(rig.handle)
    const measured = probe.measure(rig.handle, live, rounds(10_000, 200_000))
    expect(probe.sourceCalls(rig.handle) - calls).toBeLessThan(live)
    for (const [call, { medianNs, p99Ns }] of Object.entries(measured)) {
      expect(p99Ns).toBeGreaterThanOrEqual(medianNs)
      console.log(`${call} among ${live} blocks: median ${medianNs.toFixed(0)} ns, p99 ${p99Ns.toFixed(0)} ns`)
    }
  }
})
