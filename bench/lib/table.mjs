// @ts-check
import { formatBytes } from './spillway.mjs'

/** @import { BenchmarkResult, Figure, Hardware, RunResult, Unit } from './result.ts' */

/**
 * A number for people. Rates in powers of ten, as links and memories are sold; sizes in powers of two.
 * @param {number} value
 * @param {Unit} unit
 */
function formatValue(value, unit) {
  if (unit === 'bytes') return formatBytes(value)
  if (unit === 'times') return `${value.toFixed(3)} ×`
  if (unit === 's') return `${scaled(value * 1e6)} µs`
  if (unit === 'tokens/s') return `${scaled(value)} tokens/s`
  return value >= 1e12 ? `${scaled(value / 1e12)} TB/s` : `${scaled(value / 1e9)} GB/s`
}

/** Three significant digits. @param {number} value */
function scaled(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}

/** @param {Figure} figure */
export function formatRatio({ ratio, against }) {
  if (ratio === undefined || against === undefined) return ''
  return against.kind === 'peer' ? `${ratio.toFixed(2)} ×` : `${(100 * ratio).toFixed(1)} %`
}

/** @param {Figure} figure */
function formatAgainst({ unit, against }) {
  if (against === undefined) return ''
  return `${against.figure}${against.per === 1 ? '' : `: ${formatValue(against.value, unit)}`}`
}

/** @param {Hardware} hardware */
export function formatHardware({ gpu, cpu, memoryBytes }) {
  const host = `${cpu.threads} threads of ${cpu.model}, ${formatBytes(memoryBytes)}`
  if (gpu === null) return `host device: ${host}`
  return `${gpu.name}, driver ${gpu.driver ?? 'unknown'}, CUDA ${gpu.cuda}; ${host}`
}

/** @param {RunResult['commit']} commit */
export function formatCommit(commit) {
  if (commit === null) return 'unknown commit'
  return `commit ${commit.id.slice(0, 12)}${commit.dirty ? ', with changes' : ''}`
}

export const columns = ['', 'median', 'min … max', 'of', 'ratio']

/** @param {Figure} figure */
export function row(figure) {
  const { name, unit, median, min, max, samples } = figure
  const range = samples.length === 1 ? '' : `${formatValue(min, unit)} … ${formatValue(max, unit)}`
  return [name, formatValue(median, unit), range, formatAgainst(figure), formatRatio(figure)]
}

/**
 * One benchmark for a terminal.
 * @param {BenchmarkResult} result
 */
export function formatBenchmark({ name, parameters, figures, checks, notes, error }) {
  const cells = [columns, ...figures.map(row)]
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i]?.length ?? 0)))
  const lines = cells.map((line) =>
    line
      .map((cell, i) => (i === 1 || i === 4 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
  const failed = checks.filter(({ passed }) => !passed)
  return [
    `${name}: ${parameters.model ?? 'limits'}`,
    ...(figures.length === 0 ? [] : lines).map((line) => `  ${line}`),
    ...(checks.length === 0 ? [] : [`  checks: ${checks.length - failed.length} passed, ${failed.length} failed`]),
    ...failed.map((check) => `  FAILED ${check.name}: ${check.detail}`),
    ...notes.map((note) => `  note: ${note}`),
    ...(error === undefined ? [] : [`  BROKEN OFF: ${error}`]),
  ].join('\n')
}
