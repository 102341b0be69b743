// @ts-check
// Benchmarks of the packages as they are built; --help says how. Exit status: 0 done, 1 a benchmark or a check failed,
// 2 wrong usage, 130 interrupted: what was measured before is written all the same.
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { benchmarks } from './benchmarks/index.mjs'
import { help, parseCommandLine, UsageError } from './lib/command-line.mjs'
import { describeCommit, describeHardware } from './lib/machine.mjs'
import { Progress } from './lib/progress.mjs'
import { Recorder } from './lib/recorder.mjs'
import { fileName, outFile, writeResult } from './lib/result-file.mjs'
import { cudaStatus, isSpillwayError, messageOf } from './lib/spillway.mjs'
import { formatBenchmark, formatCommit, formatHardware } from './lib/table.mjs'

/** @import { BenchmarkResult, RunResult } from './lib/result.ts' */

const cache = join(dirname(dirname(fileURLToPath(import.meta.url))), '.cache/bench/')
const interrupt = new AbortController()
process.on('SIGINT', () => {
  // A second one means that giving back takes too long for whoever waits.
  if (interrupt.signal.aborted) process.exit(130)
  interrupt.abort()
})

try {
  process.exitCode = await main(process.argv.slice(2), interrupt.signal)
} catch (error) {
  console.error(error instanceof UsageError ? `${error.message}. --help says more.` : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
}

/**
 * @param {readonly string[]} words
 * @param {AbortSignal} signal
 */
async function main(words, signal) {
  const { names, isWhole, ...options } = parseCommandLine(words, Object.keys(benchmarks))
  const chosen = Object.entries(benchmarks).filter(([name]) => names.includes(name))
  if (options.help) {
    console.log(help)
    return 0
  }
  if (options.list) {
    for (const [name, { summary }] of chosen) console.log(`${name.padEnd(14)}${summary}`)
    return 0
  }
  const { quick, out = cache } = options
  const device = options.device ?? (cudaStatus().available ? 'cuda' : 'host')
  if (device === 'cuda' && !cudaStatus().available) throw new UsageError(`There is no GPU: ${cudaStatus().reason}`)

  /** @type {Omit<RunResult, 'benchmarks'>} */
  const run = {
    schemaVersion: 1,
    date: new Date().toISOString(),
    commit: describeCommit(),
    quick,
    hardware: describeHardware(device),
    versions: { node: process.version },
  }
  const file = outFile(out, fileName(run, isWhole ? ['all'] : names))
  try {
    // Before minutes are spent on what shall be in it.
    writeResult(file, { ...run, benchmarks: [] })
  } catch (error) {
    throw new UsageError(`The result cannot be written: ${messageOf(error)}`)
  }
  console.log(`${formatHardware(run.hardware)}\n${formatCommit(run.commit)}${quick ? '; --quick' : ''}`)

  /** @type {BenchmarkResult[]} */
  const results = []
  const progress = new Progress()
  for (const [name, benchmark] of chosen) {
    const recorder = new Recorder(name)
    progress.begin(name)
    /** @type {string | undefined} */
    let error
    try {
      await benchmark.run({ device, quick, signal, progress: (text) => progress.show(text) }, recorder)
    } catch (thrown) {
      error = signal.aborted ? 'interrupted' : describe(thrown)
      if (!signal.aborted && !isSpillwayError(thrown)) console.error(thrown)
    }
    progress.end()
    results.push(recorder.result(error))
    console.log(`\n${formatBenchmark(recorder.result(error))}`)
    // After each: a machine that is taken away takes only the rest.
    writeResult(file, { ...run, benchmarks: results })
    if (signal.aborted) break
  }
  console.log(`\nwritten: ${relative(process.cwd(), file)}`)
  if (signal.aborted) return 130
  return results.every(({ error, checks }) => error === undefined && checks.every(({ passed }) => passed)) ? 0 : 1
}

/** For the result, which no path of this machine belongs in: without the stack. @param {unknown} error */
function describe(error) {
  return isSpillwayError(error) ? `${error.code}: ${error.message}` : messageOf(error)
}
