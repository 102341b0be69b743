import { type ConfiguredBackend, isSpillwayError, messageOf } from '@spillway/core'
import { ConformanceFailure, ensure, ensureCoded, fail } from './assert.js'
import { ObservedBackend, outOfMemory } from './observed-backend.js'
import { Rig } from './rig.js'
import type { Subject } from './subject.js'

/** Makes the k-th of something fail, once. */
export interface FailureSource {
  readonly name: string
  /** Whether it reaches more than allocations. */
  readonly everywhere: boolean
  arm(rig: Rig, observed: ObservedBackend, number: number): { fired(): boolean; disarm(): void }
}

/** Every allocation, copy, launch, event, mapping, stream and capture of the device. */
const deviceFailures: FailureSource = {
  name: 'every point where the device can fail',
  everywhere: true,
  arm({ device: { failures } }, _, number) {
    if (failures === undefined) return fail('the device has no `failures`; say so with can: { failures: false }')
    failures.arm({ at: 'any', number })
    return { fired: () => failures.fired, disarm: () => failures.disarm() }
  },
}

/** What can be done with any device: allocations through the backend's context fail. */
const contextFailures: FailureSource = {
  name: 'every allocation through its context',
  everywhere: false,
  arm(_, observed, number) {
    let count = 0
    observed.onAllocation = () => {
      if (++count === number) throw outOfMemory()
    }
    return {
      fired: () => count >= number,
      disarm: () => {
        observed.onAllocation = () => {}
      },
    }
  },
}

export function failureSource({ can }: Subject): FailureSource {
  return can.failures ? deviceFailures : contextFailures
}

export interface FailureTrial {
  readonly rig: Rig
  /** The backend, watched. */
  readonly backend: ConfiguredBackend
  /**
   * Does it with the failure armed, exactly once. Returns the error, which has a code; undefined when the call came
   * through all the same.
   */
  attempt(action: () => unknown): Promise<unknown>
}

/** Far more than any call has. */
const mostFailures = 20_000

/**
 * Calls `trial` with the first failure to come, the second, and so on, until the call under test has none left. Returns
 * how many struck.
 */
export async function eachFailure(
  subject: Subject,
  source: FailureSource,
  trial: (trial: FailureTrial) => Promise<void>,
  allow: readonly string[] = [],
): Promise<number> {
  const { openDevice, can } = subject
  const row = can.check ? { check: true } : {}
  for (let number = 1; number < mostFailures; number++) {
    let fired: boolean | undefined
    let said = ''
    try {
      await Rig.run({ openDevice, row, allow }, async (rig) => {
        const observed = new ObservedBackend(subject.configured)
        const attempt = async (action: () => unknown): Promise<unknown> => {
          const armed = source.arm(rig, observed, number)
          let error: unknown
          try {
            await action()
          } catch (thrown) {
            error = thrown
            said = messageOf(thrown)
          }
          fired = armed.fired()
          armed.disarm()
          if (error === undefined) return undefined
          if (!fired) throw error
          ensureCoded(error, 'a call with an injected failure')
          return error
        }
        await trial({ rig, backend: observed.configured, attempt })
        ensure(fired !== undefined, 'the trial attempted nothing')
      })
    } catch (error) {
      if (fired !== true) throw error
      const text = isSpillwayError(error) ? `${error.code}: ${error.message}` : messageOf(error)
      throw new ConformanceFailure(`failure ${number} of ${source.name} (${said}): ${text}`, { cause: error })
    }
    if (fired !== true) return number - 1
  }
  return fail(`the call under test has had ${mostFailures} failures and goes on failing`)
}
