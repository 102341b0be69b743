// Runs programs (program.mjs) against the built package and says what was not as it must be: a call either succeeds or
// fails with a coded error, and at the end nothing is left.
import { readdirSync } from 'node:fs'
import { types } from 'node:util'
import { hostileValues, PlannedError } from './hostile-values.mjs'
import { isEnded, memoryFiles, until, whatIsLeft } from './leftovers.mjs'
import { calls, classNames, parts } from './public-api.mjs'

const skipped = Symbol('skipped')
const callsByName = new Map(calls.map((call) => [call.name, call]))
/**
 * @typedef {object} Problem
 * @property {'not coded' | 'hang' | 'leak' | 'unhandled'} what
 * @property {string} program
 * @property {number} [step]
 * @property {string} [call]
 * @property {string} text
 * @property {number} times
 */

export class Interpreter {
  #library
  #journal
  #knownCodes
  #longestMs
  #prototypes
  #program
  /** What steps made, by their ids, and of which kind it should be. */
  #made
  #kinds
  #promises
  /** @type {Map<string, Problem>} One of each: call, kind and place. */
  #problems = new Map()
  calls = 0
  /** How the calls ended: `ok` or the code. */
  outcomes = {}
  /** How often each call succeeded. */
  succeeded = {}

  /**
   * @param library     the package, and `kernel(stream, buffer, offset, bytes, mode, parallel)`
   * @param journal     is called with every call before it is made
   * @param knownCodes  the codes a failure may have
   * @param longestMs   a promise that takes longer hangs
   */
  constructor(library, journal, knownCodes, longestMs) {
    this.#longestMs = longestMs
    this.#library = library
    this.#journal = journal
    this.#knownCodes = knownCodes
  }

  /** @returns {Problem[]} */
  get problems() {
    return [...this.#problems.values()]
  }

  async prepare() {
    const device = await this.#library.openDevice('host', { check: true, memoryLimitBytes: 2 ** 20, threads: 1 })
    this.#prototypes = Object.fromEntries(
      Object.entries(classNames).map(([kind, name]) => [kind, this.#library[name].prototype]),
    )
    for (const part of parts) this.#prototypes[part] = Object.getPrototypeOf(device[part])
    await device.dispose()
  }

  /** Members of the public classes and functions of the package, as `calls` would name them. */
  everyMember() {
    const names = Object.entries(this.#prototypes).flatMap(([kind, prototype]) =>
      membersOf(prototype).map((member) => `${kind}.${String(member)}`),
    )
    for (const [name, value] of Object.entries(this.#library.publicExports)) {
      const isClass = Object.values(classNames).includes(name)
      if (typeof value === 'function') names.push(isClass ? `new ${name}` : name)
    }
    return names
  }

  async run(program) {
    this.#program = program.name
    this.#made = new Map()
    this.#kinds = new Map(program.steps.map(({ id, call }) => [id, callsByName.get(call).makes]))
    this.#promises = []
    for (const step of program.steps) await this.#step(step)
    await this.#end()
  }

  problem(what, text, step) {
    const where = step === undefined ? {} : { step: step.id, call: step.call }
    const key = [what, step?.call, text.replace(/\d+/g, '#')].join()
    const known = this.#problems.get(key)
    if (known !== undefined) known.times++
    else this.#problems.set(key, { what, program: this.#program ?? 'before the first', ...where, text, times: 1 })
  }

  async #step(step) {
    this.#journal(`${this.#program} ${JSON.stringify(step)}`)
    this.calls++
    const call = callsByName.get(step.call)
    let result
    try {
      const args = step.args.map((symbol) => this.#value(symbol))
      result = this.#invoke(call, step, args)
    } catch (error) {
      this.#judge(error, step)
      return
    }
    if (result === skipped) {
      this.calls--
      this.#count('skipped')
      return
    }
    if (!types.isPromise(result)) {
      this.#succeeded(step, result)
      return
    }
    const settled = result.then(
      (value) => this.#succeeded(step, value),
      (error) => this.#judge(error, step),
    )
    if (step.settled) await this.#within(settled, step)
    else this.#promises.push([settled, step])
  }

  #invoke(call, step, args) {
    if (call.how === 'function') return this.#library[call.name](...args)
    if (call.how === 'construct') return Reflect.construct(this.#library[call.name.slice(4)], args)
    const target = this.#value(step.on)
    // No program can call something on nothing.
    if (target === undefined && 'ref' in step.on) return skipped
    if (call.how === 'kernel') return this.#library.kernel(target, ...args)
    const { get, value } = findMember(this.#prototypes[call.on], call.member)
    return Reflect.apply(get ?? value, target, args)
  }

  #succeeded(step, value) {
    this.#count('ok')
    this.succeeded[step.call] = (this.succeeded[step.call] ?? 0) + 1
    // Others may hand back what they were given, traps and all.
    if (callsByName.get(step.call).makes !== undefined) this.#made.set(step.id, value)
  }

  #count(outcome) {
    this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1
  }

  #judge(error, step) {
    const problem = whyNotCoded(error, this.#knownCodes)
    if (problem === undefined) this.#count(error.code)
    else this.problem('not coded', problem, step)
  }

  async #within(promise, step) {
    let timer
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve('late'), this.#longestMs)
    })
    try {
      if ((await Promise.race([promise, late])) === 'late') {
        this.problem('hang', `a promise did not settle in ${this.#longestMs} ms`, step)
      }
    } finally {
      clearTimeout(timer)
    }
  }

  #value(symbol) {
    if ('hostile' in symbol) return hostileValues.get(symbol.hostile)()
    if ('part' in symbol) return this.#object(symbol.ref)?.[symbol.part]
    if ('ref' in symbol) return this.#object(symbol.ref)
    if ('native' in symbol) return this.#native(symbol.native)
    if ('proxy' in symbol) return new Proxy(this.#value(symbol.proxy) ?? {}, {})
    if ('inherits' in symbol) return Object.create(this.#value(symbol.inherits) ?? null)
    if ('list' in symbol) return symbol.list.map((element) => this.#value(element))
    if ('bigint' in symbol) return BigInt(symbol.bigint)
    if ('object' in symbol) return this.#options(symbol.object)
    if ('bytes' in symbol) return new Uint8Array(symbol.bytes).fill(symbol.of)
    if ('signal' in symbol) return signal(symbol.signal)
    if ('callback' in symbol) return () => {}
    return symbol.value
  }

  #native(step) {
    try {
      return this.#library.handleOf(this.#object(step))
    } catch {
      return undefined
    }
  }

  /** What a step made; where it failed, the last other thing of that kind. */
  #object(step) {
    const made = this.#made.get(step)
    if (made !== undefined) return made
    const kind = this.#kinds.get(step)
    return [...this.#made].findLast(([id]) => this.#kinds.get(id) === kind)?.[1]
  }

  #options(fields) {
    const result = {}
    for (const [name, symbol] of Object.entries(fields)) {
      if ('getter' in symbol) {
        const { disposes, value } = symbol.getter
        const get = () => {
          const victim = this.#object(disposes)
          if (typeof victim?.dispose === 'function')
            this.#promises.push([this.#dispose(victim), { id: disposes, call: 'a getter' }])
          return this.#value(value)
        }
        Object.defineProperty(result, name, { get, enumerable: true })
      } else {
        result[name] = this.#value(symbol)
      }
    }
    return result
  }

  /** Disposes everything, checks that nothing is left. */
  async #end() {
    this.#journal(`${this.#program} ends`)
    for (const [promise, step] of this.#promises) await this.#within(promise, step)
    const devices = new Set()
    const rest = new Set()
    for (const object of this.#made.values()) {
      if (object instanceof this.#library.NativeDevice) devices.add(object)
      else if (typeof object.dispose === 'function') rest.add(object)
    }
    this.#made.clear()
    // Two objects may stand for one handle (`new NativeStream(handleOf(stream))`): disposing is per handle.
    for (const object of rest) await this.#dispose(object)
    rest.clear()
    for (const device of devices) await this.#endDevice(device)
  }

  async #endDevice(device) {
    const left = () => whatIsLeft(device)
    const ended = () => isEnded(device)
    const quiet = () => ended() || left() === ''
    if (!(await until(quiet, this.#longestMs / 10))) {
      const before = left()
      if (await until(quiet, this.#longestMs / 4, true)) {
        this.problem('leak', `nobody could dispose it, the garbage collector freed it: ${before}`)
      } else {
        this.problem('leak', left())
      }
    }
    await this.#dispose(device)
  }

  async #dispose(object) {
    const step = { id: -1, call: `${object.kind}.dispose at the end` }
    try {
      await this.#within(object.dispose(), step)
    } catch (error) {
      this.#judge(error, step)
    }
  }

  /** After the last program: memory files and threads, which also devices that a program disposed must give back. */
  async checkProcess(threadsBefore) {
    const left = () => {
      const files = memoryFiles()
      const threads = readdirSync('/proc/self/task').length
      return [
        ...(files === 0 ? [] : [`${files} memory files of devices are open`]),
        ...(threads <= threadsBefore ? [] : [`${threads} threads, ${threadsBefore} before`]),
      ].join(', ')
    }
    if (!(await until(() => left() === '', this.#longestMs / 2, true))) this.problem('leak', left())
  }
}

/** What is wrong with an error; undefined when it is as it should be. */
function whyNotCoded(error, knownCodes) {
  if (error instanceof PlannedError) return 'what an argument threw came through as it is'
  if (typeof error !== 'object' || error === null) return `${String(error)} was thrown`
  const { name, code, message } = error
  if (name !== 'SpillwayError' || typeof code !== 'string') {
    const place = /[\w.-]+:\d+(?=:\d+\)?$)/m.exec(String(error.stack))
    return `${name}: ${message} (${place?.[0]})`
  }
  if (!knownCodes.has(code)) return `${code} is no code of docs/ERRORS.md: ${message}`
  if (code === 'SPILLWAY_INTERNAL') return `${code}: ${message}`
  if (typeof message !== 'string' || message.trim() === '') return `${code} without a message`
  return undefined
}

function signal(how) {
  if (how === 'aborted') return AbortSignal.abort()
  const controller = new AbortController()
  if (how === 'soon') setImmediate(() => controller.abort())
  return controller.signal
}

function membersOf(prototype) {
  const members = new Set()
  for (let from = prototype; from !== Object.prototype && from !== null; from = Object.getPrototypeOf(from)) {
    for (const member of Reflect.ownKeys(from)) if (member !== 'constructor') members.add(member)
  }
  return [...members]
}

function findMember(prototype, member) {
  for (let from = prototype; from !== null; from = Object.getPrototypeOf(from)) {
    const descriptor = Object.getOwnPropertyDescriptor(from, member)
    if (descriptor !== undefined) return descriptor
  }
  throw new Error(`no member ${String(member)}`)
}
