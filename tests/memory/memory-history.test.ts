import type { MemoryEvent, MemorySnapshot, MemoryTrace } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { MemoryHistory } from '../../packages/cli/src/memory-page/memory-history.js'
import { memoryMoment } from '../../packages/cli/src/memory-page/memory-moment.js'
import { makeTimeline } from '../../packages/cli/src/memory-page/timeline.js'
import { readMemoryTrace } from '../../packages/cli/src/memory-trace.js'
import { type NativeSettings, probe } from '../allocator/allocator-probe.js'
import { AllocatorRig, MiB } from '../allocator/allocator-rig.js'
import { rounds } from '../nightly.js'
import { Random } from '../order/random.js'
import { decoderTrace, modelLoadTrace, type ReplayableTrace, randomTrace } from './one-stream-traces.js'
import { eventCount, memoryTraceOf, type RecordOptions, record } from './recorded-trace.js'

/** What a moment and a snapshot must agree in. */
interface Seen {
  readonly totals: readonly number[]
  readonly segments: readonly (readonly [address: number, bytes: number, pool: string])[]
  readonly live: readonly (readonly [address: number, bytes: number, requested: number, tag: string, stream: number])[]
  readonly free: readonly (readonly [address: number, bytes: number])[]
}

function seenInSnapshot({ stats, segments }: MemorySnapshot): Seen {
  const sorted = [...segments].sort((a, b) => a.address - b.address)
  const blocks = sorted.flatMap((segment) => segment.blocks)
  const free: [number, number][] = []
  for (const { blocks } of sorted) {
    let [address, bytes] = [0, 0]
    for (const block of blocks) {
      if (block.state !== 'live') [address, bytes] = [bytes === 0 ? block.address : address, bytes + block.bytes]
      if (bytes > 0 && (block.state === 'live' || block === blocks.at(-1))) {
        free.push([address, bytes])
        bytes = 0
      }
    }
  }
  return {
    totals: [stats.reservedBytes, stats.liveBytes, stats.requestedBytes],
    segments: sorted.map(({ address, bytes, pool }) => [address, bytes, pool]),
    live: blocks
      .filter(({ state }) => state === 'live')
      .map(({ address, bytes, requestedBytes, tag, streams }) => [address, bytes, requestedBytes!, tag!, streams[0]!]),
    free,
  }
}

function seenInMoment(history: MemoryHistory, at: number): Seen {
  const { reservedBytes, liveBytes, requestedBytes, segments } = memoryMoment(history, at)
  const blocks = segments.flatMap((segment) => segment.blocks)
  const free: [number, number][] = []
  for (const { address, bytes, state } of blocks) {
    if (state === 'live') continue
    const last = free.at(-1)
    // The last moment tells idle from pending; others know free stretches only.
    const starts = segments.some((segment) => segment.address === address)
    if (last !== undefined && last[0] + last[1] === address && !starts) last[1] += bytes
    else free.push([address, bytes])
  }
  return {
    totals: [reservedBytes, liveBytes, requestedBytes],
    segments: segments.map(({ address, bytes, pool }) => [address, bytes, pool]),
    live: blocks.flatMap(({ block }) =>
      block === undefined ? [] : [[block.address, block.bytes, block.requestedBytes, block.tag, block.stream]],
    ),
    free,
  }
}

const programs: Readonly<Record<string, () => ReplayableTrace>> = {
  random: () => randomTrace(new Random(3), rounds(1500, 20_000)),
  decoder: () => decoderTrace(new Random(3), rounds(1, 6)),
  'model load': () => modelLoadTrace(new Random(3), rounds(8, 40)),
}
const ways: Readonly<Record<string, RecordOptions>> = {
  default: {},
  expandable: { settings: { expandableSegments: true } },
  'whole blocks, in a pool': { settings: { maxSplitBytes: 20 * MiB } as NativeSettings, pool: 'mine' },
}

describe.each(Object.entries(programs))('%s', (_, program) => {
  test.each(Object.entries(ways))('%s: every moment is what the allocator held then', (_, options) => {
    const random = new Random(5)
    const taken = new Map<number, Seen>()
    let step = 0
    const onStep: RecordOptions['onStep'] = (rig) => {
      if (random.chance(2)) rig.releaseCached()
      if (step++ % 23 === 0) taken.set(eventCount(rig), seenInSnapshot(rig.snapshot()))
    }
    const trace = record(program(), { ...options, onStep })
    const history = new MemoryHistory(readMemoryTrace(JSON.stringify(trace)))
    expect(history.problems).toEqual([])
    expect(taken.size).toBeGreaterThan(20)
    for (const [moment, seen] of taken) expect(seenInMoment(history, moment)).toEqual(seen)
    expect(seenInMoment(history, 0)).toEqual({ totals: [0, 0, 0], segments: [], live: [], free: [] })
    for (const block of history.at(history.events.length).live.values()) {
      expect(history.events[block.bornAt]).toMatchObject({ kind: 'allocate', address: block.address, tag: block.tag })
    }

    // The same, of which only the end was kept.
    const kept = Math.floor(trace.events.length / 3)
    const events = trace.events.slice(-kept)
    const late = new MemoryHistory({ ...trace, events, lostEvents: events[0]!.number })
    expect(late.problems).toEqual([])
    for (const [moment, seen] of taken) {
      const here = moment - (trace.events.length - kept)
      if (here >= 0) expect(seenInMoment(late, here)).toEqual(seen)
    }
  })
})

test('a segment that grew at once, went in pieces and is gone was one segment', () => {
  const rig = new AllocatorRig()
  probe.startTrace(rig.handle, 100)
  const take = (bytes: number) => rig.allocate(bytes, { settings: { expandableSegments: true } })
  rig.free(take(20 * MiB))
  rig.completeAll()
  const part = take(10 * MiB)
  const seen = new Map([[eventCount(rig), seenInSnapshot(rig.snapshot())]])
  for (const block of [undefined, part]) {
    if (block !== undefined) rig.free(block)
    rig.completeAll()
    expect(rig.releaseCached()).toBe(10 * MiB)
    seen.set(eventCount(rig), seenInSnapshot(rig.snapshot()))
  }
  const history = new MemoryHistory(memoryTraceOf(rig, 2 ** 40))
  expect(history.problems).toEqual([])
  for (const [moment, snapshot] of seen) {
    const { segments, ...others } = seenInMoment(history, moment)
    // Of what is gone, no event says that its pieces were one.
    expect({ ...others, bytes: segments.reduce((sum, [, bytes]) => sum + bytes, 0) }).toEqual({
      totals: snapshot.totals,
      live: snapshot.live,
      free: snapshot.free,
      bytes: snapshot.totals[0],
    })
  }
  expect(history.reservedBytes[0]).toBe(0)
})

const small = record(randomTrace(new Random(1), 120), { limitBytes: 600 * MiB })
const withEvents = (change: (events: MemoryEvent[]) => void): MemoryTrace => {
  const events = structuredClone(small.events) as MemoryEvent[]
  change(events)
  return { ...small, events: events.map((event, number) => ({ ...event, number })) }
}

test('an allocation that failed is where to look first; else the end; else the most that was live', () => {
  const failed = record(modelLoadTrace(new Random(1), 40), { limitBytes: 4096 * MiB })
  const history = new MemoryHistory(failed)
  expect(history.outOfMemory).toHaveLength(1)
  expect(history.events[history.interestingMoment() - 1]!.kind).toBe('outOfMemory')
  const { fragmentation, largestFreeBytes, cachedBytes } = memoryMoment(history, history.interestingMoment())
  expect(largestFreeBytes).toBeLessThan(failed.events.at(-1)!.bytes)
  expect(fragmentation).toBe(1 - largestFreeBytes / cachedBytes)
  expect(new MemoryHistory(small).interestingMoment()).toBe(small.events.length)
  const rig = new AllocatorRig()
  probe.startTrace(rig.handle, 100)
  for (const bytes of [3 * MiB, 5 * MiB, 4 * MiB]) rig.free(rig.allocate(bytes))
  const gone = new MemoryHistory(memoryTraceOf(rig, 2 ** 40))
  expect(gone.liveBytes[gone.interestingMoment()]).toBe(5 * MiB)
})

test.each<[string, MemoryTrace, RegExp]>([
  [
    'an allocation is missing',
    withEvents((events) => events.splice(events.findLastIndex(isFree), 1)),
    /allocates \d+ bytes/,
  ],
  [
    'a free twice',
    withEvents((events) => events.push(events.findLast(isFree)!, events.findLast(isFree)!)),
    /frees \d+ bytes/,
  ],
  [
    'a segment nobody has',
    withEvents((events) => events.push({ ...events[0]!, kind: 'createSegment' })),
    /creates \d+ bytes/,
  ],
  [
    'a segment destroyed that is there',
    withEvents((events) => events.push({ ...events[0]!, kind: 'destroySegment' })),
    /destroys \d+/,
  ],
  ['a free outside', withEvents((events) => events.push({ ...events.find(isFree)!, address: 7 })), /in no segment/],
  [
    'a clock that goes back',
    withEvents((events) => events.push({ ...events[0]!, kind: 'outOfMemory', timeMs: 0 })),
    /earlier/,
  ],
  [
    'statistics of another snapshot',
    { ...small, snapshot: { ...small.snapshot, stats: { ...small.snapshot.stats, liveBytes: 1 } } },
    /statistics say 1 bytes live/,
  ],
])('%s is told', (_, trace, text) => {
  const { problems } = new MemoryHistory(trace)
  expect(problems.map((problem) => problem.text).join('\n')).toMatch(text)
})

function isFree({ kind }: MemoryEvent): boolean {
  return kind === 'free'
}

test('a timeline keeps every peak, on both axes, and its tags add up', () => {
  for (const trace of [small, record(decoderTrace(new Random(1), 1))]) {
    const history = new MemoryHistory(trace)
    for (const axis of ['events', 'time'] as const) {
      const { columns, tags, mostBytes } = makeTimeline(history, 37, axis)
      expect(columns).toHaveLength(37)
      expect(tags.at(-1)).toBeUndefined()
      expect(Math.max(...columns.map(({ liveBytes }) => liveBytes))).toBe(trace.snapshot.stats.peakLiveBytes)
      expect(Math.max(...columns.map(({ reservedBytes }) => reservedBytes))).toBe(mostBytes)
      for (const { bytesByTag, liveBytes } of columns) expect(bytesByTag.reduce((a, b) => a + b, 0)).toBe(liveBytes)
    }
  }
})

test('whatever a trace says, it is refused with a code or shown, in bounded time', () => {
  const random = new Random(9)
  const values = [0, 1, -1, 512, 2 ** 21, 2 ** 52, 2 ** 53, 1.5, null, '', 'x', true, [], {}, 'free', 'createSegment']
  const codes = new Set<string>()
  for (let round = 0; round < rounds(150, 5000); round++) {
    const trace = structuredClone(small) as unknown as Record<string, unknown>
    for (let change = random.from(1, 4); change > 0; change--) mutate(trace, random, values)
    let read: MemoryTrace
    try {
      read = readMemoryTrace(JSON.stringify(trace))
    } catch (error) {
      codes.add((error as { code: string }).code)
      continue
    }
    const history = new MemoryHistory(read)
    for (let look = 0; look < 5; look++) {
      for (const segment of memoryMoment(history, random.below(history.events.length + 1)).segments) {
        let next = segment.address
        for (const { address, bytes } of segment.blocks) {
          expect([address, bytes > 0]).toEqual([next, true])
          next += bytes
        }
        expect(next).toBe(segment.address + segment.bytes)
      }
    }
  }
  expect([...codes]).toEqual(['SPILLWAY_INVALID_MEMORY_TRACE'])
})

/** Puts some value, or something else of the same trace, in some place. */
function mutate(trace: Record<string, unknown>, random: Random, values: readonly unknown[]): void {
  let place = trace
  for (;;) {
    const keys = Object.keys(place)
    if (keys.length === 0) return
    const key = keys[random.below(keys.length)]!
    const inner = place[key]
    if (typeof inner === 'object' && inner !== null && !random.chance(5)) place = inner as Record<string, unknown>
    else if (Array.isArray(place) && random.chance(50)) {
      place.splice(Number(key), random.below(3), ...(random.chance(50) ? [structuredClone(inner)] : []))
      return
    } else {
      place[key] = values[random.below(values.length)]
      return
    }
  }
}

test('100,000 events and thousands of blocks are quick to look at', () => {
  const events: MemoryEvent[] = []
  const base = { pool: '', tag: 'many', stream: 1, requestedBytes: 1000, bytes: 1024 }
  const segmentBytes = 8192 * 1024
  for (let i = 0; i < 100_000; i++) {
    const address = 4096 + (i % 8192) * 1024
    // Each place in turn: taken for the first 8192, then freed and taken again.
    const kind = i < 8192 || Math.floor(i / 8192) % 2 === 0 ? 'allocate' : 'free'
    events.push({ ...base, kind, number: i, timeMs: i / 100, address })
  }
  const live = new Set<number>()
  for (const { kind, address } of events) kind === 'allocate' ? live.add(address) : live.delete(address)
  const blocks = Array.from({ length: 8192 }, (_, i) => {
    const address = 4096 + i * 1024
    return live.has(address)
      ? { address, bytes: 1024, state: 'live' as const, requestedBytes: 1000, tag: 'many', streams: [1] }
      : { address, bytes: 1024, state: 'idle' as const, streams: [] }
  })
  const stats = {
    ...small.snapshot.stats,
    reservedBytes: segmentBytes,
    liveBytes: live.size * 1024,
    requestedBytes: live.size * 1000,
  }
  const segments = [
    { address: 4096, bytes: segmentBytes, pool: '', sizeClass: 'small' as const, expandable: false, blocks },
  ]
  const history = new MemoryHistory({ ...small, events, lostEvents: 0, snapshot: { stats, segments } })
  expect(history.problems).toEqual([])
  // 400 moments, anywhere: without keyframes these would be 20 million steps.
  let steps = 0
  for (let i = 0; i < 400; i++) steps += history.at((i * 7919) % 100_001).live.size
  expect(steps).toBeGreaterThan(400_000)
})
