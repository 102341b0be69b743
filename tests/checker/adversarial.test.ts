import { type NativeDevice, type NativeStream, openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { expectNothingLeft, KiB, MiB, pinned, readBack, uniform } from '../../packages/device/test/device-rig.js'

async function onAdversary<T>(adversarialSeed: number, body: (device: NativeDevice) => Promise<T>): Promise<T> {
  const device = await openDevice('host', { threads: 2, memoryLimitBytes: 64 * MiB, adversarialSeed, check: false })
  try {
    const result = await body(device)
    expectNothingLeft(device)
    return result
  } finally {
    await device.dispose()
  }
}

const seeds = Array.from({ length: 24 }, (_, seed) => seed)

/** Twelve fills of one buffer from four streams that nothing orders: what is left tells the order. */
function raceOfFills(seed: number): Promise<string> {
  return onAdversary(seed, async (device) => {
    const streams = Array.from({ length: 4 }, () => device.createStream())
    const target = device.allocate(4 * KiB, { tag: 'race' })
    for (let i = 0; i < 12; i++) streams[i % 4]!.fill(target, i, { offset: i * 128 })
    for (const stream of streams) await stream.synchronize()
    const bytes = await readBack(device, target)
    await Promise.all([...streams, target].map((handle) => handle.dispose()))
    return Buffer.from(bytes).toString('hex')
  })
}

describe('a device that puts work off', () => {
  test('does nothing until somebody waits, then what that wait needs', () =>
    onAdversary(1, async (device) => {
      const [copies, compute] = [device.createStream(), device.createStream()]
      const host = await pinned(device, MiB, 3)
      const target = device.allocate(MiB, { tag: 'slot' })
      const event = device.createEvent()
      copies.copy(target, host)
      copies.record(event)
      compute.wait(event)
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      expect(device.counters().hostToDeviceCopies).toBe(0)
      await compute.synchronize()
      expect(device.counters()).toMatchObject({ hostToDeviceCopies: 1, hostToDeviceBytes: MiB })
      await Promise.all([copies, compute, host, target, event].map((handle) => handle.dispose()))
    }))

  test('does what is left when a stream is disposed, and when the device is', async () => {
    const device = await openDevice('host', { adversarialSeed: 5, memoryLimitBytes: MiB })
    const [stream, other] = [device.createStream(), device.createStream()]
    const target = device.allocate(KiB, { tag: 'slot' })
    const host = await device.allocateHost(KiB, { storage: 'pinned' })
    stream.fill(target, 7)
    stream.copy(host, target)
    await stream.dispose()
    other.fill(target, 9)
    await device.dispose()
    expect([7, 9]).toContain(uniform(host.read()))
    await Promise.all([other, target, host].map((handle) => handle.dispose()))
  })

  test('does what one seed says, again and again; other seeds say other things', async () => {
    const first = await Promise.all(seeds.map(raceOfFills))
    const again: string[] = []
    for (const seed of [...seeds].reverse()) again.unshift(await raceOfFills(seed))
    expect(again).toEqual(first)
    expect(new Set(first).size).toBeGreaterThan(seeds.length / 4)
  })

  test('makes a missing wait give wrong bytes for most seeds; with the wait all are right', async () => {
    const wrong = { forgotten: 0, waited: 0 }
    for (const seed of seeds) {
      for (const waits of [false, true]) {
        const right = await onAdversary(seed, (device) => onload(device, waits))
        if (!right) wrong[waits ? 'waited' : 'forgotten']++
      }
    }
    process.stdout.write(`a missing wait: wrong bytes for ${wrong.forgotten} of ${seeds.length} seeds\n`)
    expect(wrong.waited).toBe(0)
    expect(wrong.forgotten).toBeGreaterThan(seeds.length / 3)
  })

  test('tears copies over the link: who does not wait may see half of one', async () => {
    let torn = 0
    for (const seed of seeds) {
      await onAdversary(seed, async (device) => {
        const [copies, careless] = [device.createStream(), device.createStream()]
        const host = await pinned(device, 64 * KiB, 1)
        const [slot, seen] = ['slot', 'seen'].map((tag) => device.allocate(64 * KiB, { tag }))
        copies.copy(slot!, host)
        careless.copy(seen!, slot!)
        await careless.synchronize()
        await copies.synchronize()
        const values = new Set(await readBack(device, seen!))
        if (values.size > 1) torn++
        await Promise.all([copies, careless, host, slot!, seen!].map((handle) => handle.dispose()))
      })
    }
    expect(torn).toBeGreaterThan(0)
  })

  test('hands freed memory out again at once, at the same address and full of poison', () =>
    onAdversary(3, async (device) => {
      const stream = device.createStream()
      const old = device.allocate(8 * KiB, { tag: 'old' })
      stream.fill(old, 1)
      await stream.synchronize()
      const { pointer } = old
      await old.dispose()
      const next = device.allocate(8 * KiB, { tag: 'next' })
      expect(next.pointer).toBe(pointer)
      expect(uniform(await readBack(device, next, stream))).toBe(0xff)
      await next.dispose()
      await stream.dispose()
    }))

  test('replays graphs with forks inside, in any order that their edges allow', async () => {
    for (const seed of seeds) {
      await onAdversary(seed, async (device) => {
        const [main, side] = [device.createStream(), device.createStream()]
        const [left, right, both] = ['left', 'right', 'both'].map((tag) => device.allocate(KiB, { tag }))
        const [fork, join] = [device.createEvent(), device.createEvent()]
        main.beginCapture()
        main.record(fork)
        side.wait(fork)
        side.fill(right!, 2)
        side.record(join)
        main.fill(left!, 1)
        main.wait(join)
        main.copy(both!, left!, { bytes: 512 })
        main.copy(both!, right!, { toOffset: 512, bytes: 512 })
        const graph = main.endCapture()
        for (let replay = 0; replay < 3; replay++) {
          main.fill(both!, 0)
          main.launch(graph)
        }
        const bytes = await readBack(device, both!, main)
        expect([uniform(bytes.subarray(0, 512)), uniform(bytes.subarray(512))]).toEqual([1, 2])
        await Promise.all([main, side, left!, right!, both!, fork, join, graph].map((handle) => handle.dispose()))
      })
    }
  })
})

/** Two onloads into one slot, each followed by a reader. Whether both readers saw their layer. */
async function onload(device: NativeDevice, waits: boolean): Promise<boolean> {
  const [copies, compute] = [device.createStream({ priority: 'high' }), device.createStream()]
  const slabs = [await pinned(device, 16 * KiB, 1), await pinned(device, 16 * KiB, 2)]
  const slot = device.allocate(16 * KiB, { tag: 'slot' })
  const seen = slabs.map(() => device.allocate(16 * KiB, { tag: 'seen' }))
  const event = device.createEvent()
  const order = (earlier: NativeStream, later: NativeStream): void => {
    if (!waits) return
    earlier.record(event)
    later.wait(event)
  }
  for (const [i, slab] of slabs.entries()) {
    order(compute, copies)
    copies.copy(slot, slab)
    order(copies, compute)
    compute.copy(seen[i]!, slot)
  }
  await compute.synchronize()
  await copies.synchronize()
  const values = []
  for (const buffer of seen) values.push(new Set(await readBack(device, buffer)))
  await Promise.all([copies, compute, ...slabs, slot, ...seen, event].map((handle) => handle.dispose()))
  return values.every((set, i) => set.size === 1 && set.has(i + 1))
}
