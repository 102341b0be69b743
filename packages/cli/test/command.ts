import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const cli: string = fileURLToPath(new URL('../dist/cli.js', import.meta.url))

export interface CommandResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunningCommand {
  readonly child: ChildProcess
  readonly result: Promise<CommandResult>
}

/** The built command, as a user runs it. */
export function startSpillway(
  words: readonly string[],
  { cwd, env }: { cwd?: string; env?: Record<string, string> } = {},
): RunningCommand {
  const child = spawn(process.execPath, [cli, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  })
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const result = new Promise<CommandResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, stdout, stderr }))
  })
  return { child, result }
}

export function spillway(
  words: readonly string[],
  options?: Parameters<typeof startSpillway>[1],
): Promise<CommandResult> {
  return startSpillway(words, options).result
}
