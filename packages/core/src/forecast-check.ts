import type { ModuleTimes, OffloadForecast, OnloadTimes, StepForecast } from './backend.js'
import { reading } from './call-options.js'
import type { SpillwayError } from './errors.js'
import { printable } from './printable.js'
import { misbehaved } from './steps-check.js'
import type { TraceEvent } from './trace.js'

type Wrong = (problem: string) => SpillwayError

/** What a backend's `forecast` returned, each property read once. Throws SPILLWAY_BACKEND_MISBEHAVED. */
export function checkForecast(value: unknown, backend: string): OffloadForecast {
  const wrong: Wrong = (problem) => misbehaved(backend, `forecast: ${problem}`)
  return reading(`forecast of backend ${backend}`, () => readForecast(value, wrong), 'SPILLWAY_BACKEND_MISBEHAVED')
}

function readForecast(value: unknown, wrong: Wrong): OffloadForecast {
  const { slotBytes, slotOf, step } = (value ?? {}) as Record<string, unknown>
  if (!Array.isArray(slotBytes) || !slotBytes.every(isCount)) {
    throw wrong(`slotBytes is a list of bytes, not ${printable(slotBytes)}`)
  }
  if (!(slotOf instanceof Map) || ![...slotOf.values()].every((slot) => isCount(slot) && slot < slotBytes.length)) {
    throw wrong(`slotOf is a map from modules to numbers of slots, not ${printable(slotOf)}`)
  }
  return {
    slotBytes: [...(slotBytes as number[])],
    slotOf: new Map([...slotOf].map(([module, slot]) => [String(module), slot as number])),
    ...(step === undefined ? {} : { step: checkTimes(step, wrong) }),
  }
}

/** Times of a step, from whoever says so; throws what `wrong` makes. */
export function checkTimes(value: unknown, wrong: Wrong): StepForecast {
  const { stepMs, modules } = (value ?? {}) as Record<string, unknown>
  if (!isTime(stepMs) || !Array.isArray(modules)) {
    throw wrong(`times of a step are stepMs and a list of modules, not ${printable(value)}`)
  }
  return { stepMs, modules: (modules as unknown[]).map((one) => checkModuleTimes(one, wrong)) }
}

function checkModuleTimes(value: unknown, wrong: Wrong): ModuleTimes {
  const { module, computeMs, ...times } = (value ?? {}) as Record<string, unknown>
  if (isTime(computeMs)) return { module: String(module), computeMs, ...checkOnloadTimes(times, wrong) }
  throw wrong(`times of a module are computeMs and those of its onload, not ${printable(value)}`)
}

/** What a backend says of an onload, as `checkTimes`. */
export function checkOnloadTimes(value: unknown, wrong: Wrong): OnloadTimes {
  const { linkMs, waitMs, hiddenFraction } = (value ?? {}) as Record<string, unknown>
  if (isTime(linkMs) && isTime(waitMs) && isTime(hiddenFraction) && hiddenFraction <= 1) {
    return { linkMs, waitMs, hiddenFraction }
  }
  throw wrong(`times of an onload are linkMs, waitMs, and hiddenFraction from 0 to 1, not ${printable(value)}`)
}

/** What a backend's tracer returned. Throws SPILLWAY_BACKEND_MISBEHAVED. */
export function checkTraceEvents(value: unknown, backend: string): readonly TraceEvent[] {
  const call = `tracer of backend ${backend}`
  return reading(call, () => readTraceEvents(value, backend), 'SPILLWAY_BACKEND_MISBEHAVED')
}

function readTraceEvents(value: unknown, backend: string): readonly TraceEvent[] {
  const wrong: Wrong = (problem) => misbehaved(backend, `tracer: ${problem}`)
  if (!Array.isArray(value)) throw wrong(`it returned ${printable(value)} instead of a list of events`)
  return (value as unknown[]).map((event): TraceEvent => {
    const { lane, module, startMs, endMs, bytes } = (event ?? {}) as Record<string, unknown>
    const known = lane === 'compute' || lane === 'copy' || lane === 'wait'
    if (!known || typeof module !== 'string' || !isTime(startMs) || !isTime(endMs) || endMs < startMs) {
      throw wrong(`${printable(event)} is no event`)
    }
    return { lane, module, startMs, endMs, ...(isCount(bytes) ? { bytes } : {}) }
  })
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Number.POSITIVE_INFINITY
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
