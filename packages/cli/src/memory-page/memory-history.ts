import type { MemoryEvent, MemoryTrace } from '@spillway/device'
import { endOf, type MemoryState, type ReservedRange, UndoableState } from './undoable-state.js'

export interface MemoryProblem {
  /** Index of the event; the number of events: the snapshot. */
  readonly at: number
  readonly text: string
}

const keptProblems = 100
/** Undoing so many events takes less than a millisecond. */
const keyframeEvents = 512

/**
 * The state after any number of events. Only the last one is known whole, so states are made from it backwards: what a
 * trace lost, or never had, is missing before its first event and nowhere else. A moment is a number of events: 0 is
 * before the first, `events.length` is the snapshot. Events that contradict what comes after them are told in
 * `problems` and left out. About constant time and memory an event: the longer a state is, the fewer are kept whole.
 */
export class MemoryHistory {
  readonly trace: MemoryTrace
  readonly events: readonly MemoryEvent[]
  /** At each moment. */
  readonly reservedBytes: Float64Array
  readonly liveBytes: Float64Array
  readonly requestedBytes: Float64Array
  /** The first ones found; `problemCount` are all. */
  readonly problems: readonly MemoryProblem[]
  readonly problemCount: number
  /** All that was ever a segment, as long as it ever was; many may overlap. */
  readonly everReserved: readonly ReservedRange[]
  /** Indices of the events. */
  readonly outOfMemory: readonly number[]
  /** By event: what allocated the block that it frees. */
  readonly #births: Int32Array
  readonly #elapsedMs: Float64Array
  /** The last one first. */
  readonly #keyframes: { readonly moment: number; readonly state: MemoryState }[] = []

  constructor(trace: MemoryTrace) {
    this.trace = trace
    this.events = trace.events
    const count = this.events.length
    this.#births = new Int32Array(count).fill(-1)
    const lastBirths = this.#findBirths()
    this.outOfMemory = this.events.flatMap(({ kind }, i) => (kind === 'outOfMemory' ? [i] : []))
    this.reservedBytes = new Float64Array(count + 1)
    this.liveBytes = new Float64Array(count + 1)
    this.requestedBytes = new Float64Array(count + 1)

    this.#elapsedMs = new Float64Array(count + 1)
    for (const [i, { timeMs }] of this.events.entries()) {
      this.#elapsedMs[i + 1] = Math.max(this.#elapsedMs[i] as number, timeMs - (this.events[0] as MemoryEvent).timeMs)
    }

    const problems: MemoryProblem[] = []
    let problemCount = 0
    const tell = (at: number, text: string): void => {
      problemCount++
      if (problems.length < keptProblems) problems.push({ at, text })
    }
    const state = new UndoableState(trace, lastBirths)
    this.#checkSnapshot(state, (text) => tell(count, text))
    const keep = (moment: number): void => {
      const kept = state.copy()
      this.#keyframes.push({ moment, state: kept })
      const stray = strayBlocks(kept)
      if (stray > 0)
        tell(moment, `${stray} live ${stray === 1 ? 'block lies' : 'blocks lie'} in no segment, or in another block`)
    }
    this.#record(count, state)
    keep(count)
    for (let moment = count - 1; moment >= 0; moment--) {
      const event = this.events[moment] as MemoryEvent
      const later = this.events[moment + 1]
      if (later !== undefined && later.timeMs < event.timeMs) tell(moment + 1, 'is earlier than the event before it')
      const problem = state.undo(event, this.#births[moment] as number)
      if (problem !== undefined) tell(moment, problem)
      this.#record(moment, state)
      if ((this.#keyframes.at(-1)?.moment ?? 0) - moment >= Math.max(keyframeEvents, state.size / 8)) keep(moment)
    }
    this.everReserved = [...state.segments, ...state.created]
    this.problems = problems.sort((a, b) => a.at - b.at)
    this.problemCount = problemCount
  }

  /** `moment` beyond the ends is the end. */
  at(moment: number): MemoryState {
    const wanted = Math.min(Math.max(Math.trunc(moment) || 0, 0), this.events.length)
    const keyframe = this.#keyframes.findLast(({ moment }) => moment >= wanted) as {
      moment: number
      state: MemoryState
    }
    if (keyframe.moment === wanted) return keyframe.state
    const state = new UndoableState(keyframe.state)
    for (let i = keyframe.moment - 1; i >= wanted; i--) {
      state.undo(this.events[i] as MemoryEvent, this.#births[i] as number)
    }
    return state
  }

  /** Where to look first: at the last allocation that failed, else the end, else, where nothing is live any more, the most live. */
  interestingMoment(): number {
    const failed = this.outOfMemory.at(-1)
    if (failed !== undefined) return failed + 1
    return (this.liveBytes.at(-1) as number) > 0 ? this.events.length : firstLargest(this.liveBytes)
  }

  /** The first moment at which the most was reserved. */
  peakMoment(): number {
    return firstLargest(this.reservedBytes)
  }

  /** Milliseconds since the first event. Never goes back, also where the trace's clock does. */
  elapsedMs(moment: number): number {
    return this.#elapsedMs[Math.max(0, Math.min(moment, this.events.length))] as number
  }

  #findBirths(): ReadonlyMap<number, number> {
    const births = new Map<number, number>()
    for (const [i, { kind, address }] of this.events.entries()) {
      if (kind === 'allocate') births.set(address, i)
      if (kind !== 'free') continue
      this.#births[i] = births.get(address) ?? -1
      births.delete(address)
    }
    return births
  }

  #record(moment: number, { reserved, liveTotal, requested }: UndoableState): void {
    this.reservedBytes[moment] = reserved
    this.liveBytes[moment] = liveTotal
    this.requestedBytes[moment] = requested
  }

  #checkSnapshot(state: UndoableState, tell: (text: string) => void): void {
    const { stats } = this.trace.snapshot
    const pairs = [
      ['reserved', stats.reservedBytes, state.reserved],
      ['live', stats.liveBytes, state.liveTotal],
      ['requested', stats.requestedBytes, state.requested],
    ] as const
    for (const [what, said, found] of pairs) {
      if (said !== found) tell(`the statistics say ${said} bytes ${what}, the segments have ${found}`)
    }
  }
}

function firstLargest(values: Float64Array): number {
  return values.reduce((best, value, i) => (value > (values[best] as number) ? i : best), 0)
}

/** Live blocks that are not wholly in a segment, or begin within another block. */
function strayBlocks({ segments, live }: MemoryState): number {
  let [stray, at, end] = [0, 0, 0]
  for (const { address, bytes } of [...live.values()].sort((a, b) => a.address - b.address)) {
    while (at < segments.length && endOf(segments[at]) <= address) at++
    const segment = segments[at]
    if (segment === undefined || address < segment.address || address + bytes > endOf(segment) || address < end) stray++
    end = Math.max(end, address + bytes)
  }
  return stray
}
