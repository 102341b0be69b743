// @ts-check
// npm run bench:report [-- FOLDER]: README.md and ratios.svg, made of the JSON files beside them. Of each benchmark on
// each machine the newest counts; quick runs say nothing.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { drawRatios } from './lib/ratio-chart.mjs'
import { resultProblems } from './lib/result-check.mjs'
import { columns, formatCommit, formatHardware, row } from './lib/table.mjs'

/** @import { BenchmarkResult, RunResult } from './lib/result.ts' */
/** @typedef {{ file: string, run: RunResult, benchmark: BenchmarkResult }} Entry */

const folder = process.argv[2] ?? fileURLToPath(new URL('results', import.meta.url))
const entries = newestOf(readEntries())
writeFileSync(
  join(folder, 'ratios.svg'),
  drawRatios(entries.map((entry) => ({ title: title(entry), figures: entry.benchmark.figures }))),
)
writeFileSync(join(folder, 'README.md'), page())

/** @returns {Entry[]} the newest first */
function readEntries() {
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
  const runs = files.map((file) => {
    const run = /** @type {RunResult} */ (JSON.parse(readFileSync(join(folder, file), 'utf8')))
    const problems = resultProblems(run)
    if (problems.length > 0) throw new Error(`${file}: ${problems.join('; ')}`)
    return { file, run }
  })
  return runs
    .filter(({ run }) => !run.quick)
    .sort((a, b) => b.run.date.localeCompare(a.run.date))
    .flatMap(({ file, run }) => run.benchmarks.map((benchmark) => ({ file, run, benchmark })))
}

/** @param {readonly Entry[]} all the newest first */
function newestOf(all) {
  /** @type {Map<string, Entry>} */
  const newest = new Map()
  for (const entry of all) {
    const key = `${entry.run.hardware.gpu?.name ?? entry.run.hardware.cpu.model} ${entry.benchmark.name}`
    if (entry.benchmark.figures.length > 0 && !newest.has(key)) newest.set(key, entry)
  }
  return [...newest.values()]
}

function page() {
  return [
    '# Results\n',
    'Made by `npm run bench:report` of the JSON files beside it: the newest of each benchmark on each machine.',
    '[docs/BENCHMARKS.md](../../docs/BENCHMARKS.md) says how they are measured and what they mean.\n',
    '![Shares of their limits](ratios.svg)\n',
    ...entries.map(section),
  ].join('\n')
}

/** @param {Entry} entry */
function title({ run, benchmark }) {
  return `${benchmark.name}, ${run.hardware.gpu?.name ?? 'host device'}`
}

/** @param {Entry} entry */
function section(entry) {
  const { file, run, benchmark } = entry
  const { parameters, figures, checks, notes, error } = benchmark
  const failed = checks.filter(({ passed }) => !passed).map((check) => `**Failed:** ${check.name}: ${check.detail}`)
  const broken = error === undefined ? [] : [`**Broken off:** ${error.split('\n')[0]}`]
  const versions = Object.entries(run.versions).map(([what, version]) => `${what} ${version}`)
  const told = Object.entries(parameters).map(([what, value]) => `${what}: ${value}`)
  return [
    `## ${title(entry)}\n`,
    `${[formatHardware(run.hardware), run.hardware.system, ...versions].join('; ')}.`,
    `${run.date.slice(0, 10)}, ${formatCommit(run.commit)}; [${file}](${file}).\n`,
    `${told.join('; ')}.\n`,
    `| ${columns.join(' | ')} |\n| --- | ---: | --- | --- | ---: |`,
    ...figures.map((figure) => `| ${row(figure).join(' | ')} |`),
    `\n${[`${checks.length - failed.length} of ${checks.length} checks passed.`, ...failed, ...broken, ...notes].join('\n\n')}\n`,
  ].join('\n')
}
