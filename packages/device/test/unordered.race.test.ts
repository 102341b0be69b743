// A data race on purpose: what a reader sees that forgot to wait. Kept out of the thread sanitizer's run, by its name.
import { expect, test } from 'vitest'
import { disposeAll, MiB, onDevice, PAGE, pinned, readBack, uniform } from './device-rig.js'

test('without waiting for the copy’s event, a reader sees poison: order comes from events alone', () =>
  onDevice({ linkBytesPerSecond: 4 * MiB, check: false }, async (device) => {
    const [writer, careless] = [device.createStream(), device.createStream()]
    const host = await pinned(device, 2 * MiB, 5)
    const target = device.allocate(2 * MiB, { tag: 'slot' })
    const unseen = device.allocate(PAGE, { tag: 'seen' })
    const order: string[] = []
    writer.copy(target, host)
    careless.copy(unseen, target, { fromOffset: 2 * MiB - PAGE, bytes: PAGE })
    await Promise.all([
      writer.synchronize().then(() => order.push('writer')),
      careless.synchronize().then(() => order.push('careless')),
    ])
    expect(order).toEqual(['careless', 'writer'])
    expect(uniform(await readBack(device, unseen))).toBe(0xff)
    await disposeAll(writer, careless, host, target, unseen)
  }))
