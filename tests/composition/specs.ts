import { contiguousStride, type DType, type ModuleSpec, type ParameterSpec } from '@spillway/core'

/** A parameter spec, contiguous unless `more` says otherwise. */
export function parameter(name: string, shape: readonly number[], more: Partial<ParameterSpec> = {}): ParameterSpec {
  return { name, dtype: 'f32' satisfies DType, shape, stride: contiguousStride(shape), use: 'linear', ...more }
}

export function module(name: string, order: number, parameters: readonly ParameterSpec[]): ModuleSpec {
  return { name, order, role: 'layer', parameters }
}

/** `count` modules named `layers.0` and so on, each with two parameters: 1000 + 400 bytes, 1424 in a slab. */
export function layers(count: number): ModuleSpec[] {
  return Array.from({ length: count }, (_, i) =>
    module(`layers.${i}`, i, [parameter('up', [10, 25]), parameter('down', [100])]),
  )
}
export const layerBytes = 1400
export const layerSlabBytes = 1424
