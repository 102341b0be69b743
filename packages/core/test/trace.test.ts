import { expect, test } from 'vitest'
import { chromeTrace, forwardsOf, measuredRates, type TraceEvent, timesOf } from '../src/index.js'

const events: readonly TraceEvent[] = [
  { lane: 'compute', module: 'layers.0', startMs: 100, endMs: 103 },
  { lane: 'copy', module: 'layers.1', startMs: 101, endMs: 109, bytes: 8_000_000 },
  { lane: 'wait', module: 'layers.1', startMs: 103, endMs: 109 },
  { lane: 'compute', module: 'layers.1', startMs: 109, endMs: 111.5 },
]

interface ParsedEvent {
  readonly ph: string
  readonly tid?: number
  readonly name: string
  readonly ts?: number
  readonly dur?: number
  readonly args: Readonly<Record<string, unknown>>
}
const parse = (text: string): ParsedEvent[] => (JSON.parse(text) as { traceEvents: ParsedEvent[] }).traceEvents

test('a Chrome trace parses back to the events, a lane each for compute, copies and waits', () => {
  const parsed = parse(chromeTrace([...events].reverse(), 'llama "8B"'))
  const lane = new Map(parsed.filter(({ name }) => name === 'thread_name').map(({ tid, args }) => [tid, args.name]))
  const order = parsed.filter(({ name }) => name === 'thread_sort_index').map(({ tid, args }) => [tid, args.sort_index])
  expect(order).toEqual([...lane.keys()].map((tid, i) => [tid, i]))
  expect(parsed.find(({ name }) => name === 'process_name')!.args.name).toBe('llama "8B"')
  const spans = parsed.filter(({ ph }) => ph === 'X')
  const back = spans.map(({ tid, ts, dur, args }) => ({
    lane: lane.get(tid),
    module: args.module,
    startMs: 100 + ts! / 1000,
    endMs: 100 + (ts! + dur!) / 1000,
    ...(args.bytes === undefined ? {} : { bytes: args.bytes }),
  }))
  expect(back).toEqual(events)
  expect(spans.map(({ name }) => name)).toEqual(['layers.0', 'copy layers.1', 'wait layers.1', 'layers.1'])
  expect(spans[1]!.args.bytesPerSecond).toBe(1_000_000_000)
  expect(Math.min(...spans.map(({ ts }) => ts!))).toBe(0)
})

test('an empty trace, and a copy that took no time, are well-formed', () => {
  expect(parse(chromeTrace([])).filter(({ ph }) => ph === 'X')).toEqual([])
  const [span] = parse(chromeTrace([{ lane: 'copy', module: 'a', startMs: 1, endMs: 1, bytes: 5 }])).slice(-1)
  expect(span).toMatchObject({ dur: 0, args: { bytesPerSecond: null } })
})

test('times of modules are sums over a step, and the hidden fraction is what nobody waited for', () => {
  expect(timesOf(events)).toEqual({
    stepMs: 11.5,
    modules: [
      { module: 'layers.0', computeMs: 3, linkMs: 0, waitMs: 0, hiddenFraction: 1 },
      { module: 'layers.1', computeMs: 2.5, linkMs: 8, waitMs: 6, hiddenFraction: 0.25 },
    ],
  })
  const again = events.map((event) => ({ ...event, startMs: event.startMs + 11.5, endMs: event.endMs + 11.5 }))
  expect(timesOf([...events, ...again], 2)).toEqual(timesOf(events))
  expect(timesOf([])).toEqual({ stepMs: 0, modules: [] })
  // Waited for longer than it took, behind others: nothing of it was hidden.
  const late: TraceEvent[] = [
    { lane: 'copy', module: 'a', startMs: 5, endMs: 6 },
    { lane: 'wait', module: 'a', startMs: 0, endMs: 6 },
  ]
  expect(timesOf(late).modules).toEqual([{ module: 'a', computeMs: 0, linkMs: 1, waitMs: 6, hiddenFraction: 0 }])
  // Its copy began in another trace: there is nothing known that could have been hidden.
  expect(timesOf(late.slice(1)).modules[0]).toMatchObject({ linkMs: 0, waitMs: 6, hiddenFraction: 0 })
})

test('events fall apart into forwards, the copy that began in one with it, whatever began first', () => {
  // The embedding's first event was too short for the clock, and layer 0 waits in the second forward.
  const forward = (from: number, waits: boolean): TraceEvent[] => [
    ...(waits ? [{ lane: 'wait' as const, module: 'layers.0', startMs: from, endMs: from + 2 }] : []),
    { lane: 'compute', module: 'layers.0', startMs: from + 2, endMs: from + 4 },
    { lane: 'copy', module: 'layers.0', startMs: from + 5, endMs: from + 12, bytes: 7 },
    { lane: 'compute', module: 'layers.1', startMs: from + 4, endMs: from + 6 },
  ]
  const early: TraceEvent = { lane: 'copy', module: 'layers.1', startMs: 0, endMs: 2, bytes: 7 }
  const embedding: TraceEvent = { lane: 'compute', module: 'embed', startMs: 9, endMs: 9.5 }
  const all = [early, ...forward(1, false), embedding, ...forward(10, true), ...forward(20, true)]
  const byStart = (a: TraceEvent, b: TraceEvent): number => a.startMs - b.startMs
  expect(forwardsOf([...all].reverse())).toEqual([
    [early, ...forward(1, false), embedding].sort(byStart),
    forward(10, true).sort(byStart),
    forward(20, true).sort(byStart),
  ])
  expect(forwardsOf([])).toEqual([])
  expect(forwardsOf([early])).toEqual([[early]])
})

test('measured compute times are rates for the next prediction', () => {
  const rates = measuredRates(timesOf(events), 1e9)
  expect(rates.linkBytesPerSecond).toBe(1e9)
  expect(['layers.0', 'layers.1', 'nobody'].map(rates.computeMs)).toEqual([3, 2.5, 0])
})
