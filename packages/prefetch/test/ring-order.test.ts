import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { onDevice, onloadedSince } from './device-rig.js'
import { elementBytes, RingRig } from './ring-rig.js'

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, number) => total + number, 0)

/** Who is in each slot, kept by hand beside the native ring. */
class Shadow {
  readonly elements: number
  readonly slots: number
  readonly occupants: number[]
  readonly copied: number[]
  demandOnloads = 0
  /** The same by element. */
  readonly demanded: number[]
  resets = 0

  constructor(elements: number, prefetchStep: number) {
    this.elements = elements
    this.slots = Math.min(prefetchStep, elements)
    this.occupants = Array.from({ length: this.slots }, (_, k) => k)
    this.copied = [...this.occupants]
    this.demanded = new Array<number>(elements).fill(0)
  }

  before(element: number): void {
    if (!this.#put(element)) return
    this.demandOnloads++
    this.demanded[element]!++
  }

  after(element: number): void {
    const ahead = element + this.slots
    this.#put(ahead < this.elements ? ahead : element % this.slots)
  }

  end(): void {
    const restored = this.occupants.map((_, k) => this.#put(k))
    if (restored.includes(true)) this.resets++
  }

  #put(element: number): boolean {
    const slot = element % this.slots
    if (this.occupants[slot] === element) return false
    this.occupants[slot] = element
    this.copied.push(element)
    return true
  }
}

describe('whole forwards, for every number of elements up to 64 and of steps up to 16', () => {
  it('reads right bytes, copies what shares a slot once per forward and nothing else, and is never late', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      for (let elements = 1; elements <= 64; elements++) {
        await rig.wipeLog()
        const order = Array.from({ length: elements }, (_, i) => i)
        for (let step = 1; step <= 16; step++) {
          const slots = Math.min(step, elements)
          await rig.settle()
          const before = device.counters()
          const ring = rig.ring(elements, step)
          rig.forward(ring, order, slots)
          rig.forward(ring, order, slots)
          await rig.settle()
          // The rule again, in closed form: the first elements at the start, then everything that shares its slot.
          const first = order.slice(0, slots)
          const shared = order.filter((i) => i >= slots || i + slots < elements)
          const copied = [...first, ...shared, ...shared]
          expect(onloadedSince(device, before), `${elements} elements, step ${step}`).toEqual({
            copies: copied.length,
            bytes: sum(copied.map(elementBytes)),
          })
          expect(rig.counters(ring)).toEqual({
            onloads: copied.length,
            onloadedBytes: sum(copied.map(elementBytes)),
            capturedOnloads: 0,
            demandOnloads: 0,
            resets: 0,
            forwards: 2,
            failedForwards: 0,
          })
          const times = (i: number): number => Number(i < slots) + (shared.includes(i) ? 2 : 0)
          expect(rig.addon.elementCounters(ring)).toEqual(order.map((i) => ({ onloads: times(i), demandOnloads: 0 })))
        }
        await rig.expectRightBytes()
      }
    })
  })

  it('copies nothing after the first pass when every element has a slot of its own', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(5, 8)
      rig.forward(ring, [0, 1, 2, 3, 4], 5)
      await rig.settle()
      const before = device.counters()
      for (let i = 0; i < 4; i++) rig.forward(ring, [4, 0, 0, 3, 1], 5)
      rig.forward(ring, [], 5)
      await rig.expectRightBytes()
      expect(onloadedSince(device, before)).toEqual({ copies: 0, bytes: 0 })
    })
  })

  it('never copies an element again that is alone in its slot, though others share theirs', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      const ring = rig.ring(5, 3)
      await rig.settle()
      const before = device.counters()
      for (let i = 0; i < 3; i++) rig.forward(ring, [0, 1, 2, 3, 4], 3)
      await rig.expectRightBytes()
      expect(onloadedSince(device, before).copies).toBe(3 * 4) // 0 and 3, 1 and 4; 2 stays
    })
  })
})

describe('any order of calls', () => {
  /** A forward: which elements it visits, and whether it breaks off within the last one. */
  const forwards = fc.array(
    fc.record({
      visits: fc.array(fc.nat(63), { maxLength: 24 }),
      breaksOff: fc.boolean(),
      ascending: fc.boolean(),
    }),
    { minLength: 1, maxLength: 5 },
  )
  const rings = fc.record({
    elements: fc.integer({ min: 1, max: 64 }),
    step: fc.integer({ min: 1, max: 16 }),
    forwards,
  })

  interface RingCase {
    readonly elements: number
    readonly step: number
    readonly forwards: readonly {
      readonly visits: readonly number[]
      readonly breaksOff: boolean
      readonly ascending: boolean
    }[]
  }

  async function run(rig: RingRig, { elements, step, forwards }: RingCase): Promise<void> {
    await rig.wipeLog()
    const { device } = rig
    const before = device.counters()
    const ring = rig.ring(elements, step)
    const shadow = new Shadow(elements, step)
    for (const { visits, breaksOff, ascending } of forwards) {
      const order = visits.map((visit) => visit % elements)
      if (ascending) order.sort((a, b) => a - b)
      rig.begin(ring)
      for (const [i, element] of order.entries()) {
        rig.addon.before(ring, element)
        shadow.before(element)
        rig.read(element, shadow.slots)
        if (breaksOff && i === order.length - 1) break
        rig.addon.after(ring, element)
        shadow.after(element)
      }
      rig.addon.end(ring, !breaksOff)
      shadow.end()
    }
    await rig.expectRightBytes()
    expect(onloadedSince(device, before)).toEqual({
      copies: shadow.copied.length,
      bytes: sum(shadow.copied.map(elementBytes)),
    })
    expect(rig.counters(ring)).toMatchObject({
      demandOnloads: shadow.demandOnloads,
      resets: shadow.resets,
      forwards: forwards.length,
      failedForwards: forwards.filter(({ breaksOff }) => breaksOff).length,
    })
    const onloads = new Array<number>(elements).fill(0)
    for (const element of shadow.copied) onloads[element]!++
    expect(rig.addon.elementCounters(ring)).toEqual(
      shadow.demanded.map((demanded, i) => ({ onloads: onloads[i], demandOnloads: demanded })),
    )
  }

  it('reads right bytes and copies what the rule says', async () => {
    await onDevice({}, async (device) => {
      await using rig = await RingRig.open(device)
      await fc.assert(
        fc.asyncProperty(rings, (ring) => run(rig, ring)),
        { numRuns: 300 },
      )
    })
  })

  it('does so when the link is slow, so that a copy nobody waits for is not there in time', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      await fc.assert(
        fc.asyncProperty(rings, (ring) => run(rig, ring)),
        { numRuns: 40 },
      )
    })
  })

  it('overwrites no slot that a slow kernel still reads', async () => {
    await onDevice({ linkLatencyMs: 0.2 }, async (device) => {
      await using rig = await RingRig.open(device)
      for (const [elements, slots] of [
        [4, 1],
        [5, 2],
        [7, 3],
      ] as const) {
        const ring = rig.ring(elements, slots)
        for (const order of [
          [0, 1, 2, 3],
          [3, 0, 3, 3],
        ]) {
          rig.begin(ring)
          for (const element of order) {
            rig.addon.before(ring, element)
            for (let i = 0; i < 3; i++) rig.delay()
            rig.read(element, slots)
            rig.addon.after(ring, element)
          }
          rig.addon.end(ring, true)
        }
        await rig.expectRightBytes()
        await rig.wipeLog()
      }
    })
  })

  it('leaves at most one unfinished copy per slot once the forward stream is idle', async () => {
    // Core holds onloadedBytes against the device's counters by this.
    await onDevice({ linkLatencyMs: 2 }, async (device) => {
      await using rig = await RingRig.open(device)
      const before = device.counters()
      const ring = rig.ring(6, 2)
      for (let i = 0; i < 4; i++) rig.forward(ring, [0, 1], 2) // what was copied ahead is never read
      await rig.compute.synchronize()
      const unfinished = rig.counters(ring).onloads - onloadedSince(device, before).copies
      expect(unfinished).toBeLessThanOrEqual(2)
      await rig.expectRightBytes()
    })
  })
})
