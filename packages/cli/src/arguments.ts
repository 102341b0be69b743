import { didYouMean, flagsOf, type OptionFlag, type OptionSpecs, parseFlagValue, SpillwayError } from '@spillway/core'

/** Values by option key, as given; what was not given is absent. `stop` may come several times and is a list. */
export type GivenOptions = Readonly<Record<string, unknown>>

const repeatable = new Set(['stop'])

/** The text of one flag, before anything else is known: which backend's flags there are depends on it. */
export function peekFlag(words: readonly string[], flag: string): string | undefined {
  const at = words.findLastIndex((word) => word === `--${flag}` || word.startsWith(`--${flag}=`))
  if (at < 0) return undefined
  const word = words[at] as string
  return word.includes('=') ? word.slice(word.indexOf('=') + 1) : words[at + 1]
}

/**
 * Options from the words of a command line: `--flag value`, `--flag=value`, `--switch`, `--no-switch`. Throws
 * SPILLWAY_USAGE for what is no flag, is unknown or is given twice, and SPILLWAY_INVALID_OPTION for a bad value.
 */
export function parseArguments(words: readonly string[], specs: OptionSpecs): GivenOptions {
  const flags = new Map(flagsOf(specs).map((flag) => [flag.flag, flag]))
  const given = new Map<string, unknown>()
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    if (!word.startsWith('--') || word === '--') {
      throw usage(`'${word}' is not an option; options start with --, and texts with spaces need quotes`)
    }
    const equals = word.indexOf('=')
    const name = word.slice(2, equals < 0 ? undefined : equals)
    const off = flags.has(name) ? undefined : switchOff(flags, name)
    const flag = flags.get(name) ?? off
    if (flag === undefined) {
      throw usage(`there is no option --${name}${didYouMean(name, flags.keys())}; --help lists those there are`)
    }
    const isSwitch = flag.spec.type === 'flag'
    const text = equals >= 0 ? word.slice(equals + 1) : isSwitch ? undefined : words[++i]
    const value = off === undefined ? parseFlagValue(flag.spec, text, name) : false
    if (repeatable.has(flag.key)) {
      given.set(flag.key, [...((given.get(flag.key) as readonly unknown[] | undefined) ?? []), value])
    } else if (given.has(flag.key)) {
      throw usage(`--${name} is given twice; give it once`)
    } else {
      given.set(flag.key, value)
    }
  }
  return Object.fromEntries(given)
}

function switchOff(flags: ReadonlyMap<string, OptionFlag>, name: string): OptionFlag | undefined {
  const flag = name.startsWith('no-') ? flags.get(name.slice(3)) : undefined
  return flag?.spec.type === 'flag' ? flag : undefined
}

export function usage(message: string): SpillwayError {
  return new SpillwayError('SPILLWAY_USAGE', message)
}
