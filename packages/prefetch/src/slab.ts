import {
  type DeviceBuffer,
  extentBytes,
  type HostBuffer,
  type ParameterSpec,
  type SlabLayout,
  type Stream,
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

  /** Bytes that a buffer for these parameters has. All of them may be empty, a buffer may not. */
  static bytes(parameters: readonly ParameterSpec[]): number {
    return Math.max(slabLayout(parameters).bytes, 1)
  }

  /** The parameter in this slab, or at the same offset in another buffer. */
  view({ name, dtype, shape, stride }: ParameterSpec, buffer: B | DeviceBuffer = this.buffer): TensorView {
    return { buffer, offset: this.#layout.offsets.get(name)!, dtype, shape, stride }
  }

  /** Enqueues a copy of every parameter from where `sources` says its bytes are, gaps of its strides included. */
  fill(stream: Stream, sources: ReadonlyMap<string, TensorView>): void {
    for (const parameter of this.parameters) {
      const bytes = extentBytes(parameter)
      if (bytes === 0) continue
      const from = sources.get(parameter.name)!
      const to = this.view(parameter)
      stream.copy(to.buffer, from.buffer, { toOffset: to.offset, fromOffset: from.offset, bytes })
    }
  }
}
