import { SpillwayError } from './errors.js'
import { printable } from './printable.js'

const units: Readonly<Record<string, number>> = Object.freeze({
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
})

/**
 * `512MiB`, `1.5 GiB`, `4GB`, `1048576`, or a number of bytes. A fraction of a byte is cut off. A bare K, M or G is
 * refused: it means 1000 to some and 1024 to others. Throws SPILLWAY_INVALID_OPTION that begins with `what`.
 */
export function parseBytes(value: unknown, what = 'a size'): number {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && value >= 0) return value
    throw invalid(what, value, 'is a whole number of bytes from 0 to 2^53, or text such as 512MiB')
  }
  const match = typeof value === 'string' && value.length <= 40 ? /^\s*(\d+)(\.\d+)?\s*([a-z]*)\s*$/i.exec(value) : null
  if (match === null) throw invalid(what, value, 'is written 512MiB, 6GiB, 4GB or as a number of bytes')
  const [, whole = '', fraction = '', unit = ''] = match
  const factor = unit === '' ? 1 : Object.hasOwn(units, unit.toLowerCase()) ? units[unit.toLowerCase()] : undefined
  if (factor === undefined) throw invalid(what, value, 'takes the units B, KiB, MiB, GiB, TiB, KB, MB, GB, TB')
  if (factor === 1 && fraction !== '') throw invalid(what, value, 'is a whole number of bytes')
  const bytes = Math.floor(Number(whole + fraction) * factor)
  if (!Number.isSafeInteger(bytes)) throw invalid(what, value, 'is at most 2^53 bytes')
  return bytes
}

/** For people: `512 MiB`, `1.5 GiB`, `17 bytes`. At most one decimal; not meant to be parsed again. */
export function formatBytes(bytes: number): string {
  const names = ['KiB', 'MiB', 'GiB', 'TiB']
  if (Math.abs(bytes) < 1024) return `${bytes} ${Math.abs(bytes) === 1 ? 'byte' : 'bytes'}`
  let value = bytes / 1024
  let i = 0
  // 1023.96 would be shown as 1024 KiB: go up already where rounding would.
  while (Math.abs(value) >= 1023.95 && i < names.length - 1) {
    value /= 1024
    i++
  }
  return `${value.toFixed(1).replace(/\.0$/, '')} ${names[i]}`
}

function invalid(what: string, value: unknown, rule: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_OPTION', `${what} ${rule}; got ${printable(value)}`, {
    details: { value },
  })
}
