import { formatBytes, SpillwayError } from '@spillway/core'
import { defaultPrefetchStep } from './options.js'
import { slotSizes } from './slots.js'

/** A module as the fit sees it. All in bytes, slabs with their padding; device bytes in whole pages. */
export interface FitModule {
  readonly name: string
  /** Host bytes when it is offloaded. 0: it cannot be. */
  readonly hostBytes: number
  /** Device bytes of its slot, for it alone, when it is offloaded. */
  readonly slotBytes: number
  /** Device bytes of what stays there when it is offloaded. */
  readonly keptBytes: number
  /** Device bytes when all of it stays. */
  readonly residentBytes: number
  /** `chosen`: the fit decides. `always`: it is offloaded whatever the fit decides. */
  readonly offload: 'chosen' | 'always'
}

export interface FitProblem {
  /** In the order of the forward. */
  readonly modules: readonly FitModule[]
  /** Device bytes besides these modules and the slots: caches, workspace. */
  readonly otherBytes: number
  /** Device bytes that are needed for a while, before there are slots. */
  readonly postLoadBytes: number
  /** Device bytes that are lost to slots after that, since what was given back may lie in pieces between others. */
  readonly lostBytes: number
  /** Device bytes that there are. */
  readonly boundBytes: number
  /** Undefined: 2, or 1 where 2 slots are too many. */
  readonly prefetchStep: number | undefined
}

export interface Fit {
  /** Names of the modules to offload, in the order of the forward, those that always are included. */
  readonly offloaded: readonly string[]
  readonly prefetchStep: number
  readonly slotBytes: readonly number[]
  /** The most device bytes at any time, other bytes included. */
  readonly deviceBytes: number
  readonly hostBytes: number
}

/**
 * Which modules to offload so that the rest fits: those with the fewest host bytes in all among the even spreads of any
 * number of layers; none when everything fits. A spread is even when every run of as many layers, counted around from
 * the last to the first, has as many offloaded ones, give or take one: gaps between them then differ by at most one, and
 * copies get the most compute to hide behind. (Clough and Douthett, Maximally even sets, Journal of Music Theory 35,
 * 1991: these are the rotations of floor(j · n / k).) Pure. Throws SPILLWAY_OUT_OF_MEMORY with the numbers when no
 * spread fits.
 */
export function planFit(problem: FitProblem): Fit {
  const { prefetchStep } = problem
  const steps = prefetchStep === undefined ? [defaultPrefetchStep, 1] : [prefetchStep]
  let least: Fit | undefined
  for (const step of steps) {
    const { best, smallest } = searchSpreads(problem, step)
    if (best !== undefined) return best
    if (least === undefined || smallest.deviceBytes < least.deviceBytes) least = smallest
  }
  throw doesNotFit(problem, least!)
}

/** The best spread that fits, and the one that takes the least device memory. */
function searchSpreads(problem: FitProblem, step: number): { best: Fit | undefined; smallest: Fit } {
  const { modules, boundBytes } = problem
  const candidates = [...modules.keys()].filter((i) => modules[i]!.offload === 'chosen' && modules[i]!.hostBytes > 0)
  // Then the fewest layers are the fewest bytes, and which of them is all the same.
  const alike = candidates.every((i) => isSame(modules[i]!, modules[candidates[0]!]!))
  const one = alike && modules.every(({ offload }) => offload === 'chosen')
  let best: Fit | undefined
  let smallest: Fit | undefined
  for (const spread of evenSpreads(candidates, one)) {
    const fit = fitOf(problem, spread, step)
    if (smallest === undefined || fit.deviceBytes < smallest.deviceBytes) smallest = fit
    if (fit.deviceBytes > boundBytes) continue
    if (best === undefined || fit.hostBytes < best.hostBytes) best = fit
    if (alike) break
  }
  return { best, smallest: smallest! }
}

/** Every even spread over the candidates, from none to all; with `one`, only that with the last of each group. */
function* evenSpreads(candidates: readonly number[], one: boolean): Iterable<ReadonlySet<number>> {
  const count = candidates.length
  yield new Set()
  for (let chosen = 1; chosen <= count; chosen++) {
    const rotations = one ? 1 : count / greatestCommonDivisor(count, chosen)
    for (let rotation = 0; rotation < rotations; rotation++) {
      const spread = new Set<number>()
      for (let j = 1; j <= chosen; j++) {
        spread.add(candidates[(Math.floor((j * count) / chosen) - 1 + rotation) % count]!)
      }
      yield spread
    }
  }
}

function fitOf(
  { modules, otherBytes, postLoadBytes, lostBytes }: FitProblem,
  spread: ReadonlySet<number>,
  step: number,
): Fit {
  const offloaded = modules.filter(
    ({ offload, hostBytes }, i) => hostBytes > 0 && (offload === 'always' || spread.has(i)),
  )
  const isOffloaded = new Set(offloaded)
  const slots = slotSizes(
    offloaded.map((module) => module.slotBytes),
    step,
  )
  const placed = modules.reduce((sum, one) => sum + (isOffloaded.has(one) ? one.keptBytes : one.residentBytes), 0)
  return {
    offloaded: offloaded.map(({ name }) => name),
    prefetchStep: step,
    slotBytes: slots,
    deviceBytes: otherBytes + placed + Math.max(postLoadBytes, lostBytes + total(slots)),
    hostBytes: total(offloaded.map((module) => module.hostBytes)),
  }
}

function doesNotFit(problem: FitProblem, least: Fit): SpillwayError {
  const { modules, otherBytes, postLoadBytes, lostBytes, boundBytes } = problem
  const slotBytes = total(least.slotBytes)
  const stayBytes = least.deviceBytes - otherBytes - Math.max(postLoadBytes, lostBytes + slotBytes)
  return new SpillwayError(
    'SPILLWAY_OUT_OF_MEMORY',
    `prefetch: the model does not fit on the device, however much is offloaded: ${formatBytes(boundBytes)} are free, and ` +
      `with ${least.offloaded.length} of ${modules.length} modules on the host it takes ${formatBytes(least.deviceBytes)}: ` +
      `${formatBytes(stayBytes)} of weights that stay there, ${formatBytes(otherBytes)} of caches and workspace, ` +
      `${formatBytes(slotBytes)} of slots (${formatBytes(postLoadBytes)} while loading). ` +
      'Give the device more memory, choose a smaller context length, or a smaller --offload-prefetch-step',
    {
      details: {
        requestedBytes: least.deviceBytes,
        freeBytes: boundBytes,
        residentBytes: stayBytes,
        otherBytes,
        slotBytes,
        postLoadBytes,
      },
    },
  )
}

function isSame(a: FitModule, b: FitModule): boolean {
  return (
    a.hostBytes === b.hostBytes &&
    a.slotBytes === b.slotBytes &&
    a.keptBytes === b.keptBytes &&
    a.residentBytes === b.residentBytes
  )
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0)
}
