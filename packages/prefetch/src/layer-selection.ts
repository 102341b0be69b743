import type { ModuleSpec } from '@spillway/core'
import type { PrefetchConfig } from './options.js'

export interface LayerSelection {
  /** Names of the layers that live on the host. */
  readonly selected: ReadonlySet<string>
  /** How many layers there were, those of earlier calls included. */
  readonly layerCount: number
}

/**
 * The last `numInGroup` of every `groupSize` layers, counted by `order` within a call and on from `layersBefore`, those
 * of earlier calls. Only modules with the role `layer` are counted; a last, incomplete group may select nothing.
 * The rule is vLLM's.
 */
export function selectLayers(
  specs: readonly ModuleSpec[],
  layersBefore: number,
  { groupSize, numInGroup }: Pick<PrefetchConfig, 'groupSize' | 'numInGroup'>,
): LayerSelection {
  const layers = specs.filter((spec) => spec.role === 'layer').sort((a, b) => a.order - b.order)
  const selected = layers.filter((_, i) => (layersBefore + i) % groupSize >= groupSize - numInGroup)
  return { selected: new Set(selected.map((spec) => spec.name)), layerCount: layersBefore + layers.length }
}
