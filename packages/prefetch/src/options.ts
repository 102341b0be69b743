// No addon is loaded from here: command lines import this for flags and help before they know which backend is chosen.
import { type OptionSpecs, SpillwayError } from '@spillway/core'

/** Which parameters live on the host, and how many device slots they pass through. */
export interface PrefetchConfig {
  /** Layers are taken in groups of this many. 0: as few bytes are offloaded as the device's memory asks for. */
  readonly groupSize: number
  /** How many layers of each group live on the host: its last ones. At least 1, at most `groupSize`. */
  readonly numInGroup: number
  /**
   * How many offloaded layers ahead of the running one are on the device or on their way: the number of slots, unless
   * fewer layers are offloaded. At least 1. Default: 2, so that one is copied while one is read; 1 where two do not fit.
   */
  readonly prefetchStep?: number
  /** Only parameters in whose names one of these is a run of whole dotted segments. Empty: all of them. */
  readonly params: readonly string[]
}

/** With one slot a copy would begin only when the layer before it is done. */
export const defaultPrefetchStep = 2

/** Option specs of the backend `prefetch`. The flags are those vLLM users know. */
export const prefetchOptions: OptionSpecs = Object.freeze({
  groupSize: Object.freeze({
    type: 'integer',
    default: 0,
    min: 0,
    flag: 'offload-group-size',
    help: 'layers per group; the last ones of each group are offloaded. 0: as few as need be, evenly spread',
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
    min: 1,
    flag: 'offload-prefetch-step',
    help: 'offloaded layers copied ahead, and device slots they take; default 2',
  }),
  params: Object.freeze({
    type: 'names',
    default: Object.freeze([]),
    flag: 'offload-params',
    help: 'offload only parameters with these dotted segments in their names, such as mlp or self_attn.o_proj',
  }),
} as const)

export interface OptionWarning {
  readonly code: 'SPILLWAY_OPTION_IGNORED' | 'SPILLWAY_PREFETCH_STEP'
  readonly message: string
}

/**
 * What one option alone cannot tell. Throws SPILLWAY_INVALID_OPTION naming values and flags for what cannot be meant;
 * returns what should be said about the rest. What has no effect is never an error.
 */
export function checkPrefetchConfig({
  groupSize,
  numInGroup,
  prefetchStep = defaultPrefetchStep,
  params,
}: PrefetchConfig): readonly OptionWarning[] {
  for (const pattern of params) checkPattern(pattern)
  if (groupSize === 0) {
    if (numInGroup === 1) return []
    const message =
      `prefetch: numInGroup (--offload-num-in-group) is ${numInGroup} and ignored, since there are no groups; ` +
      'give --offload-group-size too, or leave both out'
    return [{ code: 'SPILLWAY_OPTION_IGNORED', message }]
  }
  if (numInGroup > groupSize) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_OPTION',
      `prefetch: numInGroup (--offload-num-in-group) is ${numInGroup}, more than groupSize (--offload-group-size), ` +
        `which is ${groupSize}; offload at most as many layers of a group as it has`,
      { details: { numInGroup, groupSize } },
    )
  }
  if (prefetchStep >= numInGroup) return []
  const late = numInGroup - prefetchStep
  const message =
    `prefetch: prefetchStep (--offload-prefetch-step) is ${prefetchStep}, less than numInGroup ` +
    `(--offload-num-in-group), which is ${numInGroup}: of ${numInGroup} offloaded layers in a row ${late} cannot be ` +
    `copied before the first of them is done, and are waited for; ${numInGroup} slots would let all of them be copied ahead`
  return [{ code: 'SPILLWAY_PREFETCH_STEP', message }]
}

/** Only what could match some name: neither wildcards nor expressions mean anything here. */
function checkPattern(pattern: string): void {
  if (/^[^\s.*?[\]]+(\.[^\s.*?[\]]+)*$/.test(pattern)) return
  throw new SpillwayError(
    'SPILLWAY_INVALID_OPTION',
    `prefetch: params (--offload-params) are whole segments of names, joined by dots and without wildcards, such as ` +
      `mlp or self_attn.o_proj, not ${JSON.stringify(pattern)}`,
    { details: { option: 'params', value: pattern } },
  )
}
