import { didYouMean, flagsOf, type OptionFlag, type OptionSpecs, parseFlagValue, SpillwayError } from '@spillway/core'

/** What was given, by flag: two backends, or a backend and the command, may use the same key. Operands by name. */
export type FlagValues = ReadonlyMap<string, unknown>
/** What was given of one set of options, by key; what was not given is absent. `stop` may come often and is a list. */
export type GivenOptions = Readonly<Record<string, unknown>>

export function givenOf(specs: OptionSpecs, values: FlagValues): GivenOptions {
  const own = flagsOf(specs).filter(({ flag }) => values.has(flag))
  return Object.fromEntries(own.map(({ flag, key }) => [key, values.get(flag)]))
}

const repeatable = new Set(['stop'])

/** The text of one flag, before anything else is known: which backend's flags there are depends on it. */
export function peekFlag(words: readonly string[], flag: string): string | undefined {
  const at = words.findLastIndex((word) => word === `--${flag}` || word.startsWith(`--${flag}=`))
  if (at < 0) return undefined
  const word = words[at] as string
  return word.includes('=') ? word.slice(word.indexOf('=') + 1) : words[at + 1]
}

/**
 * Options from the words of a command line: `--flag value`, `--flag=value`, `--switch`, `--no-switch`, and, of a list of
 * names where there are no operands, `--flag name name`. Words that are no options are `operands`, in this order,
 * anywhere. Throws SPILLWAY_USAGE for what is neither, is unknown or is given twice, and SPILLWAY_INVALID_OPTION for a
 * bad value.
 */
export function parseArguments(
  words: readonly string[],
  known: readonly OptionFlag[],
  operands: readonly string[] = [],
): FlagValues {
  const flags = new Map(known.map((flag) => [flag.flag, flag]))
  const given = new Map<string, unknown>()
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    const operand = operands.find((name) => !given.has(name))
    if (!word.startsWith('-') && operand !== undefined) {
      given.set(operand, word)
      continue
    }
    if (!word.startsWith('--') || word === '--') {
      throw usage(`'${word}' is not an option; options start with --, and texts with spaces need quotes`)
    }
    const equals = word.indexOf('=')
    const name = word.slice(2, equals < 0 ? undefined : equals)
    const off = flags.has(name) ? undefined : switchOff(flags, name)
    const flag = flags.get(name) ?? off
    if (flag === undefined) {
      const known = Array.from(flags.keys(), (key) => `--${key}`)
      throw usage(`there is no option --${name}${suggestion(`--${name}`, known)} --help lists those there are`)
    }
    let text = equals >= 0 ? word.slice(equals + 1) : flag.spec.type === 'flag' ? undefined : valueAfter(words, i++)
    const isList = flag.spec.type === 'names' && equals < 0 && operands.length === 0
    while (isList && words[i + 1]?.startsWith('-') === false) text += ` ${words[++i]}`
    const value = off === undefined ? parseFlagValue(flag.spec, text, name) : false
    if (repeatable.has(flag.flag)) {
      given.set(flag.flag, [...((given.get(flag.flag) as readonly unknown[] | undefined) ?? []), value])
    } else if (given.has(flag.flag)) {
      throw usage(`--${name} is given twice; give it once`)
    } else {
      given.set(flag.flag, value)
    }
  }
  return given
}

// A text that begins with dashes is more often an option whose neighbour lost its value.
function valueAfter(words: readonly string[], at: number): string | undefined {
  const next = words[at + 1]
  if (next?.startsWith('--'))
    throw usage(`${words[at]} needs a value; one that starts with -- is written ${words[at]}=${next}`)
  return next
}

function switchOff(flags: ReadonlyMap<string, OptionFlag>, name: string): OptionFlag | undefined {
  const flag = name.startsWith('no-') ? flags.get(name.slice(3)) : undefined
  return flag?.spec.type === 'flag' ? flag : undefined
}

/** `; did you mean X?`, or the semicolon alone: more is to follow. */
export function suggestion(wrong: string, names: Iterable<string>): string {
  return didYouMean(wrong, names) || ';'
}

export function usage(message: string): SpillwayError {
  return new SpillwayError('SPILLWAY_USAGE', message)
}
