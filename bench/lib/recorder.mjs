// @ts-check
import { figure } from './figure.mjs'

/** @import { Peer } from './peer.mjs' */
/** @import { Against, BenchmarkResult, Check, Figure, Unit } from './result.ts' */

/** Collects what one benchmark has to say, so that it is there when the benchmark breaks off. */
export class Recorder {
  /** @readonly */ name
  /** @type {Record<string, string | number | boolean>} */
  #parameters = {}
  /** @type {Figure[]} */
  #figures = []
  /** @type {Check[]} */
  #checks = []
  /** @type {string[]} */
  #notes = []

  /** @param {string} name */
  constructor(name) {
    this.name = name
  }

  /** @param {Readonly<Record<string, string | number | boolean>>} parameters */
  parameters(parameters) {
    Object.assign(this.#parameters, parameters)
  }

  /**
   * @param {string} name
   * @param {Unit} unit
   * @param {readonly number[]} samples
   * @param {Against} [against]
   */
  figure(name, unit, samples, against) {
    if (this.#figures.some((other) => other.name === name)) throw new Error(`two figures are called '${name}'`)
    const made = figure(name, unit, samples, against)
    this.#figures.push(made)
    return made
  }

  /**
   * One that was recorded.
   * @param {string} name
   */
  recorded(name) {
    const found = this.#figures.find((one) => one.name === name)
    if (found === undefined) throw new Error(`no figure is called '${name}'`)
    return found
  }

  /** @param {Check} check */
  check(check) {
    this.#checks.push(check)
  }

  /**
   * Held against what the device counted.
   * @param {string} name
   * @param {number} counted
   * @param {number} expected
   */
  checkEqual(name, counted, expected) {
    this.check({ name, passed: counted === expected, detail: `${counted} counted, ${expected} expected` })
  }

  /** @param {string} text */
  note(text) {
    this.#notes.push(text)
  }

  /** @param {Peer} peer */
  peer({ versions, notes }) {
    this.parameters(versions)
    for (const text of notes) this.note(text)
  }

  /**
   * @param {string} [error]
   * @returns {BenchmarkResult}
   */
  result(error) {
    return {
      name: this.name,
      parameters: this.#parameters,
      figures: this.#figures,
      checks: this.#checks,
      notes: this.#notes,
      ...(error === undefined ? {} : { error }),
    }
  }
}
