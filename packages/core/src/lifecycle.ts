import { SpillwayError } from './errors.js'

export type LifecycleState = 'new' | 'wrapped' | 'ready' | 'failed' | 'disposed'

const advice: Readonly<Record<LifecycleState, string>> = {
  new: 'call wrapModules first',
  wrapped: 'call postInit first',
  ready: 'that comes before postInit',
  failed: 'an earlier failure left it unusable (see cause); dispose it and make another',
  disposed: 'make another',
}

/** Where an offloader is in its life, and which of its asynchronous calls is running: one at a time. */
export class Lifecycle {
  #state: LifecycleState = 'new'
  #failure: unknown
  #running: string | undefined
  #settled: Promise<unknown> = Promise.resolve()
  readonly #disposal = new AbortController()

  get state(): LifecycleState {
    return this.#state
  }

  /** Name of the call in progress. */
  get running(): string | undefined {
    return this.#running
  }

  /** Fires when the offloader is disposed, so that what is running stops. */
  get disposal(): AbortSignal {
    return this.#disposal.signal
  }

  /** Throws SPILLWAY_DISPOSED or SPILLWAY_INVALID_STATE unless the present state is one of `allowed`. */
  require(call: string, allowed: readonly LifecycleState[]): void {
    if (allowed.includes(this.#state)) return
    if (this.#state === 'disposed') {
      throw new SpillwayError('SPILLWAY_DISPOSED', `${call}: this offloader has been disposed; make another`)
    }
    throw new SpillwayError('SPILLWAY_INVALID_STATE', `${call} cannot be called now: ${advice[this.#state]}`, {
      details: { call, state: this.#state },
      cause: this.#failure,
    })
  }

  requireIdle(call: string): void {
    if (this.#running === undefined) return
    throw new SpillwayError(
      'SPILLWAY_INVALID_STATE',
      `${call} cannot be called while ${this.#running} is running; wait for its promise`,
      { details: { call, running: this.#running } },
    )
  }

  /** Runs `body` alone. */
  async run<T>(call: string, allowed: readonly LifecycleState[], body: () => Promise<T>): Promise<T> {
    this.require(call, allowed)
    this.requireIdle(call)
    this.#running = call
    const result = (async () => body())().finally(() => {
      this.#running = undefined
    })
    this.#settled = result.catch(() => undefined)
    return result
  }

  advance(state: 'wrapped' | 'ready'): void {
    if (this.#state !== 'disposed' && this.#state !== 'failed') this.#state = state
  }

  /** From here on only disposing is possible. */
  fail(failure: unknown): void {
    if (this.#state === 'disposed' || this.#state === 'failed') return
    this.#state = 'failed'
    this.#failure = failure
  }

  /** No call gets through any more; resolves when the one that was running has settled. */
  async close(): Promise<void> {
    this.#state = 'disposed'
    this.#disposal.abort()
    await this.#settled
  }
}
