import type { MemoryPlan } from './backend.js'
import { type ModuleSpec, ownParameters, type ParameterSpec, slabLayout } from './module.js'

/** No device takes its memory in smaller pieces: hundreds of slabs would add up to a wrong answer. */
const pageBytes = 4096

/** Device bytes of a buffer. */
export function physicalBytes(bytes: number): number {
  return Math.ceil(bytes / pageBytes) * pageBytes
}

/** Device bytes of a slab with these parameters. */
export function physicalSlabBytes(parameters: readonly ParameterSpec[]): number {
  return physicalBytes(slabLayout(parameters).bytes)
}

/**
 * What post-load processing takes for a while: what the plan says, else twice the largest slab, because a module's old
 * and new parameters are there at once, and perhaps the tensors that they are made of.
 */
export function postLoadBytes(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
  const largest = (): number => specs.reduce((most, spec) => Math.max(most, physicalSlabBytes(ownParameters(spec))), 0)
  return plan.postLoadBytes ?? 2 * largest()
}

/** The most device bytes that placing everything on the device takes: slabs, caches, workspace, post-load processing. */
export function residentPlanBytes(specs: readonly ModuleSpec[], plan: MemoryPlan): number {
  const slabs = specs.reduce((sum, spec) => sum + physicalSlabBytes(ownParameters(spec)), 0)
  return slabs + plan.kvCacheBytes + plan.workspaceBytes + postLoadBytes(specs, plan)
}

export interface ResidentDecision {
  /** Whether everything fits. */
  readonly resident: boolean
  readonly neededBytes: number
  readonly availableBytes: number
}

/** What `--offload-backend auto` decides by; pure. `availableBytes`: what `DeviceBudget` says when nothing is placed. */
export function decideResident(
  specs: readonly ModuleSpec[],
  plan: MemoryPlan,
  availableBytes: number,
): ResidentDecision {
  const neededBytes = residentPlanBytes(specs, plan)
  return { resident: neededBytes <= availableBytes, neededBytes, availableBytes }
}
