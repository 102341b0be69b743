import { AsyncLocalStorage } from 'node:async_hooks'
import { printable, readEnvironment, reading, SpillwayError } from '@spillway/core'
import { allocatorIntervals, parseAllocatorConf } from './allocator-conf.js'

/** How memory is cached. What is left out, or undefined, is as it is outside: of the pool, the scope, the process. */
export interface AllocatorSettings {
  /**
   * Free blocks of more MiB than this are kept whole, for who needs nearly all of one: at least 20. Requests for more
   * get segments of their own, even where segments grow. Infinity, the default: any block is cut up.
   */
  readonly maxSplitSizeMb?: number | undefined
  /** Segments that grow, through virtual memory. Default false; a named pool never has them. */
  readonly expandableSegments?: boolean | undefined
  /** Part of the device memory limit, from 0 to 1, above which free segments go back before another is made. 0: never. */
  readonly garbageCollectionThreshold?: number | undefined
  /**
   * Requests are rounded up to one of this many steps between two powers of two: 0 (to 512 bytes only), 1, 2, 4, … 64.
   * Or 16 such numbers: for requests from 1 MiB, 2 MiB, 4 MiB, … 32 GiB on.
   */
  readonly roundupPower2Divisions?: number | readonly number[] | undefined
}

/** Every field, and one form of each. */
export interface ResolvedAllocatorSettings {
  readonly maxSplitSizeMb: number
  readonly expandableSegments: boolean
  readonly garbageCollectionThreshold: number
  /** 16 numbers. */
  readonly roundupPower2Divisions: readonly number[]
}

const rules: Readonly<Record<keyof AllocatorSettings, { readonly rule: string; holds(value: unknown): boolean }>> = {
  maxSplitSizeMb: {
    rule: 'a number of MiB, at least 20, or Infinity',
    holds: (value) => typeof value === 'number' && value >= 20,
  },
  expandableSegments: { rule: 'true or false', holds: (value) => typeof value === 'boolean' },
  garbageCollectionThreshold: {
    rule: 'a number from 0 to 1',
    holds: (value) => typeof value === 'number' && value >= 0 && value <= 1,
  },
  roundupPower2Divisions: {
    rule: `0 or a power of two up to 64, or ${allocatorIntervals} of them`,
    holds: (value) =>
      isDivisions(value) || (Array.isArray(value) && value.length === allocatorIntervals && value.every(isDivisions)),
  },
}

function isDivisions(value: unknown): boolean {
  return typeof value === 'number' && [0, 1, 2, 4, 8, 16, 32, 64].includes(value)
}

/**
 * A frozen copy with the fields that say something. Throws SPILLWAY_UNKNOWN_OPTION and SPILLWAY_INVALID_OPTION, quoting
 * the key.
 */
export function checkAllocatorSettings(given: unknown): AllocatorSettings {
  return reading('allocator settings', () => check(given), 'SPILLWAY_INVALID_OPTION')
}

function check(given: unknown): AllocatorSettings {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new SpillwayError('SPILLWAY_INVALID_OPTION', `allocator settings are an object, not ${printable(given)}`, {
      details: { option: 'allocatorSettings', value: given },
    })
  }
  const checked: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(rules, key)) {
      const known = Object.keys(rules)
      throw new SpillwayError(
        'SPILLWAY_UNKNOWN_OPTION',
        `${printable(key)} is no allocator setting; there are ${known.join(', ')}`,
        { details: { option: key, known } },
      )
    }
    if (value === undefined) continue
    const copy = Array.isArray(value) && value.length === allocatorIntervals ? Object.freeze([...value]) : value
    const { rule, holds } = rules[key as keyof AllocatorSettings]
    if (!holds(copy)) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_OPTION',
        `the allocator setting ${key} must be ${rule}, not ${printable(value)}`,
        { details: { option: key, value } },
      )
    }
    checked[key] = copy
  }
  return Object.freeze(checked)
}

const scopes = new AsyncLocalStorage<AllocatorSettings>()

/**
 * Calls `fn`, in which, and in whatever it starts, the settings that are named here hold instead of those around it.
 * Nothing is switched on or off: scopes that overlap, throw or never end know nothing of each other.
 */
export function withAllocatorSettings<T>(settings: AllocatorSettings, fn: () => T): T {
  const scope = Object.freeze({ ...scopes.getStore(), ...checkAllocatorSettings(settings) })
  if (typeof fn !== 'function') {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `withAllocatorSettings calls a function, not ${printable(fn)}`)
  }
  return scopes.run(scope, fn)
}

/** Those of the process; parsed again only when the variable changes, so that one warning is given once. */
function processAllocatorSettings(): AllocatorSettings {
  const { allocatorConf } = readEnvironment()
  if (allocatorConf === undefined) return {}
  const { variable, value } = allocatorConf
  if (parsed?.variable !== variable || parsed.value !== value) {
    parsed = { variable, value, settings: checkAllocatorSettings(parseAllocatorConf(allocatorConf)) }
  }
  return parsed.settings
}
let parsed: { variable: string; value: string; settings: AllocatorSettings } | undefined

/**
 * What holds for an allocation here and now: of a pool with `pool`'s settings, else in the scope `scope`, default the
 * one that the call is in, else of the process. Throws what checkAllocatorSettings throws, and
 * SPILLWAY_INVALID_ENVIRONMENT.
 */
export function resolveAllocatorSettings(
  options: { readonly pool?: AllocatorSettings | undefined; readonly scope?: AllocatorSettings | undefined } = {},
): ResolvedAllocatorSettings {
  const { pool } = options
  const scope = options.scope === undefined ? scopes.getStore() : checkAllocatorSettings(options.scope)
  const {
    maxSplitSizeMb = Number.POSITIVE_INFINITY,
    expandableSegments = false,
    garbageCollectionThreshold = 0,
    roundupPower2Divisions = 0,
  } = { ...processAllocatorSettings(), ...scope, ...(pool === undefined ? {} : checkAllocatorSettings(pool)) }
  return Object.freeze({
    maxSplitSizeMb,
    expandableSegments: expandableSegments && pool === undefined,
    garbageCollectionThreshold,
    roundupPower2Divisions:
      typeof roundupPower2Divisions === 'number'
        ? Object.freeze(Array<number>(allocatorIntervals).fill(roundupPower2Divisions))
        : roundupPower2Divisions,
  })
}

/** What holds here and now, outside of pools. */
export function currentAllocatorSettings(): ResolvedAllocatorSettings {
  return resolveAllocatorSettings()
}
