import type { Fence, MemorySource, ResidencyState, ResidencySteps, SleepReport, Tag, WakeReport } from './backend.js'
import { SpillwayError, toSpillwayError } from './errors.js'
import type { Lifecycle, LifecycleState } from './lifecycle.js'
import { printable } from './printable.js'

/** A residency backend as an offloader shows it: the offloader disposes it. */
export type OffloaderResidency = Omit<ResidencySteps, 'dispose'>

export interface GuardedResidencyOptions {
  readonly steps: ResidencySteps
  readonly backend: string
  readonly lifecycle: Lifecycle
  /** Throws SPILLWAY_FORWARD_OPEN while a forward is. */
  readonly requireNoForward: (call: string) => void
  /** Settles when no work of the offloader is left that uses device memory. */
  readonly synchronize: () => Promise<void>
  readonly source: (tag: Tag) => MemorySource
}

const alive: readonly LifecycleState[] = ['new', 'wrapped', 'ready']

/** Sleep, wake and discard one at a time, never inside a forward nor while modules are being placed. */
export class GuardedResidency implements OffloaderResidency {
  readonly #options: GuardedResidencyOptions

  constructor(options: GuardedResidencyOptions) {
    this.#options = options
  }

  source(tag: Tag): MemorySource {
    this.#options.lifecycle.require('source', alive)
    return this.#options.source(tag)
  }

  use<T>(tag: Tag, fn: (source: MemorySource) => T): T {
    this.#options.lifecycle.require('use', alive)
    if (typeof fn !== 'function') {
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `use takes a function to call, not ${printable(fn)}`)
    }
    return this.#options.steps.use(tag, fn)
  }

  sleep(options: Parameters<ResidencySteps['sleep']>[0]): Promise<SleepReport> {
    return this.#run('sleep', async (steps) => {
      const level: unknown = options?.level
      if (level !== 0 && level !== 1 && level !== 2) {
        throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `the sleep level is 0, 1 or 2, not ${printable(level)}`)
      }
      await this.#options.synchronize()
      return steps.sleep(options)
    })
  }

  wake(options?: Parameters<ResidencySteps['wake']>[0]): Promise<WakeReport> {
    return this.#run('wake', (steps) => steps.wake(options))
  }

  discard(tags: readonly Tag[]): Promise<void> {
    return this.#run('discard', async (steps) => {
      await this.#options.synchronize()
      return steps.discard(tags)
    })
  }

  fence(module: string): Fence {
    return this.#ask('fence', (steps) => steps.fence(module))
  }

  epoch(tag: Tag): number {
    return this.#ask('epoch', (steps) => steps.epoch(tag))
  }

  state(): ReadonlyMap<Tag, ResidencyState> {
    return this.#ask('state', (steps) => steps.state())
  }

  /**
   * Throws SPILLWAY_ASLEEP when device memory is away. `waking` is let through: fences open module by module, and
   * forwards wait for them.
   */
  requireAwake(call: string): void {
    const { running } = this.#options.lifecycle
    const away = [...this.state()].filter(([, state]) => state !== 'awake' && state !== 'waking')
    if (away.length === 0 && running !== 'sleep' && running !== 'discard') return
    const what =
      away.length === 0 ? `${running} is running` : away.map(([tag, state]) => `${tag} is ${state}`).join(', ')
    throw new SpillwayError('SPILLWAY_ASLEEP', `${call}: ${what}; call residency.wake() first`, {
      details: { call, tags: away.map(([tag]) => tag) },
    })
  }

  #run<T>(call: string, body: (steps: ResidencySteps) => Promise<T>): Promise<T> {
    const { lifecycle, requireNoForward, steps } = this.#options
    return lifecycle.run(call, alive, async () => {
      requireNoForward(call)
      try {
        return await body(steps)
      } catch (error) {
        throw this.#failure(call, error)
      }
    })
  }

  #ask<T>(call: string, body: (steps: ResidencySteps) => T): T {
    this.#options.lifecycle.require(call, [...alive, 'failed'])
    try {
      return body(this.#options.steps)
    } catch (error) {
      throw this.#failure(call, error)
    }
  }

  #failure(call: string, error: unknown): SpillwayError {
    return toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#options.backend} failed in ${call}`)
  }
}
