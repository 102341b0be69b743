import type { ModuleSpec } from '@spillway/core'
import type { PrefetchConfig } from './options.js'

/** Modules with the role `layer`, in the order of the forward. */
export function layersOf(specs: readonly ModuleSpec[]): readonly ModuleSpec[] {
  return specs.filter((spec) => spec.role === 'layer').sort((a, b) => a.order - b.order)
}

/**
 * Names of the last `numInGroup` of every `groupSize` layers, counted by `order` within a call and on from
 * `layersBefore`, those of earlier calls. A last, incomplete group may select nothing. The rule is vLLM's.
 */
export function selectLayers(
  specs: readonly ModuleSpec[],
  layersBefore: number,
  { groupSize, numInGroup }: Pick<PrefetchConfig, 'groupSize' | 'numInGroup'>,
): ReadonlySet<string> {
  const selected = layersOf(specs).filter((_, i) => (layersBefore + i) % groupSize >= groupSize - numInGroup)
  return new Set(selected.map((spec) => spec.name))
}
