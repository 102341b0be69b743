import { contiguousStride, type DeviceBuffer, type DType, slabLayout, type TensorView } from '@spillway/core'

export interface TensorShape {
  readonly dtype: DType
  readonly shape: readonly number[]
}

/** Contiguous tensors one after another in one buffer, each aligned as parameters are; known before there is memory. */
export class TensorLayout<Name extends string> {
  readonly bytes: number
  readonly #tensors: ReadonlyMap<string, TensorShape>
  readonly #offsets: ReadonlyMap<string, number>

  constructor(tensors: Readonly<Record<Name, TensorShape>>) {
    const specs = Object.entries<TensorShape>(tensors).map(([name, { dtype, shape }]) => {
      return { name, dtype, shape, stride: contiguousStride(shape), use: 'other' as const }
    })
    const { bytes, offsets } = slabLayout(specs)
    this.bytes = bytes
    this.#tensors = new Map(Object.entries(tensors))
    this.#offsets = offsets
  }

  /** The tensor in `buffer`; with `rows`, its first rows only. */
  view(buffer: DeviceBuffer, name: Name, rows?: number): TensorView {
    const { dtype, shape } = this.#tensors.get(name) as TensorShape
    const cut = rows === undefined ? shape : [rows, ...shape.slice(1)]
    return { buffer, offset: this.#offsets.get(name) as number, dtype, shape: cut, stride: contiguousStride(cut) }
  }
}
