import type { Device, DeviceBuffer, HostBuffer, Stream } from '@spillway/core'
import { handleOf, openDevice } from '@spillway/device'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadAddon, type NativeRing } from '../src/native-ring.js'

// The native ring on the real host device. A "kernel" copies the slot it reads to a place of its own, so what every
// single read saw is checked, not only the last.

const most = 64
const mostSlots = 16
const bytes = 512
const addon = loadAddon()

let device: Device
let compute: Stream
let copyStream: Stream
let slabs: HostBuffer[]
let slots: DeviceBuffer[]
let seen: DeviceBuffer
let result: HostBuffer
const reads = 4096

/** What element `i` holds: different in every element, never poison. */
const pattern = (i: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, k) => (i * 7 + k) % 251)

beforeAll(async () => {
  // Two threads: the pool is not what is tested. A slow link makes a missing wait show.
  device = await openDevice('host', { memoryLimitBytes: 2 ** 26, threads: 2 })
  compute = device.createStream()
  copyStream = device.createStream()
  slabs = await Promise.all(
    Array.from({ length: most }, async (_, i) => {
      const slab = await device.allocateHost(bytes, { storage: 'pinned' })
      slab.write(pattern(i))
      return slab
    }),
  )
  slots = Array.from({ length: mostSlots }, () => device.allocate(bytes, { tag: 'weights' }))
  seen = device.allocate(bytes * reads, { tag: 'workspace' })
  result = await device.allocateHost(bytes * reads, { storage: 'pinned' })
})

afterAll(async () => {
  for (const handle of [...slabs, ...slots, seen, result, compute, copyStream]) await handle.dispose()
  expect(Object.values(device.counters().liveHandles).every((count) => count === 0)).toBe(true)
  expect(device.budget.usedBytes).toBe(0)
  await device.dispose()
})

interface Rig {
  readonly ring: NativeRing
  readonly order: number[]
  forward(elements: readonly number[], stream?: Stream): void
  check(): Promise<void>
}

/** A ring of n elements and s slots, poisoned before. */
async function withRing(n: number, s: number, body: (rig: Rig) => Promise<void>): Promise<void> {
  const count = Math.min(n, s)
  for (const slot of slots.slice(0, count)) compute.fill(slot, 0xff)
  compute.fill(seen, 0xee)
  const ring = addon.createRing(
    handleOf(copyStream),
    slabs.slice(0, n).map(handleOf),
    new Array<number>(n).fill(bytes),
    slots.slice(0, count).map(handleOf),
  )
  const order: number[] = []
  addon.start(ring, handleOf(compute))
  try {
    await body({
      ring,
      order,
      forward(elements, stream = compute) {
        addon.begin(ring, handleOf(stream))
        for (const element of elements) {
          addon.before(ring, element)
          stream.copy(seen, slots[element % count]!, { toOffset: order.length * bytes, bytes })
          order.push(element)
          addon.after(ring, element)
        }
        addon.end(ring, true)
      },
      async check() {
        await compute.synchronize()
        compute.copy(result, seen, { bytes: Math.max(order.length, 1) * bytes })
        await compute.synchronize()
        const all = result.read(0, Math.max(order.length, 1) * bytes)
        for (const [at, element] of order.entries()) {
          const got = all.subarray(at * bytes, (at + 1) * bytes)
          if (Buffer.compare(got, pattern(element)) !== 0) {
            throw new Error(
              `read ${at} of element ${element} (n ${n}, s ${s}) saw ${got[0]}, not ${pattern(element)[0]}`,
            )
          }
        }
      },
    })
  } finally {
    await compute.synchronize()
    await copyStream.synchronize()
    addon.close(ring)
  }
}

const copies = async (): Promise<{ count: number; bytes: number }> => {
  await copyStream.synchronize()
  await compute.synchronize()
  const { hostToDeviceCopies, hostToDeviceBytes } = device.counters()
  return { count: hostToDeviceCopies, bytes: hostToDeviceBytes }
}

const inOrder = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** Copies of one forward in order: those of slots that more than one element passes through. */
function copiesPerForward(n: number, s: number): number {
  let sum = 0
  for (let slot = 0; slot < Math.min(n, s); slot++) {
    const sharing = inOrder(n).filter((i) => i % s === slot).length
    if (sharing > 1) sum += sharing
  }
  return sum
}

describe('in order, every n ≤ 64 and s ≤ 16', () => {
  for (let s = 1; s <= mostSlots; s++) {
    test(`${s} slots: every read right, exactly the copies the rule gives`, async () => {
      for (let n = 1; n <= most; n++) {
        const before = await copies()
        await withRing(n, s, async ({ ring, forward, check }) => {
          for (let i = 0; i < 3; i++) forward(inOrder(n))
          await check()
          const after = await copies()
          const expected = Math.min(n, s) + 3 * copiesPerForward(n, s)
          expect(after.count - before.count, `n ${n}`).toBe(expected)
          expect(after.bytes - before.bytes).toBe(expected * bytes)
          expect(addon.counters(ring)).toEqual({
            onloads: expected,
            onloadedBytes: expected * bytes,
            capturedOnloads: 0,
            demandOnloads: 0,
            resets: 0,
          })
        })
      }
    })
  }
})

test('with a slot for each, nothing is copied after the first pass', async () => {
  await withRing(5, 8, async ({ forward, check }) => {
    forward(inOrder(5))
    const before = await copies()
    for (let i = 0; i < 10; i++) forward(inOrder(5))
    await check()
    expect((await copies()).count).toBe(before.count)
  })
})

test('skipped, repeated, reordered and broken-off forwards read what they ask for', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: most }),
      fc.integer({ min: 1, max: mostSlots }),
      fc.array(fc.array(fc.nat(most - 1), { maxLength: 20 }), { maxLength: 8 }),
      fc.infiniteStream(fc.boolean()),
      async (n, s, forwards, breaks) => {
        const other = device.createStream()
        try {
          await withRing(n, s, async ({ ring, order, forward, check }) => {
            for (const elements of forwards) {
              forward(elements.map((element) => element % n))
              if (breaks.next().value) {
                // A body that threw between before and after.
                addon.begin(ring, handleOf(compute))
                const element = (elements[0] ?? 0) % n
                addon.before(ring, element)
                compute.copy(seen, slots[element % Math.min(n, s)]!, { toOffset: order.length * bytes, bytes })
                order.push(element)
                addon.end(ring, false)
              }
            }
            forward(inOrder(n))
            await check()
          })
        } finally {
          await other.dispose()
        }
      },
    ),
    { numRuns: 150, seed: 20261121 },
  )
})

test('a forward on another stream waits for the last one', async () => {
  const other = device.createStream()
  await withRing(7, 2, async ({ forward, check }) => {
    for (let i = 0; i < 6; i++) forward(inOrder(7), i % 2 === 0 ? compute : other)
    await other.synchronize()
    await check()
  })
  await other.dispose()
})

test('captured once, replayed between eager forwards', async () => {
  for (const [n, s] of [
    [7, 2],
    [7, 3],
    [4, 8],
    [1, 1],
    [9, 1],
  ] as const) {
    await withRing(n, s, async ({ ring, order, forward, check }) => {
      forward(inOrder(n))
      const from = order.length
      compute.beginCapture()
      forward(inOrder(n))
      const graph = compute.endCapture()
      expect(addon.counters(ring).capturedOnloads).toBe(copiesPerForward(n, s))
      const before = await copies()
      for (let i = 0; i < 3; i++) {
        // Poison where the graph writes: a replay that did nothing would show.
        compute.fill(seen, 0xee, { offset: from * bytes, bytes: n * bytes })
        compute.launch(graph)
        forward(inOrder(n))
        await check()
      }
      expect((await copies()).count - before.count).toBe(6 * copiesPerForward(n, s))
      await graph.dispose()
    })
  }
})

test('unpinned slabs are refused in a capture, in words, and work outside of it', async () => {
  const pageable = await Promise.all(
    inOrder(3).map(async (i) => {
      const slab = await device.allocateHost(bytes, { storage: 'pageable' })
      slab.write(pattern(i))
      return slab
    }),
  )
  const ring = addon.createRing(
    handleOf(copyStream),
    pageable.map(handleOf),
    [bytes, bytes, bytes],
    slots.slice(0, 1).map(handleOf),
  )
  addon.start(ring, handleOf(compute))
  compute.beginCapture()
  expect(() => addon.begin(ring, handleOf(compute))).toThrow(
    expect.objectContaining({ code: 'SPILLWAY_CAPTURE', message: expect.stringContaining('--pin-memory on') }),
  )
  await compute.endCapture().dispose()
  addon.begin(ring, handleOf(compute))
  addon.before(ring, 2)
  compute.copy(seen, slots[0]!, { bytes })
  addon.after(ring, 2)
  addon.end(ring, true)
  await compute.synchronize()
  compute.copy(result, seen, { bytes })
  await compute.synchronize()
  expect(result.read(0, bytes)).toEqual(pattern(2))
  addon.close(ring)
  await copyStream.synchronize()
  await Promise.all(pageable.map((slab) => slab.dispose()))
})

test('what is no ring, no element, or closed is refused', async () => {
  await withRing(3, 2, async ({ ring }) => {
    for (const element of [3, -1, 0.5, Number.NaN, 2 ** 40]) {
      expect(() => addon.before(ring, element)).toThrow(expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }))
    }
    expect(() => addon.begin({} as NativeRing, handleOf(compute))).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
    )
    expect(() => addon.before(handleOf(compute) as unknown as NativeRing, 0)).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
    )
  })
  const ring = addon.createRing(handleOf(copyStream), [handleOf(slabs[0]!)], [bytes], [handleOf(slots[0]!)])
  addon.close(ring)
  addon.close(ring)
  expect(() => addon.before(ring, 0)).toThrow(expect.objectContaining({ code: 'SPILLWAY_DISPOSED' }))
  expect(() => addon.createRing(handleOf(copyStream), [handleOf(slots[0]!)], [bytes], [handleOf(slots[0]!)])).toThrow(
    expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
  )
})
