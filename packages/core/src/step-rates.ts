import type { StepForecast, StepRates } from './backend.js'
import { reading } from './call-options.js'
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

/** A module of so many milliseconds, years, is nobody's: sums of less stay numbers. */
const mostComputeMs = 1e12

/** What a caller measured or guessed. Throws SPILLWAY_INVALID_ARGUMENT; what `computeMs` returns is checked when it does. */
export function checkStepRates(rates: StepRates): StepRates {
  const { linkBytesPerSecond, computeMs } = (rates ?? {}) as Partial<StepRates>
  if (typeof linkBytesPerSecond !== 'number' || !(linkBytesPerSecond >= 1) || typeof computeMs !== 'function') {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `rates are linkBytesPerSecond, at least 1, and a function computeMs, not ${printable({ linkBytesPerSecond })}`,
    )
  }
  return {
    linkBytesPerSecond,
    computeMs(module) {
      const ms: unknown = reading('computeMs', () => rates.computeMs(module))
      if (typeof ms === 'number' && ms >= 0 && ms <= mostComputeMs) return ms
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `computeMs of ${module} is a number of milliseconds from 0 to ${mostComputeMs}, not ${printable(ms)}`,
      )
    },
  }
}
