import type { StepForecast, StepRates } from './backend.js'
import { SpillwayError } from './errors.js'
import type { PlacedModule } from './module.js'
import { printable } from './printable.js'
import { extentBytes } from './tensor.js'

/**
 * Rates of a forward of one row, a decode step, from two measured limits: its kernels read every weight once, as fast as
 * the device reads its memory, ties again, and of weights that rows are gathered from next to nothing. A lower bound:
 * caches and launches are not counted.
 */
export function decodeRates(
  modules: ReadonlyMap<string, PlacedModule>,
  limits: { readonly linkBytesPerSecond: number; readonly deviceBytesPerSecond: number },
): StepRates {
  const { linkBytesPerSecond, deviceBytesPerSecond } = limits
  return {
    linkBytesPerSecond,
    computeMs(module) {
      const read = modules.get(module)?.spec.parameters.filter(({ use }) => use !== 'gather') ?? []
      return (1000 * read.reduce((sum, parameter) => sum + extentBytes(parameter), 0)) / deviceBytesPerSecond
    },
  }
}

/** Rates of forwards like those that were measured: `times` is what `timesOf` made of them. */
export function measuredRates(times: StepForecast, linkBytesPerSecond: number): StepRates {
  const measured = new Map(times.modules.map(({ module, computeMs }) => [module, computeMs]))
  return { linkBytesPerSecond, computeMs: (module) => measured.get(module) ?? 0 }
}

/** What a caller measured or guessed. Throws SPILLWAY_INVALID_ARGUMENT; what `computeMs` returns is checked when it does. */
export function checkStepRates(rates: StepRates): StepRates {
  const { linkBytesPerSecond, computeMs } = (rates ?? {}) as Partial<StepRates>
  if (typeof linkBytesPerSecond !== 'number' || !(linkBytesPerSecond > 0) || typeof computeMs !== 'function') {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `rates are linkBytesPerSecond, more than 0, and a function computeMs, not ${printable({ linkBytesPerSecond })}`,
    )
  }
  return {
    linkBytesPerSecond,
    computeMs(module) {
      const ms: unknown = rates.computeMs(module)
      if (typeof ms === 'number' && ms >= 0 && ms < Number.POSITIVE_INFINITY) return ms
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `computeMs of ${module} is a number of milliseconds of at least 0, not ${printable(ms)}`,
      )
    },
  }
}
