import type { TraceEvent } from '@spillway/core'

/** Kinds of marks, as in native/forward_marks.hpp. */
export const traceKind = { reached: 0, begin: 1, end: 2, copyBegin: 3, copyEnd: 4, joined: 5 } as const

/** What a label of a mark stands for. */
export interface TracedModule {
  readonly name: string
  /** Of its onload. */
  readonly bytes?: number
}

/**
 * Events out of marks (kind, label, milliseconds, one after another), in the order in which they ended; pure. Marks
 * whose begin is not among them, because the trace began in between, are left out.
 */
export function eventsOfMarks(marks: Float64Array, modules: readonly TracedModule[]): readonly TraceEvent[] {
  const sinceMs = new Map<number, number>()
  const keyOf = (kind: number, label: number): number => 8 * label + kind
  const events: TraceEvent[] = []
  const end = (lane: TraceEvent['lane'], beginKind: number, label: number, endMs: number): void => {
    const key = keyOf(beginKind, label)
    const startMs = sinceMs.get(key)
    sinceMs.delete(key)
    // Two marks with nothing between them may have one time: nobody waited.
    if (startMs === undefined || (lane === 'wait' && endMs === startMs)) return
    const { name: module, bytes } = modules[label]!
    events.push({ lane, module, startMs, endMs, ...(lane === 'copy' && bytes !== undefined ? { bytes } : {}) })
  }
  for (let i = 0; i < marks.length; i += 3) {
    const kind = marks[i]!
    const label = marks[i + 1]!
    const ms = marks[i + 2]!
    if (kind === traceKind.begin || kind === traceKind.joined) end('wait', traceKind.reached, label, ms)
    else if (kind === traceKind.end) end('compute', traceKind.begin, label, ms)
    else if (kind === traceKind.copyEnd) end('copy', traceKind.copyBegin, label, ms)
    sinceMs.set(keyOf(kind, label), ms)
  }
  return events
}
