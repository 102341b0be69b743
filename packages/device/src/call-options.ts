import { printable, SpillwayError } from '@spillway/core'

/**
 * The fields of an options argument, each read once. Undefined is no options; anything else that is no object, or whose
 * getters throw, is SPILLWAY_INVALID_ARGUMENT.
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
      `${call}: the options are an object with ${keys.join(', ')}, not ${printable(value)}`,
    )
  }
  try {
    return Object.fromEntries(keys.map((key) => [key, value[key]])) as Pick<T, K>
  } catch (cause) {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call}: reading the options failed`, { cause })
  }
}

/** A list, read once. Throws SPILLWAY_INVALID_ARGUMENT. */
export function readList<T>(value: readonly T[], call: string): T[] {
  try {
    if (Array.isArray(value)) return [...value]
  } catch (cause) {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call}: reading the list failed`, { cause })
  }
  throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call} takes a list, not ${printable(value)}`)
}

/** Throws SPILLWAY_INVALID_ARGUMENT for anything that is neither undefined nor an AbortSignal. */
export function checkSignal(signal: unknown, call: string): asserts signal is AbortSignal | undefined {
  if (signal === undefined || isSignal(signal)) return
  throw new SpillwayError(
    'SPILLWAY_INVALID_ARGUMENT',
    `${call}: the signal is an AbortSignal, not ${printable(signal)}`,
  )
}

// By what it can do: signals of other realms are signals too.
function isSignal(value: unknown): value is AbortSignal {
  try {
    const { aborted, addEventListener } = value as AbortSignal
    return typeof aborted === 'boolean' && typeof addEventListener === 'function'
  } catch {
    return false
  }
}

/** Bytes from an offset to the end. Whether the offset is one is for the addon to say. */
export function restBytes(all: number, offset: unknown): number {
  return typeof offset === 'number' ? Math.max(0, all - offset) : 0
}
