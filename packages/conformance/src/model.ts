import {
  contiguousStride,
  type DType,
  dtypeBytes,
  extentBytes,
  type ModuleSpec,
  type ParameterSpec,
} from '@spillway/core'

export function parameter(name: string, shape: readonly number[], rest: Partial<ParameterSpec> = {}): ParameterSpec {
  return { name, dtype: 'f32', shape, stride: contiguousStride(shape), use: 'linear', ...rest }
}

type Parameters = (layer: number) => readonly ParameterSpec[]

const twoMatrices: Parameters = (layer) => [
  parameter('attention.weight', [8, 5 + (layer % 3)]),
  parameter('mlp.weight', [33], { dtype: 'bf16' }),
]

/** An embedding, layers, a norm, and a head that is tied to the embedding. */
export function model(layers: number, parameters: Parameters = twoMatrices): ModuleSpec[] {
  return [
    { name: 'embed', order: 0, role: 'embedding', parameters: [parameter('weight', [16, 4], { use: 'gather' })] },
    ...layerSpecs(layers, parameters),
    { name: 'norm', order: 1000, role: 'norm', parameters: [parameter('weight', [4], { use: 'other' })] },
    { name: 'head', order: 1001, role: 'head', parameters: [parameter('weight', [16, 4], { tiedTo: 'embed.weight' })] },
  ]
}

/** Layers alone, the first of them number `first`. */
export function layerSpecs(count: number, parameters: Parameters = twoMatrices, first = 0): ModuleSpec[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `layers.${first + i}`,
    order: first + i + 1,
    role: 'layer',
    parameters: parameters(first + i),
  }))
}

/** Layers of a size that rounding to whole pieces of device memory cannot hide. */
export function largeModel(layers: number, layerBytes: number): ModuleSpec[] {
  const elements = layerBytes / 8
  return model(layers, () => [parameter('up', [elements / 64, 64]), parameter('down', [64, elements / 64])])
}

const dtypes = Object.keys(dtypeBytes) as DType[]

/** Every dtype, every odd shape and stride that a checkpoint or a fused layout may have, and a layer without bytes. */
export function oddModel(layers: number): ModuleSpec[] {
  return model(layers, (layer) => [
    ...dtypes.map((dtype, i) => parameter(`any.${dtype}`, [1 + ((layer + i) % 7), 3], { dtype })),
    parameter('scalar', [], { use: 'other' }),
    parameter('empty', [0, 7]),
    parameter('transposed', [5, 7], { stride: [1, 5], dtype: 'f16' }),
    parameter('padded', [6, 5], { stride: [11 + (layer % 3), 1], dtype: 'i8' }),
    parameter('wide', [3, 4, 5], { stride: [100, 25, 3], dtype: 'f64' }),
    parameter('broadcast', [9, 3], { stride: [0, 1], dtype: 'bf16', use: 'other' }),
    parameter('one.byte', [1], { dtype: 'bool', use: 'other' }),
  ])
}

/** Ties within a module, to a module before, and to one after; a module that owns nothing. */
export function tiedModel(layers: number): ModuleSpec[] {
  const specs = model(layers, (layer) => [
    ...twoMatrices(layer),
    parameter('again', [33], { dtype: 'bf16', tiedTo: `layers.${layer}.mlp.weight` }),
    ...(layer === 0 ? [] : [parameter('shared', [33], { dtype: 'bf16', tiedTo: 'layers.0.mlp.weight' })]),
  ])
  const last = layers - 1
  const shape = [8, 5 + (last % 3)]
  return [
    ...specs,
    {
      name: 'tower',
      order: -1,
      role: 'tower',
      parameters: [parameter('late', shape, { tiedTo: `layers.${last}.attention.weight` })],
    },
  ]
}

/** Bytes that differ between parameters, between places, and from what fresh and freed memory holds. */
export function pattern(seed: number, bytes: number): Uint8Array {
  let state = (seed * 2_654_435_761 + 12_345) >>> 0
  return Uint8Array.from({ length: bytes }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return 1 + ((state >>> 24) % 250)
  })
}

/** 1 for every byte that belongs to an element, 0 for the gaps of the strides. */
export function elementBytes(layout: Pick<ParameterSpec, 'dtype' | 'shape' | 'stride'>): Uint8Array {
  const width = dtypeBytes[layout.dtype]
  const mask = new Uint8Array(extentBytes(layout))
  const mark = (dimension: number, element: number): void => {
    if (dimension === layout.shape.length) {
      mask.fill(1, element * width, (element + 1) * width)
      return
    }
    for (let i = 0; i < layout.shape[dimension]!; i++) mark(dimension + 1, element + i * layout.stride[dimension]!)
  }
  if (mask.length > 0) mark(0, 0)
  return mask
}

/** Whole numbers below `below`, the same sequence for the same seed. */
export function draws(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}
