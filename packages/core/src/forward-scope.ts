import type { Fence, ForwardSteps } from './backend.js'
import type { Stream } from './device.js'
import { SpillwayError, toSpillwayError } from './errors.js'
import { printable } from './printable.js'

/** What the body of `Offloader.forward` gets: core ends the scope itself. */
export type ForwardBody = Pick<ForwardSteps, 'before' | 'after'>

export interface ForwardScopeOptions {
  readonly stream: Stream
  readonly steps: ForwardSteps
  /** Name of the placement backend, for error texts. */
  readonly backend: string
  readonly knows: (module: string) => boolean
  /** The wake fence of a module; undefined without a residency backend. */
  readonly fence: ((module: string) => Fence) | undefined
  /** Called once, when the scope is over. `failure`: the backend could not even end it. */
  readonly ended: (ok: boolean, failure: unknown) => void
}

/**
 * One forward: `before(m)`, the module's kernels, `after(m)`, and so on, then `end`. Modules may be left out or come
 * again; they do not nest. Whatever goes wrong, the backend's own scope is ended exactly once, with ok=false.
 */
export class ForwardScope implements ForwardSteps {
  readonly #options: ForwardScopeOptions
  /** The module between its before and its after. */
  #inside: string | undefined
  #over = false

  constructor(options: ForwardScopeOptions) {
    this.#options = options
  }

  before(module: string): void {
    this.#guarded('before', module, () => {
      if (this.#inside !== undefined) throw order(`before(${printable(module)}) while ${this.#inside} is not finished`)
      this.#inside = module
      this.#waitForWake(module)
      this.#options.steps.before(module)
    })
  }

  after(module: string): void {
    this.#guarded('after', module, () => {
      if (this.#inside !== module) throw order(`after(${printable(module)}) without before(${printable(module)})`)
      this.#inside = undefined
      this.#options.steps.after(module)
    })
  }

  /** `end(false)` on a scope that is over does nothing, so that it can stand in a catch or finally. */
  end(ok: boolean): void {
    if (this.#over) {
      if (ok) throw order('end(true) on a forward that is over')
      return
    }
    const inside = this.#inside
    if (ok && inside !== undefined) {
      this.#end(false)
      throw order(`end(true) while ${inside} is not finished`)
    }
    const failure = this.#end(ok)
    if (failure !== undefined) throw failure
  }

  #guarded(call: 'before' | 'after', module: string, body: () => void): void {
    if (this.#over) throw order(`${call}(${printable(module)}) on a forward that is over`)
    try {
      if (!this.#options.knows(module)) throw order(`${call}(${printable(module)}), which was never wrapped`)
      body()
    } catch (error) {
      this.#end(false)
      throw toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#options.backend} failed in ${call}`)
    }
  }

  // In a capture the wait is always recorded: the graph may be replayed after a sleep that has not happened yet.
  #waitForWake(module: string): void {
    const { fence, stream } = this.#options
    if (fence === undefined) return
    const { event, open } = fence(module)
    if (stream.capturing) stream.wait(event, { external: true })
    else if (!open) stream.wait(event)
  }

  #end(ok: boolean): SpillwayError | undefined {
    this.#over = true
    let failure: SpillwayError | undefined
    try {
      this.#options.steps.end(ok)
    } catch (error) {
      failure = toSpillwayError(
        error,
        'SPILLWAY_BACKEND_FAILED',
        `backend ${this.#options.backend} failed in end(${ok})`,
      )
    }
    this.#options.ended(ok && failure === undefined, failure)
    return failure
  }
}

function order(what: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_FORWARD_ORDER',
    `${what}; call before(m), then after(m), for one module after another, then end`,
  )
}
