import { formatBytes } from './bytes.js'
import { SpillwayError } from './errors.js'
import type { OptionSpec, OptionSpecs } from './option-spec.js'
import { flagName, type OptionValue, parseOption, range } from './options.js'
import { printable } from './printable.js'

/** One option as a command line sees it. */
export interface OptionFlag {
  /** Without dashes. */
  readonly flag: string
  /** The option's key in the backend's configuration. */
  readonly key: string
  readonly spec: OptionSpec
  /** What stands for the value in a help text: `N`, `SIZE`, `A|B`; undefined for a switch, which also has `--no-flag`. */
  readonly placeholder: string | undefined
}

export function flagsOf(specs: OptionSpecs): readonly OptionFlag[] {
  return Object.entries(specs).map(([key, spec]) => ({
    flag: flagName(key, spec),
    key,
    spec,
    placeholder: placeholderOf(spec),
  }))
}

/**
 * The value of an option from its text on a command line; `text` is undefined for a switch given without a value.
 * Names are separated by commas or spaces. Throws SPILLWAY_INVALID_OPTION naming `flag`.
 */
export function parseFlagValue(spec: OptionSpec, text: string | undefined, flag = 'the value'): OptionValue {
  const what = flag === 'the value' ? flag : `--${flag}`
  if (spec.type === 'flag') {
    const value = text === undefined || text === 'true' ? true : text === 'false' ? false : text
    return parseOption(spec, value, what)
  }
  if (text === undefined) {
    throw new SpillwayError('SPILLWAY_INVALID_OPTION', `${what} needs a value: ${what} ${placeholderOf(spec)}`)
  }
  switch (spec.type) {
    // Number() would also take '', '0x10', ' 7 ' and '1e3'.
    case 'integer':
      return parseOption(spec, /^[+-]?\d+$/.test(text) ? Number(text) : text, what)
    case 'number':
      return parseOption(spec, /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : text, what)
    case 'names':
      return parseOption(
        spec,
        text.split(/[\s,]+/).filter((name) => name !== ''),
        what,
      )
    default:
      return parseOption(spec, text, what)
  }
}

/** One line per option, columns aligned: `--group-size N   help (default 8, from 1)`. */
export function optionHelp(specs: OptionSpecs): readonly string[] {
  const rows = flagsOf(specs).map(({ flag, spec, placeholder }) => ({
    left:
      placeholder === undefined
        ? `--${spec.type === 'flag' && spec.default ? 'no-' : ''}${flag}`
        : `--${flag} ${placeholder}`,
    right: `${spec.help}${notes(spec)}`,
  }))
  const width = Math.max(0, ...rows.map((row) => row.left.length))
  return rows.map((row) => `${row.left.padEnd(width)}  ${row.right}`)
}

/** Throws SPILLWAY_OPTION_COLLISION when a backend's flag, or the `--no-` form of its switch, is `reserved`. */
export function checkFlagCollisions(backendName: string, specs: OptionSpecs, reserved: Iterable<string>): void {
  const taken = new Set(reserved)
  for (const { flag, key, spec } of flagsOf(specs)) {
    const collision = [flag, ...(spec.type === 'flag' ? [`no-${flag}`] : [])].find((name) => taken.has(name))
    if (collision !== undefined) {
      throw new SpillwayError(
        'SPILLWAY_OPTION_COLLISION',
        `option ${key} of backend ${backendName} wants the flag --${collision}, which is taken; ` +
          'its author can give the option another `flag`',
        { details: { backend: backendName, option: key, flag: collision } },
      )
    }
  }
}

function placeholderOf(spec: OptionSpec): string | undefined {
  switch (spec.type) {
    case 'integer':
    case 'number':
      return 'N'
    case 'bytes':
      return 'SIZE'
    case 'string':
      return 'TEXT'
    case 'names':
      return 'NAME,NAME'
    case 'choice':
      return spec.choices.join('|')
    case 'flag':
      return undefined
  }
}

function notes(spec: OptionSpec): string {
  const parts: string[] = []
  if (spec.default !== undefined && spec.type !== 'flag') {
    const shown =
      spec.type === 'bytes'
        ? formatBytes(spec.default ?? 0)
        : typeof spec.default === 'object'
          ? spec.default.join(',')
          : String(spec.default)
    if (shown !== '') parts.push(`default ${/\s/.test(shown) && spec.type !== 'bytes' ? printable(shown) : shown}`)
  }
  if (spec.type === 'integer' || spec.type === 'number') {
    const bounds = range(spec).trim().replace(/^of /, '')
    if (bounds !== '') parts.push(bounds)
  }
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`
}
