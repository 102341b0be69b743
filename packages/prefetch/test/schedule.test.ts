import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ScheduledModule, type ScheduleInput, simulateSchedule } from '../src/schedule.js'

/** A link of 1000 bytes a second: a byte is a millisecond. */
const linkBytesPerSecond = 1000
const module = (name: string, computeMs: number, onloadBytes: number): ScheduledModule => ({
  name,
  computeMs,
  onloadBytes,
})
const layers = (count: number, computeMs: number, bytesOf: (i: number) => number): ScheduledModule[] =>
  Array.from({ length: count }, (_, i) => module(`layers.${i}`, computeMs, bytesOf(i)))
const simulate = (modules: readonly ScheduledModule[], slots: number) =>
  simulateSchedule({ modules, slots, linkBytesPerSecond })

describe('a schedule', () => {
  it('is the sum of compute when nothing is offloaded, or everything has a slot', () => {
    for (const modules of [layers(5, 3, () => 0), layers(5, 3, () => 1000)]) {
      const { stepMs, modules: times } = simulate(modules, 5)
      expect(stepMs).toBe(15)
      for (const one of times) expect(one).toMatchObject({ linkMs: 0, waitMs: 0, hiddenFraction: 1 })
    }
  })

  it('is the link alone when copies take longer than compute and two slots overlap them', () => {
    const { stepMs, modules: times } = simulate(
      layers(6, 1, () => 10),
      2,
    )
    expect(stepMs).toBeCloseTo(60)
    for (const { linkMs, waitMs, hiddenFraction } of times) {
      expect(linkMs).toBe(10)
      expect(waitMs).toBeCloseTo(9)
      expect(hiddenFraction).toBeCloseTo(0.1)
    }
  })

  it('is link and compute one after the other with one slot', () => {
    const { stepMs, modules: times } = simulate(
      layers(6, 1, () => 10),
      1,
    )
    expect(stepMs).toBeCloseTo(66)
    for (const { waitMs, hiddenFraction } of times) expect([waitMs, hiddenFraction]).toEqual([10, 0])
  })

  it('is compute alone when copies are shorter and two slots overlap them', () => {
    const { stepMs, modules: times } = simulate(
      layers(6, 10, () => 1),
      2,
    )
    expect(stepMs).toBeCloseTo(60)
    for (const { linkMs, waitMs, hiddenFraction } of times) expect([linkMs, waitMs, hiddenFraction]).toEqual([1, 0, 1])
  })

  it('hides a copy behind the resident layers between two offloaded ones', () => {
    // One of three: with one slot 20 ms of compute lie between one's end and the next one's begin.
    const offloaded = (bytes: number) => (i: number) => (i % 3 === 2 ? bytes : 0)
    expect(simulate(layers(9, 10, offloaded(20)), 1).stepMs).toBeCloseTo(90)
    const late = simulate(layers(9, 10, offloaded(25)), 1)
    expect(late.stepMs).toBeCloseTo(90 + 3 * 5)
    expect(late.modules[2]).toMatchObject({ linkMs: 25, hiddenFraction: 0.8 })
    expect(late.modules[2]!.waitMs).toBeCloseTo(5)
    // Of three layers in two slots the second keeps its own. The first one's copy begins when the last is done, at the end
    // of the forward, and has the next one's first 20 ms; the last one's has 60.
    const two = simulate(layers(9, 10, offloaded(25)), 2)
    expect(two.modules.map(({ linkMs }) => linkMs)).toEqual([0, 0, 25, 0, 0, 0, 0, 0, 25])
    expect(two.stepMs).toBeCloseTo(90 + 5)
  })

  it('makes neighbours wait when there are fewer slots than layers in a row, as even spread does not', () => {
    const lastOfEight = (i: number): number => (i % 8 >= 4 ? 15 : 0)
    const everySecond = (i: number): number => (i % 2 === 1 ? 15 : 0)
    const grouped = simulate(layers(32, 10, lastOfEight), 2)
    const spread = simulate(layers(32, 10, everySecond), 2)
    expect(spread.stepMs).toBeCloseTo(320)
    // Of four in a row two come in time behind four resident layers. The third one's copy begins when the first is done
    // and takes 15 ms, 10 of them behind the second; the fourth one's begins when the second is done, but the link is
    // busy: it ends 20 ms later when the third, begun 5 ms late, has run 10.
    expect(grouped.stepMs).toBeCloseTo(320 + 4 * (5 + 5))
    expect(simulate(layers(32, 10, lastOfEight), 4).stepMs).toBeCloseTo(320)
  })

  it('sees a link that falls behind by little, and is waited for only many forwards later', () => {
    // 100.5 ms of copies in 100 ms of compute; ten slots are full at first.
    const { stepMs, modules } = simulate(
      layers(20, 5, (i) => (i === 7 ? 5.5 : 5)),
      10,
    )
    expect(stepMs).toBeCloseTo(100.5)
    expect(modules.reduce((sum, { waitMs }) => sum + waitMs, 0)).toBeCloseTo(0.5)
  })

  it('tells what it did, lane by lane, without overlaps in one', () => {
    const { events, stepMs } = simulate([module('embed', 2, 0), ...layers(5, 3, () => 4)], 2)
    for (const lane of ['compute', 'copy'] as const) {
      const ofLane = events.filter((event) => event.lane === lane).sort((a, b) => a.startMs - b.startMs)
      for (const [i, event] of ofLane.slice(1).entries()) {
        expect(event.startMs).toBeGreaterThanOrEqual(ofLane[i]!.endMs - 1e-9)
      }
    }
    const onCompute = events.filter(({ lane }) => lane !== 'copy')
    expect(onCompute.reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0)).toBeCloseTo(stepMs)
    expect(events.filter(({ lane }) => lane === 'copy').map(({ bytes }) => bytes)).toEqual([4, 4, 4, 4, 4])
  })
})

/**
 * Two streams of a device, which do their operations in order and wait for events: nothing of it knows layers or slots.
 * Returns when each operation of the compute stream began and ended.
 */
type Operation =
  | { readonly do: 'work'; readonly ms: number; readonly label: string }
  | { readonly do: 'record' | 'wait'; readonly event: number }

function runStreams(streams: readonly (readonly Operation[])[]): Map<string, [startMs: number, endMs: number]> {
  const eventMs = new Map<number, number>()
  const at = streams.map(() => 0)
  const now = streams.map(() => 0)
  const done = new Map<string, [number, number]>()
  for (let moved = true; moved; ) {
    moved = false
    for (const [s, operations] of streams.entries()) {
      for (let op = operations[at[s]!]; op !== undefined; op = operations[at[s]!]) {
        if (op.do === 'work') {
          done.set(op.label, [now[s]!, now[s]! + op.ms])
          now[s]! += op.ms
        } else if (op.do === 'record') {
          eventMs.set(op.event, now[s]!)
        } else {
          const ms = eventMs.get(op.event)
          if (ms === undefined) break
          now[s] = Math.max(now[s]!, ms)
        }
        at[s]!++
        moved = true
      }
    }
  }
  expect(at).toEqual(streams.map(({ length }) => length))
  return done
}

/** What the ring enqueues for `forwards` forwards, by who is in each slot; returns step time and waits of the last one. */
function bruteForce({ modules, slots: wanted, linkBytesPerSecond: rate }: ScheduleInput, forwards: number) {
  const elements = modules.filter(({ onloadBytes }) => onloadBytes > 0)
  const slots = Math.min(wanted, elements.length)
  const compute: Operation[] = []
  const copy: Operation[] = []
  const occupant = Array.from({ length: slots }, (_, k) => k)
  const arrived = new Array<number | undefined>(slots).fill(undefined)
  let events = 0
  for (let f = 0; f < forwards; f++) {
    for (const { name, computeMs, onloadBytes } of modules) {
      const element = elements.findIndex((one) => one.name === name)
      compute.push({ do: 'work', ms: 0, label: `${f} reaches ${name}` })
      if (onloadBytes > 0 && arrived[element % slots] !== undefined) {
        compute.push({ do: 'wait', event: arrived[element % slots]! })
      }
      compute.push({ do: 'work', ms: computeMs, label: `${f} runs ${name}` })
      if (onloadBytes === 0) continue
      const next = element + slots < elements.length ? element + slots : element % slots
      const slot = next % slots
      if (occupant[slot] === next) continue
      occupant[slot] = next
      const fork = events++
      arrived[slot] = events++
      compute.push({ do: 'record', event: fork })
      copy.push({ do: 'wait', event: fork })
      copy.push({ do: 'work', ms: (1000 * elements[next]!.onloadBytes) / rate, label: `${f} copies ${next}` })
      copy.push({ do: 'record', event: arrived[slot]! })
    }
  }
  const done = runStreams([compute, copy])
  const f = forwards - 1
  const endOf = (forward: number): number => done.get(`${forward} runs ${modules.at(-1)!.name}`)![1]
  return {
    stepMs: endOf(f) - endOf(f - 1),
    waitMs: modules.map(({ name }) => done.get(`${f} runs ${name}`)![0] - done.get(`${f} reaches ${name}`)![0]),
  }
}

it('is what streams and events of a device do, for any layers, slots and rates', () => {
  const modules = fc
    .array(fc.record({ computeMs: fc.integer({ min: 0, max: 12 }), bytes: fc.integer({ min: -8, max: 30 }) }), {
      minLength: 1,
      maxLength: 14,
    })
    .map((drawn) => drawn.map(({ computeMs, bytes }, i) => module(`m${i}`, computeMs, Math.max(0, bytes))))
  let waited = 0
  fc.assert(
    fc.property(modules, fc.integer({ min: 1, max: 16 }), fc.constantFrom(250, 1000, 3000), (given, slots, rate) => {
      const input = { modules: given, slots, linkBytesPerSecond: rate }
      const schedule = simulateSchedule(input)
      const expected = bruteForce(input, 300)
      expect(schedule.stepMs).toBeCloseTo(expected.stepMs, 6)
      for (const [i, waitMs] of expected.waitMs.entries()) {
        expect(schedule.modules[i]!.waitMs).toBeCloseTo(waitMs, 6)
        if (waitMs > 0) waited++
      }
    }),
    { numRuns: 500 },
  )
  expect(waited).toBeGreaterThan(100)
})
