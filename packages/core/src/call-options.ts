import { isSpillwayError, SpillwayError } from './errors.js'
import { printable } from './printable.js'

/**
 * Runs `read`, which looks at what a caller passed: getters and proxies of it may throw anything, which becomes the
 * `cause` of an error with `code`.
 */
export function reading<T>(call: string, read: () => T, code = 'SPILLWAY_INVALID_ARGUMENT'): T {
  try {
    return read()
  } catch (cause) {
    if (isSpillwayError(cause)) throw cause
    throw new SpillwayError(code, `${call}: what was passed cannot be read (see cause)`, { cause })
  }
}

/**
 * The fields of an options argument, each read once; whether a caller without types left one out is for the one who
 * reads it. Undefined is no options; anything else that is no object, or that
 * cannot be read, is SPILLWAY_INVALID_ARGUMENT.
 */
export function readOptions<T extends object, K extends keyof T & string>(
  value: T | undefined,
  call: string,
  keys: readonly K[],
): Pick<T, K> {
  if (value === undefined) return {} as Pick<T, K>
  if (typeof value !== 'object' || value === null) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${call} takes an object with ${keys.join(', ')}, not ${printable(value)}`,
    )
  }
  return reading(call, () => Object.fromEntries(keys.map((key) => [key, value[key]])) as Pick<T, K>)
}

/** Throws SPILLWAY_INVALID_ARGUMENT for anything that is neither undefined nor an AbortSignal. */
export function checkSignal(signal: unknown, call: string): asserts signal is AbortSignal | undefined {
  // The class, not what it can do: AbortSignal.any takes no others.
  if (signal === undefined || reading(call, () => signal instanceof AbortSignal)) return
  throw new SpillwayError(
    'SPILLWAY_INVALID_ARGUMENT',
    `${call}: the signal is an AbortSignal, not ${printable(signal)}`,
  )
}
