import {
  type DeviceBuffer,
  type HostBuffer,
  type ParameterSpec,
  type SlabLayout,
  slabLayout,
  type TensorView,
} from '@spillway/core'

/** Parameters of one module, one after another in one buffer of exactly their size, which it owns. */
export class Slab<B extends HostBuffer | DeviceBuffer> {
  readonly parameters: readonly ParameterSpec[]
  readonly buffer: B
  readonly #layout: SlabLayout

  constructor(parameters: readonly ParameterSpec[], buffer: B) {
    this.parameters = parameters
    this.buffer = buffer
    this.#layout = slabLayout(parameters)
  }

  /** Bytes a buffer for these parameters has. Parameters may all be empty, buffers may not. */
  static bytes(parameters: readonly ParameterSpec[]): number {
    return Math.max(slabLayout(parameters).bytes, 1)
  }

  /** The parameter in this slab's buffer, or at the same offset in another one. */
  view({ name, dtype, shape, stride }: ParameterSpec, buffer: B | DeviceBuffer = this.buffer): TensorView {
    return { buffer, offset: this.#layout.offsets.get(name)!, dtype, shape, stride }
  }
}
