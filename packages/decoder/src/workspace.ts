import {
  contiguousStride,
  type DeviceBudget,
  type DeviceBuffer,
  type HostArena,
  type HostBuffer,
  type MemorySource,
  PhysicalBytes,
  type Stream,
  type TensorView,
} from '@spillway/core'
import type { DecoderConfig } from './config.js'
import { inverseFrequencies } from './rotary-embedding.js'
import { TensorLayout } from './tensor-layout.js'

/** Logits of at most so many bytes are computed at a time: those of 128 rows may be larger than a layer. */
const logitsBytes = 4 * 2 ** 20

export type Activation = 'hidden' | 'normed' | 'qkv' | 'attended' | 'gateUp' | 'activated' | 'logits'

/** What a forward of up to `maxRows` tokens needs besides weights and cache, known before there is memory for it. */
export class WorkspacePlan {
  readonly maxRows: number
  /** Rows of logits computed at a time. */
  readonly logitRows: number
  readonly inverseFrequency: Float32Array
  readonly layout: TensorLayout<Activation | 'input' | 'parts'>
  /** Whether there is memory for the parts of activations that a matrix library takes. */
  readonly hasParts: boolean

  constructor(config: DecoderConfig, maxRows: number, hasParts: boolean) {
    const { vocabSize, hiddenSize, intermediateSize, heads, kvHeads, headDim } = config
    this.maxRows = maxRows
    this.logitRows = Math.max(1, Math.min(maxRows, Math.floor(logitsBytes / (4 * vocabSize))))
    this.hasParts = hasParts
    this.inverseFrequency = inverseFrequencies(config.rope, headDim)
    const rows = (columns: number, count = maxRows) => ({ dtype: 'f32' as const, shape: [count, columns] })
    this.layout = new TensorLayout({
      // Position of the first row, then the tokens: one upload per forward.
      input: { dtype: 'i32', shape: [1 + maxRows] },
      hidden: rows(hiddenSize),
      normed: rows(hiddenSize),
      qkv: rows((heads + 2 * kvHeads) * headDim),
      attended: rows(heads * headDim),
      gateUp: rows(2 * intermediateSize),
      activated: rows(intermediateSize),
      logits: rows(vocabSize, this.logitRows),
      // Two parts of the widest input of a matrix product.
      parts: {
        dtype: 'bf16',
        shape: hasParts ? [maxRows, 2, Math.max(hiddenSize, intermediateSize, heads * headDim)] : [0, 2, 0],
      },
    })
  }

  /** Device bytes, the rotary table's included. */
  get bytes(): number {
    return this.layout.bytes + this.inverseFrequency.byteLength
  }

  /** The same as the device's memory is taken: activations and the table are two buffers. */
  physicalBytes(budget: DeviceBudget): number {
    const physical = new PhysicalBytes(budget)
    return physical.of(this.layout.bytes) + physical.of(this.inverseFrequency.byteLength)
  }
}

/** The engine's device memory besides weights and cache, and the host memory its inputs and outputs go through. */
export class Workspace implements AsyncDisposable {
  readonly plan: WorkspacePlan
  /** f32 [headDim / 2] */
  readonly inverseFrequency: TensorView
  readonly #activations: DeviceBuffer
  readonly #table: DeviceBuffer
  readonly #input: HostBuffer

  private constructor(plan: WorkspacePlan, activations: DeviceBuffer, table: DeviceBuffer, input: HostBuffer) {
    this.plan = plan
    this.#activations = activations
    this.#table = table
    this.#input = input
    const shape = [plan.inverseFrequency.length]
    this.inverseFrequency = { buffer: table, offset: 0, dtype: 'f32', shape, stride: [1] }
  }

  /**
   * `memory` gives a source by tag. Activations hold nothing between forwards: nothing to rebuild after a sleep. The
   * rotary table must come back at every sleep level, hence tag `runtime`. Throws SPILLWAY_OUT_OF_MEMORY.
   */
  static async allocate(
    plan: WorkspacePlan,
    options: {
      readonly memory: (tag: 'workspace' | 'runtime') => MemorySource
      readonly host: HostArena
      readonly stream: Stream
      readonly signal?: AbortSignal | undefined
    },
  ): Promise<Workspace> {
    const { memory, host, stream, signal } = options
    const table = plan.inverseFrequency
    const inputBytes = Math.max(4 * (1 + plan.maxRows), table.byteLength)
    const input = await host.allocate(inputBytes, signal === undefined ? {} : { signal })
    const made: { dispose(): Promise<void> }[] = [input]
    try {
      const activations = memory('workspace').allocate(plan.layout.bytes, {
        stream,
        recovery: { kind: 'rebuild', rebuild() {} },
      })
      made.push(activations)
      const tableBuffer = memory('runtime').allocate(table.byteLength, { stream, recovery: { kind: 'copy' } })
      made.push(tableBuffer)
      input.write(new Uint8Array(table.buffer, table.byteOffset, table.byteLength))
      stream.copy(tableBuffer, input, { bytes: table.byteLength })
      await stream.synchronize()
      return new Workspace(plan, activations, tableBuffer, input)
    } catch (error) {
      await Promise.all(made.map((handle) => handle.dispose()))
      throw error
    }
  }

  /** i32 [1]: the position of the first row. */
  get position(): TensorView {
    const input = this.plan.layout.view(this.#activations, 'input', 1)
    return { ...input, shape: [1], stride: [1] }
  }

  /** i32 [rows] */
  tokens(rows: number): TensorView {
    const input = this.plan.layout.view(this.#activations, 'input', rows)
    return { ...input, offset: input.offset + 4 }
  }

  /** f32 [rows, columns] */
  rows(name: Activation, rows: number): TensorView {
    return this.plan.layout.view(this.#activations, name, rows)
  }

  /** bf16 [2, rows, columns], when the plan has memory for it. */
  parts(rows: number, columns: number): TensorView | undefined {
    if (!this.plan.hasParts) return undefined
    const shape = [2, rows, columns]
    return { ...this.plan.layout.view(this.#activations, 'parts'), shape, stride: contiguousStride(shape) }
  }

  /** Writes a forward's input into the host buffer that `upload` copies from: only when no such copy is enqueued. */
  write(tokens: readonly number[], position: number): void {
    this.#input.write(new Uint8Array(Int32Array.of(position, ...tokens).buffer))
  }

  /** Enqueues the copy of what `write` has put there, or, at a replay, will have: the position and `rows` tokens. */
  upload(stream: Stream, rows: number): void {
    const { buffer, offset } = this.position
    stream.copy(buffer, this.#input, { toOffset: offset, bytes: 4 * (1 + rows) })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#activations.dispose(), this.#table.dispose(), this.#input.dispose()])
  }
}
