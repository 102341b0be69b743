// @ts-check
import { figure } from './figure.mjs'

/** @import { Against, BenchmarkResult, Figure, RunResult } from './result.ts' */

/**
 * What is wrong with the numbers of a result, each as a sentence: a figure that does not follow from its samples, a
 * ratio that does not follow from the figure it names. A table made from it would say what nobody measured.
 * @param {RunResult} result
 */
export function resultProblems({ schemaVersion, benchmarks }) {
  if (schemaVersion !== 1) return [`schema version ${schemaVersion}, 1 expected`]
  return benchmarks.flatMap((benchmark) =>
    benchmark.figures.flatMap((one) =>
      figureProblems(one, benchmark).map((what) => `${benchmark.name}, ${one.name}: ${what}`),
    ),
  )
}

/**
 * @param {Figure} one
 * @param {BenchmarkResult} benchmark
 */
function figureProblems(one, { figures }) {
  const { name, unit, samples, against } = one
  if (samples.length === 0) return ['no samples']
  if (!samples.every((sample) => Number.isFinite(sample) && sample > 0)) return ['a sample is no positive number']
  const problems = against === undefined ? [] : againstProblems(one, against, figures)
  const expected = figure(name, unit, samples, against)
  for (const key of /** @type {const} */ (['median', 'min', 'max', 'ratio'])) {
    if (one[key] !== expected[key]) problems.push(`${key} ${one[key]}, but its samples give ${expected[key]}`)
  }
  return problems
}

/**
 * @param {Figure} one
 * @param {Against} against
 * @param {readonly Figure[]} figures
 */
function againstProblems(one, { figure: name, per, value }, figures) {
  const other = figures.find((candidate) => candidate.name === name)
  if (other === undefined) return [`held against '${name}', which is not there`]
  const problems = []
  if (value !== other.median / per) problems.push(`held against ${value}, but '${name}' gives ${other.median / per}`)
  if (per === 1 && other.unit !== one.unit) problems.push(`${one.unit} held against ${other.unit}`)
  return problems
}
