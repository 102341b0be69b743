// No addon is loaded from here: command lines import this for flags and help before they know which backend is chosen.
import { type OptionSpecs, SpillwayError } from '@spillway/core'

/** Which layers live on the host, and how many device slots they pass through. */
export interface PrefetchConfig {
  /** Layers are taken in groups of this many. At least 1. */
  readonly groupSize: number
  /** How many layers of each group live on the host: its last ones. At least 1, at most `groupSize`. */
  readonly numInGroup: number
  /**
   * How many offloaded layers ahead of the running one are on the device or on their way: the number of slots, unless
   * fewer layers are offloaded. At least 1. With less than `numInGroup`, neighbours wait for each other's copies.
   */
  readonly prefetchStep: number
}

/** Option specs of the backend `prefetch`. The flags are those vLLM users know. */
export const prefetchOptions: OptionSpecs = Object.freeze({
  groupSize: Object.freeze({
    type: 'integer',
    default: 1,
    min: 1,
    flag: 'offload-group-size',
    help: 'layers per group; the last ones of each group are offloaded',
  }),
  numInGroup: Object.freeze({
    type: 'integer',
    default: 1,
    min: 1,
    flag: 'offload-num-in-group',
    help: 'offloaded layers per group',
  }),
  prefetchStep: Object.freeze({
    type: 'integer',
    default: 2,
    min: 1,
    flag: 'offload-prefetch-step',
    help: 'offloaded layers copied ahead, and device slots they take',
  }),
} as const)

/** What one option alone cannot tell. Throws SPILLWAY_INVALID_OPTION naming both numbers. */
export function checkPrefetchConfig({ groupSize, numInGroup }: PrefetchConfig): void {
  if (numInGroup <= groupSize) return
  throw new SpillwayError(
    'SPILLWAY_INVALID_OPTION',
    `prefetch: numInGroup (--offload-num-in-group) is ${numInGroup}, more than groupSize (--offload-group-size), ` +
      `which is ${groupSize}; offload at most as many layers of a group as it has`,
    { details: { numInGroup, groupSize } },
  )
}
