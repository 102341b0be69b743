import type { DeviceBuffer, MemorySource, Stream, TensorView } from '@spillway/core'
import type { DecoderConfig, WeightDType } from './config.js'
import { TensorLayout } from './tensor-layout.js'

/** What is allocated, known before there is memory for it. */
export class KvCachePlan {
  readonly layers: number
  readonly contextLength: number
  readonly layout: TensorLayout<string>

  /** Keys and values of every layer: `dtype` [context, kvHeads, headDim]. */
  constructor(config: DecoderConfig, contextLength: number, dtype: WeightDType) {
    this.layers = config.layers
    this.contextLength = contextLength
    const tensor = { dtype, shape: [contextLength, config.kvHeads, config.headDim] }
    const names = Array.from({ length: config.layers }, (_, layer) => [`keys.${layer}`, `values.${layer}`]).flat()
    this.layout = new TensorLayout(Object.fromEntries(names.map((name) => [name, tensor])))
  }

  get bytes(): number {
    return this.layout.bytes
  }
}

/**
 * Keys and values of the positions seen so far, one buffer for all layers. Knows how many positions it holds: after a
 * sleep that discarded it that is none, and whoever continues a sequence sees it and prefills again.
 */
export class KvCache implements AsyncDisposable {
  readonly buffer: DeviceBuffer
  readonly #plan: KvCachePlan
  #length = 0
  /** Changes whenever positions are lost, so that a forward under way meanwhile does not count. */
  #epoch = 0

  /** Throws SPILLWAY_OUT_OF_MEMORY. */
  constructor(plan: KvCachePlan, source: MemorySource, stream: Stream) {
    this.#plan = plan
    this.buffer = source.allocate(plan.bytes, { stream, recovery: { kind: 'rebuild', rebuild: () => this.clear() } })
  }

  /** Positions 0 … length - 1 are there. */
  get length(): number {
    return this.#length
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Positions up to `length` have been written, unless some were lost since `epoch` was read. */
  commit(length: number, epoch: number): void {
    if (epoch === this.#epoch) this.#length = length
  }

  /** Forgets all positions; the bytes stay what they are and are not read. */
  clear(): void {
    this.#length = 0
    this.#epoch++
  }

  keys(layer: number): TensorView {
    return this.#plan.layout.view(this.buffer, `keys.${layer}`)
  }

  values(layer: number): TensorView {
    return this.#plan.layout.view(this.buffer, `values.${layer}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.buffer.dispose()
  }
}
