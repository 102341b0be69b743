import { flag, integer, invalid, unsupported } from './config-values.js'
import { type JsonObject, member } from './json-file.js'
import type { ModelFamily } from './model-family.js'

/** What transformers takes for a key that config.json does not have. */
const defaults = Object.freeze({ slidingWindow: 4096, maxWindowLayers: 28 })

/** By layer: how many positions a token sees, its own included. undefined: all up to its own. */
export type SlidingWindows = readonly (number | undefined)[]

/**
 * The windows that `sliding_window`, `use_sliding_window`, `max_window_layers` and `layer_types` make together, as the
 * family reads them. Throws SPILLWAY_DECODER_CONFIG, SPILLWAY_DECODER_UNSUPPORTED.
 */
export function slidingWindowsOf(
  json: JsonObject,
  family: ModelFamily,
  { layers, maxWindow }: { readonly layers: number; readonly maxWindow: number },
): SlidingWindows {
  const window = windowOf(json, family, maxWindow)
  const layerTypes = layerTypesOf(json, layers)
  if (layerTypes !== undefined && family.slidingWindow === 'named layers') {
    if (window === undefined && layerTypes.includes('sliding_attention')) {
      throw invalid('layer_types', member(json, 'layer_types'), 'names windows, and there is no sliding_window in use')
    }
    return layerTypes.map((type) => (type === 'sliding_attention' ? window : undefined))
  }
  // transformers ignores a list that this family does not know; one that says something else would mislead here.
  const type = window === undefined ? 'full_attention' : 'sliding_attention'
  if (layerTypes?.some((listed) => listed !== type)) {
    throw unsupported('layer_types', member(json, 'layer_types'), `${type} in all layers of this model`)
  }
  const first =
    family.slidingWindow === 'named layers'
      ? integer(json, 'max_window_layers', 0, Number.MAX_SAFE_INTEGER, defaults.maxWindowLayers)
      : 0
  return Array.from({ length: layers }, (_, layer) => (layer >= first ? window : undefined))
}

/** undefined: there is none, or it is not in use. */
function windowOf(json: JsonObject, family: ModelFamily, maxWindow: number): number | undefined {
  const stated = member(json, 'sliding_window')
  const used = flag(json, 'use_sliding_window')
  if (family.slidingWindow === 'none') {
    if (used) throw unsupported('use_sliding_window', used, `false for ${family.modelType}`)
    if ((stated ?? null) !== null) throw unsupported('sliding_window', stated, `null for ${family.modelType}`)
    return undefined
  }
  // Released Qwen models state a window and do not use it.
  const unused = family.slidingWindow === 'named layers' && !used
  if (stated === null || unused) return undefined
  return integer(json, 'sliding_window', 1, maxWindow, defaults.slidingWindow)
}

function layerTypesOf(json: JsonObject, layers: number): readonly unknown[] | undefined {
  const listed = member(json, 'layer_types')
  if (listed === undefined || listed === null) return undefined
  if (!Array.isArray(listed) || listed.length !== layers) {
    throw invalid('layer_types', listed, `must list ${layers} layers, as num_hidden_layers says`)
  }
  for (const type of listed as readonly unknown[]) {
    if (type === 'full_attention' || type === 'sliding_attention') continue
    throw unsupported('layer_types', type, 'full_attention and sliding_attention')
  }
  return listed
}
