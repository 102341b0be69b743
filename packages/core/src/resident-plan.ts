import type { MemoryPlan } from './backend.js'
import type { DeviceBudget } from './device.js'
import { type ModuleSpec, ownParameters, type ParameterSpec, slabLayout } from './module.js'

/** No device has its memory in smaller pieces: hundreds of slabs would add up to a wrong answer. */
const pageBytes = 4096

/**
 * Small buffers come out of segments of this size, or of this share of the limit where that is less: so it is with the
 * allocator of @spillway/device.
 */
const sharedSegmentBytes = 2 * 2 ** 20
const sharedSegmentShare = 1 / 64

/** Device bytes that buffers take, by what the device has its memory in. */
export class PhysicalBytes {
  readonly #granuleBytes: number
  readonly #sharedBytes: number

  constructor({
    granuleBytes = pageBytes,
    limitBytes = 0,
  }: Partial<Pick<DeviceBudget, 'granuleBytes' | 'limitBytes'>>) {
    this.#granuleBytes = granuleBytes
    this.#sharedBytes = Math.min(sharedSegmentBytes, limitBytes * sharedSegmentShare)
  }

  of(bytes: number): number {
    return Math.ceil(bytes / this.#granuleBytes) * this.#granuleBytes
  }

  ofSlab(parameters: readonly ParameterSpec[]): number {
    return this.of(slabLayout(parameters).bytes)
  }

  /**
   * What post-load processing takes for a while: what the plan says, else twice the largest slab, because a module's old
   * and new parameters are there at once, and perhaps the tensors that they are made of.
   */
  ofPostLoad(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
    const largest = (): number => specs.reduce((most, spec) => Math.max(most, this.ofSlab(ownParameters(spec))), 0)
    return plan.postLoadBytes ?? 2 * largest()
  }

  /** What is left of a segment that small slabs share, and no larger one can use. */
  ofLeftover(specs: readonly ModuleSpec[]): number {
    const segmentBytes = this.of(this.#sharedBytes)
    const shared = specs.some((spec) => {
      const { bytes } = slabLayout(ownParameters(spec))
      return bytes > 0 && bytes < segmentBytes
    })
    return shared ? Math.max(0, segmentBytes - this.#granuleBytes) : 0
  }

  /** The most that placing everything on the device takes: slabs and what they leave of a segment, caches, workspace, post-load processing. */
  ofEverything(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
    const slabs = specs.reduce((sum, spec) => sum + this.ofSlab(ownParameters(spec)), 0)
    const others = this.of(plan.kvCacheBytes) + this.of(plan.workspaceBytes) + this.ofLeftover(specs)
    return slabs + others + this.ofPostLoad(specs, plan)
  }
}

export interface ResidentDecision {
  /** Whether everything fits. */
  readonly resident: boolean
  readonly neededBytes: number
  readonly availableBytes: number
}

/** What `--offload-backend auto` decides by, when nothing is placed yet; reads the budget and changes nothing. */
export function decideResident(
  specs: readonly ModuleSpec[],
  plan: MemoryPlan,
  budget: Pick<DeviceBudget, 'availableBytes'> & Partial<Pick<DeviceBudget, 'granuleBytes' | 'limitBytes'>>,
): ResidentDecision {
  const neededBytes = new PhysicalBytes(budget).ofEverything(specs, plan)
  const { availableBytes } = budget
  return { resident: neededBytes <= availableBytes, neededBytes, availableBytes }
}
