// @ts-check
/** @import { Against, Figure, Unit } from './result.ts' */

/** @param {readonly number[]} values at least one */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.slice(Math.floor((sorted.length - 1) / 2), Math.floor(sorted.length / 2) + 1)
  return middle.reduce((sum, value) => sum + value) / middle.length
}

/**
 * @param {string} name
 * @param {Unit} unit
 * @param {readonly number[]} samples at least one
 * @param {Against} [against]
 * @returns {Figure}
 */
export function figure(name, unit, samples, against) {
  const middle = median(samples)
  const own = { name, unit, samples, median: middle, min: Math.min(...samples), max: Math.max(...samples) }
  return against === undefined ? own : { ...own, against, ratio: middle / against.value }
}

/**
 * `per`: how much of the other's unit one of this figure's needs, such as bytes a token.
 * @param {Against['kind']} kind
 * @param {Figure} other
 * @param {number} [per]
 * @returns {Against}
 */
export function against(kind, other, per = 1) {
  return { kind, figure: other.name, per, value: other.median / per }
}
