import { printable, reading, SpillwayError } from '@spillway/core'

/** A list, read once. Throws SPILLWAY_INVALID_ARGUMENT. */
export function readList<T>(value: readonly T[], call: string): T[] {
  const list = reading(call, () => (Array.isArray(value) ? [...value] : undefined))
  if (list !== undefined) return list
  throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call} takes a list, not ${printable(value)}`)
}

/** Bytes from an offset to the end. Whether the offset is one is for the addon to say. */
export function restBytes(all: number, offset: unknown): number {
  return typeof offset === 'number' ? Math.max(0, all - offset) : 0
}
