import type { DeviceBuffer, HostBuffer, Stream } from './device.js'
import { type ParameterSpec, type SlabLayout, slabLayout } from './module.js'
import { extentBytes, type TensorView } from './tensor.js'

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

  /**
   * Copies every parameter from where `sources` says its bytes are, gaps of its strides included. When the promise
   * settles, either way, nothing reads the sources any more: they are borrowed.
   */
  async fill(stream: Stream, sources: ReadonlyMap<string, TensorView>): Promise<void> {
    try {
      this.#enqueueFill(stream, sources)
    } catch (error) {
      await stream.synchronize().catch(() => undefined)
      throw error
    }
    await stream.synchronize()
  }

  #enqueueFill(stream: Stream, sources: ReadonlyMap<string, TensorView>): void {
    for (const parameter of this.parameters) {
      const bytes = extentBytes(parameter)
      if (bytes === 0) continue
      const from = sources.get(parameter.name)!
      const to = this.view(parameter)
      stream.copy(to.buffer, from.buffer, { toOffset: to.offset, fromOffset: from.offset, bytes })
    }
  }
}
