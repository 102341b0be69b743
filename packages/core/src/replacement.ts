import type { ParameterSpec, PlacedModule, Replacement } from './module.js'
import type { TensorView } from './tensor.js'

/**
 * The parameters a module owns after a replacement, in their old order with the new names last, and where the bytes of
 * each are now. What every placement backend's replaceParameters() starts with.
 */
export function applyReplacements(
  old: PlacedModule,
  next: ReadonlyMap<string, Replacement | null>,
): { parameters: ParameterSpec[]; sources: Map<string, TensorView> } {
  const parameters: ParameterSpec[] = []
  const sources = new Map<string, TensorView>()
  for (const name of new Set([...old.parameters.keys(), ...next.keys()])) {
    const replacement = next.get(name)
    const kept = replacement === undefined ? old.parameters.get(name) : undefined
    if (kept !== undefined) {
      const { dtype, shape, stride, use } = kept
      parameters.push({ name, dtype, shape, stride, use })
      sources.set(name, kept.tensor)
    } else if (replacement && 'tensor' in replacement) {
      const { dtype, shape, stride } = replacement.tensor
      parameters.push({ name, dtype, shape, stride, use: replacement.use })
      sources.set(name, replacement.tensor)
    }
  }
  return { parameters, sources }
}
