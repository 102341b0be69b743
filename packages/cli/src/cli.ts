#!/usr/bin/env node
// The spillway command. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
import { readFileSync } from 'node:fs'
import { flagsOf, isSpillwayError, type OptionSpecs, SpillwayError } from '@spillway/core'
import { givenOf, parseArguments, peekFlag, suggestion, usage } from './arguments.js'
import { chooseBackends } from './backends.js'
import { benchLink } from './bench-link.js'
import { type CommandName, commandOperands, commandOptions, modelCommands } from './command-options.js'
import { doctor } from './doctor.js'
import { generalHelp, helpOf } from './help.js'
import { logits } from './logits.js'
import { memory } from './memory.js'
import { Output } from './output.js'
import { run } from './run.js'
import type { Invocation } from './session.js'

async function main(words: readonly string[], output: Output, signal: AbortSignal): Promise<void> {
  if (words[0] === 'help' && words.length > 1) return main([...words.slice(1), '--help'], output, signal)
  const [first, ...rest] = commandWords(words)
  if (first === undefined || first === 'help' || first === '--help' || first === '-h') {
    process.stdout.write(`${generalHelp()}\n`)
    return
  }
  if (first === '--version' || first === '-v') {
    const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
    process.stdout.write(`${(JSON.parse(manifest) as { version: string }).version}\n`)
    return
  }
  if (!Object.hasOwn(commandOptions, first)) {
    const names = Object.keys(commandOptions)
    throw usage(`there is no command '${first}'${suggestion(first, names)} the commands are ${names.join(', ')}`)
  }
  const command = first as CommandName
  const own: OptionSpecs = commandOptions[command]
  const helping = rest.includes('--help') || rest.includes('-h')
  // Which options exist depends on the backend, so it is looked for before the options are.
  const takesModel = modelCommands.has(command)
  const named = !takesModel || helping ? 'auto' : (peekFlag(rest, 'offload-backend') ?? 'auto')
  const chosen = await chooseBackends(named, own)
  if (helping) {
    process.stdout.write(`${helpOf(command, chosen.flags)}\n`)
    return
  }
  const flags = [...flagsOf(own), ...(takesModel ? [...chosen.flags, ...chosen.ignored] : [])]
  const values = parseArguments(rest, flags, commandOperands[command])
  await commands[command]({ given: givenOf(own, values), values, chosen, output, signal })
}

/** Two words are one command's name. There is one `bench` so far, whose help is that of both words. */
function commandWords(words: readonly string[]): readonly string[] {
  const [first, second, ...rest] = words
  if (first !== 'bench' || second === undefined) return words
  return second === '--help' || second === '-h' ? ['bench link', second] : [`bench ${second}`, ...rest]
}

const commands: Readonly<Record<CommandName, (invocation: Invocation) => Promise<void>>> = {
  run,
  logits,
  doctor,
  memory,
  'bench link': benchLink,
}

const words = process.argv.slice(2)
const output = new Output(words.includes('--json'))
const interrupt = new AbortController()
process.on('SIGINT', () => {
  // A second one means that giving back takes too long for whoever waits.
  if (interrupt.signal.aborted) process.exit(130)
  interrupt.abort()
})
// The reader of our output went away (`| head`): nobody is left to write for.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  new Output(false).error(new SpillwayError('SPILLWAY_OUTPUT', `stdout cannot be written: ${error.message}`))
  process.exit(1)
})
// What is said about the result may be lost; the result must not be.
process.stderr.on('error', () => undefined)
// Node's own way to print a warning is for programmers, and breaks into the line of progress.
const printers = process.listeners('warning')
process.removeAllListeners('warning').on('warning', (warning: Error & { code?: string }) => {
  // There is none with --no-warnings.
  if (warning.name !== 'SpillwayWarning') for (const print of printers) print.call(process, warning)
  else if (printers.length > 0) output.note(`warning: ${warning.message} (${warning.code})`)
})

try {
  await main(words, output, interrupt.signal)
} catch (error) {
  if (interrupt.signal.aborted && isSpillwayError(error, 'SPILLWAY_ABORTED')) {
    output.error(new SpillwayError('SPILLWAY_ABORTED', 'interrupted'))
    process.exitCode = 130
  } else {
    output.error(error)
    process.exitCode = isSpillwayError(error, 'SPILLWAY_USAGE') ? 2 : 1
  }
}
