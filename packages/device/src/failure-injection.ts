import { printable, readOptions, SpillwayError } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { ownBy, ownerOf } from './native-object.js'

/** Where the host device can be made to fail. In the order of the addon's enumeration. */
const failurePoints = ['allocation', 'copy', 'launch', 'event', 'mapping', 'stream', 'capture', 'pinning'] as const

/**
 * - `allocation`: device, host and physical memory; fails with SPILLWAY_OUT_OF_MEMORY, as does `pinning`, all others with
 *   SPILLWAY_SYSTEM
 * - `copy`: copies and fills
 * - `launch`: kernels and graphs
 * - `event`: creating, recording, waiting
 * - `mapping`: reserving, mapping, unmapping addresses, and buffers over them
 * - `stream`: creating, synchronizing
 * - `capture`: beginning, ending
 * - `pinning`: host memory that has its pages, about to be pinned or mapped
 */
export type FailurePoint = (typeof failurePoints)[number]

/** One failure to come: the `number`-th (from 1) passing of such a point, counted from when it is armed. */
export interface InjectedFailure {
  readonly at: FailurePoint | 'any'
  readonly number: number
}

/** Makes a host device fail where a device can: what is left behind then is what a test wants to know. */
export class FailureInjection {
  constructor(device: NativeHandle) {
    ownBy(this, device)
  }

  /** In place of an earlier one that has not struck yet. It strikes once. Throws SPILLWAY_INVALID_ARGUMENT. */
  arm(failure: InjectedFailure): void {
    const device = ownerOf(this)
    const { at, number } = checkInjectedFailure(failure)
    addon().armFailure(device, at === 'any' ? failurePoints.length : failurePoints.indexOf(at), number)
  }

  disarm(): void {
    addon().disarmFailure(ownerOf(this))
  }

  /** Whether the one armed last has struck. */
  get fired(): boolean {
    return addon().failures(ownerOf(this)).fired
  }

  /** How often each point was passed since the device was opened. */
  passed(): Readonly<Record<FailurePoint, number>> {
    return addon().failures(ownerOf(this)).passed
  }
}

export function checkInjectedFailure(value: unknown): InjectedFailure {
  const { at, number } = readOptions(value as Partial<InjectedFailure> | undefined, 'injectFailure', ['at', 'number'])
  if (at !== 'any' && !failurePoints.some((point) => point === at)) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `a failure is injected at ${failurePoints.join(', ')} or any, not at ${printable(at)}`,
    )
  }
  if (!Number.isSafeInteger(number) || (number as number) < 1) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `the number of an injected failure counts from 1, it is not ${printable(number)}`,
    )
  }
  return { at: at as InjectedFailure['at'], number: number as number }
}
