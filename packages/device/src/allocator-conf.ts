import { type AllocatorConf, printable, SpillwayError } from '@spillway/core'
import type { AllocatorSettings } from './allocator-settings.js'

/** Sizes that roundups tell apart: from 1 MiB, 2 MiB, … 32 GiB on. */
export const allocatorIntervals = 16

interface Parser {
  readonly setting: keyof AllocatorSettings
  readonly allowed: string
  /** Undefined: not allowed. */
  parse(text: string): unknown
}

/** By key in lower case without underscores: PyTorch's spelling and ours. */
const parsers: Readonly<Record<string, Parser>> = {
  maxsplitsizemb: {
    setting: 'maxSplitSizeMb',
    allowed: 'a whole number of MiB, at least 20',
    parse: (text) => (/^\d{1,12}$/.test(text) && Number(text) >= 20 ? Number(text) : undefined),
  },
  expandablesegments: {
    setting: 'expandableSegments',
    allowed: 'true or false',
    parse: (text) => ({ true: true, 1: true, false: false, 0: false })[text],
  },
  garbagecollectionthreshold: {
    setting: 'garbageCollectionThreshold',
    allowed: 'a number from 0 to 1',
    parse: (text) => (/^(\d+\.?\d*|\.\d+)$/.test(text) && Number(text) <= 1 ? Number(text) : undefined),
  },
  rounduppower2divisions: {
    setting: 'roundupPower2Divisions',
    allowed: 'a power of two up to 64, or a list such as [256:1,512:2,>:8], of sizes in MiB that are powers of two',
    parse: (text) => (text.startsWith('[') ? parseDivisionsList(text) : parseDivisions(text)),
  },
}

/**
 * The settings that a variable names, in PyTorch's syntax: `key:value,key:value`. Spaces, case and commas at the end do
 * not matter. Unknown keys are errors in ours and one warning in theirs, which has more than concerns us. Throws
 * SPILLWAY_INVALID_ENVIRONMENT, quoting the key.
 */
export function parseAllocatorConf({ variable, value }: AllocatorConf): AllocatorSettings {
  const settings: Record<string, unknown> = {}
  const unknown: string[] = []
  for (const entry of entriesOf(value)) {
    const colon = entry.indexOf(':')
    const key = colon < 0 ? entry : entry.slice(0, colon)
    const name = key.replaceAll('_', '').toLowerCase()
    const parser = Object.hasOwn(parsers, name) ? parsers[name] : undefined
    if (parser === undefined) {
      unknown.push(key)
      continue
    }
    const text = colon < 0 ? '' : entry.slice(colon + 1)
    const parsed = parser.parse(text.toLowerCase())
    if (parsed === undefined) {
      throw invalid(variable, value, key, `${key} is ${printable(text)}; it must be ${parser.allowed}`, parser.allowed)
    }
    settings[parser.setting] = parsed
  }
  if (unknown.length > 0) reportUnknown(variable, value, unknown)
  return settings
}

function reportUnknown(variable: AllocatorConf['variable'], value: string, unknown: readonly string[]): void {
  const keys = unknown.map(printable).join(', ')
  const known = 'max_split_size_mb, expandable_segments, garbage_collection_threshold, roundup_power2_divisions'
  if (variable === 'SPILLWAY_ALLOC_CONF') {
    throw invalid(variable, value, unknown[0]!, `${keys} is no allocator setting; there are ${known}`, known)
  }
  process.emitWarning(`${variable}: Spillway does not know ${keys} and goes on without; it knows ${known}`, {
    type: 'SpillwayWarning',
    code: 'SPILLWAY_ALLOC_CONF',
  })
}

/** Without spaces and empty entries; commas inside of brackets do not end an entry. */
function entriesOf(value: string): string[] {
  const entries = value.replace(/\s+/g, '').match(/(?:\[[^\]]*\]?|[^,[])+/g)
  return entries ?? []
}

function parseDivisions(text: string): number | undefined {
  return /^\d{1,2}$/.test(text) && [0, 1, 2, 4, 8, 16, 32, 64].includes(Number(text)) ? Number(text) : undefined
}

/** `[256:1,512:2,>:8]`: each for requests from so many MiB on, the first also for smaller ones, `>` for what follows. */
function parseDivisionsList(text: string): readonly number[] | undefined {
  const inner = /^\[([^\]]*)\]$/.exec(text)?.[1]?.replace(/,+$/, '')
  if (inner === undefined || inner === '') return undefined
  const list = Array<number>(allocatorIntervals).fill(0)
  let next: number | undefined
  for (const entry of inner.split(',')) {
    const [from = '', divisions = '', ...more] = entry.split(':')
    const parsed = parseDivisions(divisions)
    if (parsed === undefined || more.length > 0) return undefined
    if (from === '>') {
      list.fill(parsed, next ?? 0)
      next = allocatorIntervals
      continue
    }
    const interval = /^\d{1,6}$/.test(from) ? Math.log2(Number(from)) : Number.NaN
    if (!Number.isInteger(interval) || interval >= allocatorIntervals || interval < (next ?? 0)) return undefined
    if (next === undefined) list.fill(parsed, 0, interval)
    list[interval] = parsed
    next = interval + 1
  }
  return list
}

function invalid(variable: string, value: string, key: string, what: string, allowed: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_ENVIRONMENT', `the environment variable ${variable}: ${what}`, {
    details: { variable, value, key, allowed },
  })
}
