import type { ModuleTimes, OnloadTimes, StepForecast } from './backend.js'

/**
 * Something that took time on the device: a module's kernels (`compute`), its onload (`copy`), or the time that the
 * compute stream stood still until the onload was done (`wait`). Milliseconds on one clock, from any zero.
 */
export interface TraceEvent {
  readonly lane: 'compute' | 'copy' | 'wait'
  readonly module: string
  readonly startMs: number
  readonly endMs: number
  /** Of a copy. */
  readonly bytes?: number
}

const lanes = ['compute', 'copy', 'wait'] as const

/**
 * The events as a Chrome trace, JSON that chrome://tracing and ui.perfetto.dev open: a lane each for compute, copies and
 * waits. Times become microseconds from the first event on. The format is that of Google's document Trace Event Format.
 */
export function chromeTrace(events: readonly TraceEvent[], processName = 'spillway'): string {
  const zeroMs = events.reduce((least, { startMs }) => Math.min(least, startMs), Number.POSITIVE_INFINITY)
  const names = lanes.flatMap((lane, tid) => [
    { ph: 'M', pid: 0, tid, name: 'thread_name', args: { name: lane } },
    // Viewers sort lanes by name otherwise.
    { ph: 'M', pid: 0, tid, name: 'thread_sort_index', args: { sort_index: tid } },
  ])
  const spans = [...events]
    .sort((a, b) => a.startMs - b.startMs)
    .map(({ lane, module, startMs, endMs, bytes }) => ({
      ph: 'X',
      pid: 0,
      tid: lanes.indexOf(lane),
      cat: lane,
      name: lane === 'compute' ? module : `${lane} ${module}`,
      ts: (startMs - zeroMs) * 1000,
      dur: (endMs - startMs) * 1000,
      args: bytes === undefined ? { module } : { module, bytes, bytesPerSecond: rate(bytes, endMs - startMs) },
    }))
  const process = { ph: 'M', pid: 0, name: 'process_name', args: { name: processName } }
  // One event a line: a trace can be searched and cut with the tools of a shell.
  const lines = [process, ...names, ...spans].map((event) => JSON.stringify(event))
  return `{"displayTimeUnit":"ms","traceEvents":[\n${lines.join(',\n')}\n]}\n`
}

function rate(bytes: number, ms: number): number | null {
  return ms > 0 ? Math.round(bytes / (ms / 1000)) : null
}

/**
 * Events of forwards of one kind, one forward after another, by forward: each begins with the module that ran first of
 * those that ran most often, for one that takes no time on the clock leaves no event. A copy is of the forward in which
 * it began.
 */
export function forwardsOf(events: readonly TraceEvent[]): readonly (readonly TraceEvent[])[] {
  const inOrder = [...events].sort((a, b) => a.startMs - b.startMs)
  const computed = new Map<string, number>()
  for (const { lane, module } of inOrder) {
    if (lane === 'compute') computed.set(module, (computed.get(module) ?? 0) + 1)
  }
  const most = Math.max(0, ...computed.values())
  const first = [...computed].find(([, times]) => times === most)?.[0]
  const forwards: TraceEvent[][] = []
  // Of the forward that is being collected: the last event of `first`.
  let last: TraceEvent['lane'] | undefined
  let forward: TraceEvent[] = []
  for (const event of inOrder) {
    if (event.module === first && event.lane !== 'copy') {
      if (last === 'compute') {
        forwards.push(forward)
        forward = []
      }
      last = event.lane
    }
    forward.push(event)
  }
  return forward.length === 0 ? forwards : [...forwards, forward]
}

/**
 * What events of `steps` forwards say of each module, on average over them; modules in the order in which they first
 * ran. `stepMs` is the time from the first compute or wait to the last, by step. The slots of a trace's first forward
 * may have been filled before it: for what forwards take one after another, leave out the first of `forwardsOf`.
 */
export function timesOf(events: readonly TraceEvent[], steps = 1): StepForecast {
  const sums = new Map<string, { copy: number; wait: number; compute: number }>()
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const { lane, module, startMs, endMs } of [...events].sort((a, b) => a.startMs - b.startMs)) {
    const sum = sums.get(module) ?? { copy: 0, wait: 0, compute: 0 }
    sums.set(module, sum)
    sum[lane] += (endMs - startMs) / steps
    if (lane === 'copy') continue
    first = Math.min(first, startMs)
    last = Math.max(last, endMs)
  }
  const modules = Array.from(sums, ([module, { compute, copy, wait }]) => moduleTimes(module, compute, copy, wait))
  return { stepMs: Math.max(0, last - first) / steps, modules }
}

export function moduleTimes(module: string, computeMs: number, linkMs: number, waitMs: number): ModuleTimes {
  return { module, computeMs, ...onloadTimes(linkMs, waitMs) }
}

export function onloadTimes(linkMs: number, waitMs: number): OnloadTimes {
  const hiddenFraction = waitMs <= 0 ? 1 : linkMs <= 0 ? 0 : Math.max(0, 1 - waitMs / linkMs)
  return { linkMs, waitMs, hiddenFraction }
}
