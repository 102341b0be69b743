// @ts-check
import { against } from './figure.mjs'
import { interleave } from './interleave.mjs'
import { roundsOf } from './limits.mjs'

/** @import { Context } from './benchmark.ts' */
/** @import { Recorder } from './recorder.mjs' */
/** @import { Figure, Unit } from './result.ts' */

/**
 * @typedef {object} Subject
 * @property {() => Promise<number>} sample
 * @property {string} [limit] the name of an earlier subject that this one is held against
 */

/**
 * Measures subjects of one unit in turn and records a figure of each, by its name.
 * @param {Recorder} recorder
 * @param {Context} context
 * @param {Unit} unit
 * @param {Readonly<Record<string, Subject>>} subjects
 */
export async function measure(recorder, context, unit, subjects) {
  const samplers = Object.fromEntries(Object.entries(subjects).map(([name, { sample }]) => [name, sample]))
  const samples = await interleave(samplers, { ...context, rounds: roundsOf(context) })
  /** @type {Map<string | undefined, Figure>} */
  const figures = new Map()
  for (const [name, { limit }] of Object.entries(subjects)) {
    const other = figures.get(limit)
    figures.set(name, recorder.figure(name, unit, samples(name), other && against('limit', other)))
  }
  return samples
}
