import { type OptionFlag, optionHelp } from '@spillway/core'
import { type CommandName, commandHelp, commandOperands, commandOptions, modelCommands } from './command-options.js'

export function generalHelp(): string {
  const names = Object.keys(commandHelp) as CommandName[]
  const width = Math.max(...names.map(({ length }) => length))
  return [
    'spillway: run models whose weights do not fit on the device',
    '',
    ...names.map((name) => `  spillway ${name.padEnd(width)}  ${commandHelp[name]}`),
    '',
    'spillway COMMAND --help lists the options of a command; --version prints the version.',
    "Try: spillway run --prompt 'The captain' --device-memory 5MiB --context-length 256",
  ].join('\n')
}

/** `backendFlags`: of the backends that come with Spillway; another one's package says what it takes. */
export function helpOf(command: CommandName, backendFlags: readonly OptionFlag[]): string {
  const name = [command, ...(commandOperands[command] ?? [])].join(' ')
  const parts = [`spillway ${name}: ${commandHelp[command]}`, '', ...optionHelp(commandOptions[command])]
  const backendLines = optionHelp(Object.fromEntries(backendFlags.map(({ key, spec }) => [key, spec])))
  if (modelCommands.has(command) && backendLines.length > 0) parts.push('', 'Options of backends:', ...backendLines)
  return parts.join('\n')
}
