// @ts-check
import { median } from './figure.mjs'

/** @import { TraceEvent } from '../../packages/core/dist/index.js' */

/**
 * What steps took of the device, from traces of several that came one after another.
 * @param {readonly (readonly TraceEvent[])[]} traces
 */
export function moduleTimes(traces) {
  /** @type {Map<string, number[]>} */
  const computeMs = new Map()
  const sums = { copy: 0, wait: 0, compute: 0 }
  for (const { lane, module, startMs, endMs } of traces.flat()) {
    sums[lane] += endMs - startMs
    if (lane === 'compute') computeMs.set(module, [...(computeMs.get(module) ?? []), endMs - startMs])
  }
  const gaps = traces.flatMap(gapsMs)
  return {
    /** A module's kernels, the median over the steps. @param {string} module */
    computeMs: (module) => median(computeMs.get(module) ?? [0]),
    /** Between steps: from the end of the last module to the begin of the first. */
    gapMs: gaps.length === 0 ? 0 : median(gaps),
    /** Of the time that copies took, what nobody waited for. */
    hiddenFraction: sums.copy === 0 ? 1 : 1 - sums.wait / sums.copy,
  }
}

/** @param {readonly TraceEvent[]} events */
function gapsMs(events) {
  const onStream = events.filter(({ lane }) => lane !== 'copy').sort((a, b) => a.startMs - b.startMs)
  const first = onStream.find(({ lane }) => lane === 'compute')?.module
  return onStream.flatMap((event, i) => {
    const before = onStream[i - 1]
    return before !== undefined && event.module === first ? [event.startMs - before.endMs] : []
  })
}
