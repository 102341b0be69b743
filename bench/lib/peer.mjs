// @ts-check
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** @import { ChildProcess } from 'node:child_process' */

/**
 * Another system, in a process beside ours, that takes a sample when it is told to: so the two take turns in one run. It
 * writes one JSON object a line: first `{ "versions": {}, "subjects": [], "notes": [] }` or `{ "unavailable": reason }`;
 * then, for each line of its standard input, which names a subject, `{ "amount": number, "seconds": number }`. Dispose it.
 */
export class Peer {
  /** Of what it is made of. @type {Readonly<Record<string, string>>} */
  versions = {}
  /** What it can sample; nothing when it is not there. @type {readonly string[]} */
  subjects = []
  /** What it cannot, and why. @type {readonly string[]} */
  notes = []
  #child
  #lines
  #errors = ''

  /**
   * @param {string} command
   * @param {readonly string[]} args
   * @param {AbortSignal} signal ends it
   */
  static async start(command, args, signal) {
    const child = spawn(command, args, { signal, killSignal: 'SIGKILL' })
    const peer = new Peer(child)
    try {
      await once(child, 'spawn')
      const { unavailable, versions = {}, subjects = [], notes = [] } = await peer.#answer()
      peer.versions = versions
      peer.subjects = subjects
      peer.notes = unavailable === undefined ? notes : [`not measured: ${unavailable}`]
    } catch (error) {
      signal.throwIfAborted()
      child.kill('SIGKILL')
      // What is ours can be measured without it.
      peer.notes = [`not measured: ${command} did not start: ${/** @type {Error} */ (error).message}`]
    }
    return peer
  }

  /**
   * A script of bench/peers.
   * @param {string} script
   * @param {readonly (string | number)[]} args
   * @param {AbortSignal} signal
   */
  static startPython(script, args, signal) {
    const path = fileURLToPath(new URL(`../peers/${script}`, import.meta.url))
    return Peer.start('python3', ['-B', path, ...args.map(String)], signal)
  }

  /** @param {ChildProcess} child */
  constructor(child) {
    this.#child = child
    // Its end shows at the next answer.
    child.on('error', () => {})
    child.stdin?.on('error', () => {})
    child.stderr?.on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-2000)
    })
    this.#lines = createInterface({ input: /** @type {NodeJS.ReadableStream} */ (child.stdout) })[
      Symbol.asyncIterator
    ]()
  }

  /** One of each subject, by its name: amount a second. */
  get samplers() {
    return Object.fromEntries(
      this.subjects.map((name) => [
        name,
        async () => {
          this.#child.stdin?.write(`${name}\n`)
          const { amount, seconds } = await this.#answer()
          return amount / seconds
        },
      ]),
    )
  }

  /** Its end, which is that of its standard input. */
  async dispose() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return
    this.#child.stdin?.end()
    await once(this.#child, 'exit')
  }

  /** @returns {Promise<any>} */
  async #answer() {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the peer ended without an answer: ${this.#errors.trim() || 'it said nothing'}`)
    try {
      return JSON.parse(value)
    } catch {
      throw new Error(`the peer answered with something else than JSON: ${value.slice(0, 200)}`)
    }
  }
}
