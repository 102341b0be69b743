import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One call of a program, as symbols: see program.mjs. */
interface Step {
  readonly id: number
  readonly call: string
}
export interface Program {
  readonly name: string
  readonly steps: readonly Step[]
}

export type FuzzRequest = (
  | { readonly mode: 'systematic' }
  | { readonly mode: 'random'; readonly seed: number; readonly count: number; readonly length: number }
  | { readonly mode: 'programs'; readonly programs: readonly Program[] }
) & {
  /** One of planted-defects.mjs. */
  readonly defect?: string
  /** A promise that takes longer hangs. Default: 20 seconds, a thousand times what anything takes. */
  readonly longestMs?: number
}

export interface Problem {
  readonly what: 'not coded' | 'hang' | 'leak' | 'unhandled' | 'crash'
  readonly program: string
  readonly step?: number
  readonly call?: string
  readonly text: string
  readonly times: number
}

export interface FuzzReport {
  readonly problems: readonly Problem[]
  readonly calls: number
  readonly outcomes: Readonly<Record<string, number>>
  readonly succeeded: Readonly<Record<string, number>>
  /** Every public method, getter and function, as public-api.mjs names them. */
  readonly members: readonly string[]
}

const child = fileURLToPath(new URL('./child.mjs', import.meta.url))
const shownCalls = 12

/** Runs programs in a process of their own. A crash, or an end without a report, is a problem like others. */
export async function fuzz(request: FuzzRequest): Promise<FuzzReport> {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-fuzz-'))
  const journal = join(folder, 'journal')
  try {
    const { code, signal, output, errors } = await runChild(journal, JSON.stringify(request))
    if (code === 0 && output !== '') return JSON.parse(output) as FuzzReport
    const lines = readFileSync(journal, 'utf8').trimEnd().split('\n')
    const [, program = '', step] = /^(.*?) (?:(\{.*\})|ends)$/.exec(lines.at(-1)!) ?? []
    const last = step === undefined ? undefined : (JSON.parse(step) as Step)
    const text = [
      signal === null ? `ended with code ${code}` : `was killed by ${signal}`,
      errors.trim(),
      `The last calls, the last one last:\n${lines.slice(-shownCalls).join('\n')}`,
    ]
    const where = last === undefined ? {} : { step: last.id, call: last.call }
    const crash: Problem = {
      what: 'crash',
      program,
      ...where,
      text: text.filter((one) => one !== '').join('\n'),
      times: 1,
    }
    return { problems: [crash], calls: lines.length, outcomes: {}, succeeded: {}, members: [] }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly output: string
  readonly errors: string
}

function runChild(journal: string, input: string): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const process_ = spawn(process.execPath, [child, journal], { stdio: 'pipe' })
    let [output, errors, idle] = ['', '', 0]
    let size = 0
    // A call that never returns keeps the child from telling so itself.
    const watch = setInterval(() => {
      const now = readFileSync(journal, { flag: 'a+' }).length
      idle = now === size ? idle + 1 : 0
      size = now
      if (idle > 30) process_.kill('SIGKILL')
    }, 2000)
    process_.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    process_.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    process_.on('error', reject)
    process_.on('close', (code, signal) => {
      clearInterval(watch)
      resolve({ code, signal, output, errors })
    })
    process_.stdin.on('error', () => undefined)
    process_.stdin.end(input)
  })
}

/** Fewer steps of `program` with the same problem, by leaving out ever smaller parts; at most `runs` runs. */
export async function shrink(
  program: Program,
  problem: Problem,
  more: { readonly defect?: string; readonly longestMs?: number } = {},
  runs = 80,
): Promise<Program> {
  const fails = async (steps: readonly Step[]) => {
    const { problems } = await fuzz({ ...more, mode: 'programs', programs: [{ name: program.name, steps }] })
    return problems.some(({ what, call }) => what === problem.what && call === problem.call)
  }
  let left = runs
  const end = problem.step === undefined ? -1 : program.steps.findIndex(({ id }) => id === problem.step)
  let { steps } = program
  if (end >= 0 && (await fails(steps.slice(0, end + 1)))) steps = steps.slice(0, end + 1)
  for (let part = Math.ceil(steps.length / 2); part >= 1 && left > 0; part = part === 1 ? 0 : Math.ceil(part / 2)) {
    for (let from = 0; from < steps.length && left > 0; left--) {
      const fewer = [...steps.slice(0, from), ...steps.slice(from + part)]
      if (fewer.length < steps.length && (await fails(fewer))) steps = fewer
      else from += part
    }
  }
  return { name: program.name, steps }
}
