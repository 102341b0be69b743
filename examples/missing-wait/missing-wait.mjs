import { openDevice } from '@spillway/device'

const device = await openDevice('host', { check: true })
const [compute, copies] = [device.createStream(), device.createStream({ priority: 'high' })]
const [loaded, used] = [device.createEvent(), device.createEvent()]
const bytes = 2 ** 20
const slot = device.allocate(bytes, { tag: 'slot' })
const output = device.allocate(bytes, { tag: 'output' })

for (let layer = 0; layer < 3; layer++) {
  const weights = await device.allocateHost(bytes, { storage: 'pinned' })
  copies.copy(slot, weights)
  copies.record(loaded)
  compute.wait(loaded)
  compute.copy(output, slot) // stands for the layer's kernels
  compute.record(used) // the bug: nobody waits for it before the slot is filled again
}
await compute.synchronize()
for (const violation of device.checker?.takeViolations() ?? []) console.log(violation.message)
await device.dispose()
