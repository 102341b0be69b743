import { parseBytes } from './bytes.js'
import { SpillwayError } from './errors.js'
import { didYouMean } from './nearest-name.js'
import type { OptionSpec, OptionSpecs } from './option-spec.js'
import { printable, printableName } from './printable.js'

export type OptionValue = number | string | boolean | readonly string[]

/** The name an option has on a command line, without dashes: `spec.flag`, else the key in kebab-case. */
export function flagName(key: string, spec: OptionSpec): string {
  return spec.flag ?? key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/**
 * Checks `raw` against the specs and returns a frozen object with the defaults filled in. An option that has no
 * default and is not given is absent. `undefined` counts as not given. `owner` begins the error sentences.
 * Throws SPILLWAY_UNKNOWN_OPTION and SPILLWAY_INVALID_OPTION.
 */
export function parseOptions(
  specs: OptionSpecs,
  raw: unknown,
  owner = 'options',
): Readonly<Record<string, OptionValue>> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new SpillwayError('SPILLWAY_INVALID_OPTION', `the options of ${owner} are an object, not ${printable(raw)}`)
  }
  const given = raw as Readonly<Record<string, unknown>>
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(specs, key)) throw unknownOption(specs, key, owner)
  }
  const config: Record<string, OptionValue> = {}
  for (const [key, spec] of Object.entries(specs)) {
    const value = Object.hasOwn(given, key) ? given[key] : undefined
    const parsed = value === undefined ? spec.default : parseOption(spec, value, describe(owner, key, spec))
    if (parsed !== undefined) config[key] = typeof parsed === 'object' ? Object.freeze([...parsed]) : parsed
  }
  return Object.freeze(config)
}

/** Checks one value. `what` begins the error sentence. Throws SPILLWAY_INVALID_OPTION. */
export function parseOption(spec: OptionSpec, value: unknown, what: string): OptionValue {
  switch (spec.type) {
    case 'integer':
      if (typeof value !== 'number' || !Number.isSafeInteger(value))
        throw invalid(what, `a whole number${range(spec)}`, value)
      return inRange(spec, value, what)
    case 'number':
      if (typeof value !== 'number' || !Number.isFinite(value)) throw invalid(what, `a number${range(spec)}`, value)
      return inRange(spec, value, what)
    case 'bytes':
      return inRange(spec, parseBytes(value, what), what)
    case 'string':
      if (typeof value !== 'string') throw invalid(what, 'a string', value)
      return value
    case 'names':
      if (!Array.isArray(value) || !value.every((name) => typeof name === 'string' && name !== '')) {
        throw invalid(what, 'a list of names, none of them empty', value)
      }
      return Object.freeze([...(value as string[])])
    case 'choice':
      if (typeof value !== 'string' || !spec.choices.includes(value)) {
        const hint = typeof value === 'string' ? didYouMean(value, spec.choices) : ''
        throw invalid(what, `one of ${spec.choices.join(', ')}`, value, hint)
      }
      return value
    case 'flag':
      if (typeof value !== 'boolean') throw invalid(what, 'true or false', value)
      return value
  }
}

function inRange(spec: { readonly min?: number; readonly max?: number }, value: number, what: string): number {
  if ((spec.min !== undefined && value < spec.min) || (spec.max !== undefined && value > spec.max)) {
    throw invalid(what, `a number${range(spec)}`, value)
  }
  return value
}

/** ` from 1 to 8`, ` of at least 1`, ` of at most 8`, or nothing. */
export function range(spec: { readonly min?: number; readonly max?: number }): string {
  if (spec.min !== undefined && spec.max !== undefined) return ` from ${spec.min} to ${spec.max}`
  if (spec.min !== undefined) return ` of at least ${spec.min}`
  return spec.max === undefined ? '' : ` of at most ${spec.max}`
}

function describe(owner: string, key: string, spec: OptionSpec): string {
  return `${owner}: ${key} (--${flagName(key, spec)})`
}

function unknownOption(specs: OptionSpecs, key: string, owner: string): SpillwayError {
  const known = Object.keys(specs)
  const list = known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`
  return new SpillwayError(
    'SPILLWAY_UNKNOWN_OPTION',
    `${owner} has no option ${printableName(key)}${didYouMean(key, known)} (${list})`,
    { details: { owner, option: key, known } },
  )
}

function invalid(what: string, rule: string, value: unknown, hint = ''): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_OPTION', `${what} must be ${rule}, not ${printable(value)}${hint}`, {
    details: { option: what, value },
  })
}
