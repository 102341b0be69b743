import type { MemoryPlan } from './backend.js'
import type { DeviceBudget } from './device.js'
import { type ModuleSpec, ownParameters, type ParameterSpec, slabLayout } from './module.js'

/** No device has its memory in smaller pieces: hundreds of slabs would add up to a wrong answer. */
const pageBytes = 4096

const mebibyte = 2 ** 20

/**
 * Buffers of these sizes share segments, or ones of this share of the limit where that is less: so it is with the
 * allocator of @spillway/device, whose sizes are PyTorch's. Larger ones have segments of their own.
 */
const sharedSegments = [
  { aboveBytes: 0, upToBytes: mebibyte, segmentBytes: 2 * mebibyte },
  { aboveBytes: mebibyte, upToBytes: 10 * mebibyte - 1, segmentBytes: 20 * mebibyte },
]
const sharedSegmentShare = 1 / 64

/** Device bytes that buffers take, by what the device has its memory in. */
export class PhysicalBytes {
  readonly #granuleBytes: number
  readonly #limitBytes: number

  constructor({
    granuleBytes = pageBytes,
    limitBytes = 0,
  }: Partial<Pick<DeviceBudget, 'granuleBytes' | 'limitBytes'>>) {
    this.#granuleBytes = granuleBytes
    this.#limitBytes = limitBytes
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

  /** What is left of segments that slabs, caches and workspace share, and nothing larger can use. */
  ofLeftover(specs: readonly ModuleSpec[], { kvCacheBytes, workspaceBytes }: MemoryPlan): number {
    const sizes = [...specs.map((spec) => slabLayout(ownParameters(spec)).bytes), kvCacheBytes, workspaceBytes]
    return sharedSegments.reduce((sum, { aboveBytes, upToBytes, segmentBytes }) => {
      const usual = this.of(Math.min(segmentBytes, this.#limitBytes * sharedSegmentShare))
      const shared = sizes.filter((bytes) => bytes > aboveBytes && bytes <= upToBytes && bytes < usual)
      const least = shared.reduce((min, bytes) => Math.min(min, this.of(bytes)), usual)
      return sum + usual - least
    }, 0)
  }

  /** The most that placing everything on the device takes: slabs and what they leave of a segment, caches, workspace, post-load processing. */
  ofEverything(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
    const slabs = specs.reduce((sum, spec) => sum + this.ofSlab(ownParameters(spec)), 0)
    const others = this.of(plan.kvCacheBytes) + this.of(plan.workspaceBytes) + this.ofLeftover(specs, plan)
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
