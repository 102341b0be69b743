import { isSpillwayError, SpillwayError } from './errors.js'
import type { OptionSpec, OptionSpecs } from './option-spec.js'
import { flagName, parseOption } from './options.js'
import { printable, printableName } from './printable.js'

const types: readonly string[] = ['integer', 'number', 'bytes', 'string', 'names', 'choice', 'flag']

/**
 * Checks option specs that came from a package, and returns a frozen copy: what is read here is what is used.
 * Throws SPILLWAY_BACKEND_INVALID.
 */
export function checkOptionSpecs(value: unknown, backend: string): OptionSpecs {
  if (!isRecord(value)) throw malformed(backend, `options must be an object of option specs, not ${printable(value)}`)
  const specs: Record<string, OptionSpec> = {}
  const keyOfFlag = new Map<string, string>()
  for (const key of Object.keys(value)) {
    // Keys become properties and, in kebab-case, flags: __proto__ or "a b" would be neither.
    if (!/^[a-z][a-zA-Z0-9]{0,63}$/.test(key)) {
      throw malformed(backend, `option ${printableName(key)} must be named in camelCase letters and digits`)
    }
    const spec = checkOptionSpec(value[key], backend, key)
    const flag = flagName(key, spec)
    const other = keyOfFlag.get(flag)
    if (other !== undefined) throw malformed(backend, `options ${other} and ${key} have the same flag --${flag}`)
    keyOfFlag.set(flag, key)
    specs[key] = spec
  }
  return Object.freeze(specs)
}

function checkOptionSpec(value: unknown, backend: string, key: string): OptionSpec {
  const wrong = (rule: string): SpillwayError => malformed(backend, `option ${key} ${rule}`)
  if (!isRecord(value)) throw wrong('must be an object')
  const { type, help, flag, min, max, choices } = value
  if (typeof type !== 'string' || !types.includes(type)) throw wrong(`must have a type out of ${types.join(', ')}`)
  if (typeof help !== 'string' || help === '') throw wrong('must have a help text')
  if (flag !== undefined && (typeof flag !== 'string' || !/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(flag))) {
    throw wrong('must have a flag in kebab-case, without dashes before it')
  }
  const copy: Record<string, unknown> = { type, help }
  if (flag !== undefined) copy.flag = flag
  if (type === 'integer' || type === 'number' || type === 'bytes') {
    for (const [name, bound] of [
      ['min', min],
      ['max', max],
    ] as const) {
      if (bound === undefined) continue
      if (typeof bound !== 'number' || Number.isNaN(bound)) throw wrong(`must have a number as ${name}`)
      copy[name] = bound
    }
    if (typeof min === 'number' && typeof max === 'number' && min > max) throw wrong('has min above max')
  }
  if (type === 'choice') {
    if (!Array.isArray(choices) || choices.length === 0 || !choices.every((choice) => typeof choice === 'string')) {
      throw wrong('must have a list of strings as choices')
    }
    copy.choices = Object.freeze([...choices])
  }
  const initial = value.default
  if (initial === undefined) {
    if (type === 'choice' || type === 'flag') throw wrong('must have a default')
  } else {
    try {
      copy.default = parseOption(copy as unknown as OptionSpec, initial, 'the default')
    } catch (error) {
      throw wrong(`has a default that breaks its own rule: ${isSpillwayError(error) ? error.message : String(error)}`)
    }
  }
  return Object.freeze(copy) as unknown as OptionSpec
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function malformed(backend: string, problem: string): SpillwayError {
  return new SpillwayError('SPILLWAY_BACKEND_INVALID', `backend ${printableName(backend)}: ${problem}`, {
    details: { backend },
  })
}
