import type { MemoryPlan } from './backend.js'
import type { DeviceBudget } from './device.js'
import { type ModuleSpec, ownParameters, type ParameterSpec, slabLayout } from './module.js'

/** No device has its memory in smaller pieces: hundreds of slabs would add up to a wrong answer. */
const pageBytes = 4096

/** Device bytes that buffers take, by what the device has its memory in. */
export class PhysicalBytes {
  readonly #granuleBytes: number

  constructor(budget: Pick<DeviceBudget, 'granuleBytes'>) {
    this.#granuleBytes = budget.granuleBytes ?? pageBytes
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

  /** The most that placing everything on the device takes: slabs, caches, workspace, post-load processing. */
  ofEverything(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
    const slabs = specs.reduce((sum, spec) => sum + this.ofSlab(ownParameters(spec)), 0)
    return slabs + this.of(plan.kvCacheBytes) + this.of(plan.workspaceBytes) + this.ofPostLoad(specs, plan)
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
  budget: Pick<DeviceBudget, 'availableBytes' | 'granuleBytes'>,
): ResidentDecision {
  const neededBytes = new PhysicalBytes(budget).ofEverything(specs, plan)
  const { availableBytes } = budget
  return { resident: neededBytes <= availableBytes, neededBytes, availableBytes }
}
