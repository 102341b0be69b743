import { SpillwayError, type Stream } from '@spillway/core'
import { attach, handleOf } from '@spillway/device'
import {
  type AttentionEntry,
  attentionEntryCode,
  dtypeCode,
  type InstructionSet,
  type KernelDescription,
  type KernelOperations,
  type LinearEntry,
  linearEntryCode,
  loadKernelAddon,
} from './kernel-addon.js'
import type {
  AttentionArguments,
  EmbeddingArguments,
  LinearArguments,
  NormLinearArguments,
  NormSwigluArguments,
  QkNormArguments,
  RmsNormArguments,
  RopeAppendArguments,
  SiluMulArguments,
  SplitArguments,
} from './kernel-arguments.js'
import { operand, requireCache, requireQkv, requireTensor, requireWeightDType } from './kernel-operand.js'
import { chooseMatrixLibrary, type MatrixLibraryOptions } from './matrix-library.js'

export type { InstructionSet, KernelDescription } from './kernel-addon.js'

export interface KernelsOptions extends MatrixLibraryOptions {
  /** Of the host twins; default: the best this processor has. Throws SPILLWAY_NOT_SUPPORTED when it lacks it. */
  readonly instructionSet?: InstructionSet
  /**
   * Which device code computes matrix products, and attention, whatever the number of rows: for tests and measurements.
   * Default: what is fastest for that number. Host twins are one each.
   */
  readonly linear?: LinearEntry
  readonly attention?: AttentionEntry
}

/**
 * The decoder's kernels. Every method enqueues one launch and returns; legal while the stream is being captured.
 *
 * Activations are f32, weights and caches f32, f16 or bf16; arithmetic and accumulation are f32. Views are contiguous,
 * row-major, borrowed for the call (enqueued work keeps their buffers), and an output overlaps no input. NaN and
 * infinity propagate (in products of several rows infinity may become NaN). Throws SPILLWAY_INVALID_ARGUMENT for a wrong
 * shape, layout, range, alignment or a buffer the device cannot reach, SPILLWAY_NOT_SUPPORTED for a dtype there is no
 * kernel for, SPILLWAY_DISPOSED for a handle that was disposed, and what the device's launch reports.
 */
export class Kernels {
  /** Of this object's host twins. */
  readonly instructionSet: InstructionSet
  /** Who computes products of many rows: the library, or the decoder's own kernels and why. For `doctor`. */
  readonly matrixProducts: string
  /** Whether `linear` has a use for `parts`. */
  readonly hasMatrixLibrary: boolean
  /** Names of the kernels present. */
  readonly names: readonly string[]
  readonly #operations: KernelOperations
  readonly #linearEntry: number
  readonly #attentionEntry: number
  readonly #library: number | undefined
  readonly #descriptions: readonly KernelDescription[]

  /** Loads the addon and hands it the device's function table. */
  constructor(options: KernelsOptions = {}) {
    this.#linearEntry = linearEntryCode(options.linear)
    this.#attentionEntry = attentionEntryCode(options.attention)
    this.#operations = loadKernelAddon().attach(attach(), options.instructionSet)
    const { library, description } = chooseMatrixLibrary(this.#operations, options)
    this.#library = library
    this.hasMatrixLibrary = library !== undefined
    this.matrixProducts = description
    this.instructionSet = this.#operations.instructionSet
    this.#descriptions = Object.freeze(this.#operations.describe())
    this.names = Object.freeze(this.#descriptions.map((kernel) => kernel.name))
  }

  /** Instruction sets of the host twins that this processor can run, best first. */
  static instructionSets(): readonly InstructionSet[] {
    return loadKernelAddon().instructionSets()
  }

  /** What is there to run, for `doctor`. */
  describe(): readonly KernelDescription[] {
    return this.#descriptions
  }

  /** y[r, :] = table[tokens[r], :]. A token outside the table gives a row of NaN and reads nothing. */
  embedding(stream: Stream, { tokens, table, y }: EmbeddingArguments): void {
    const what = 'embedding'
    const dtype = requireWeightDType(what, 'table', table)
    const [vocabulary, hidden] = requireTensor(what, 'table', table, dtype, [undefined, undefined])
    const [rows] = requireTensor(what, 'tokens', tokens, 'i32', [undefined])
    requireTensor(what, 'y', y, 'f32', [rows, hidden])
    this.#operations.embedding(
      handleOf(stream),
      dtypeCode[dtype],
      rows as number,
      vocabulary as number,
      hidden as number,
      ...operand(tokens),
      ...operand(table),
      ...operand(y),
    )
  }

  /** y = x / sqrt(mean(x²) + epsilon) · weight, per row, as Hugging Face's LlamaRMSNorm does in f32. */
  rmsNorm(stream: Stream, { x, weight, y, epsilon }: RmsNormArguments): void {
    const what = 'rmsNorm'
    const dtype = requireWeightDType(what, 'weight', weight)
    const [rows, hidden] = requireTensor(what, 'x', x, 'f32', [undefined, undefined])
    requireTensor(what, 'weight', weight, dtype, [hidden])
    requireTensor(what, 'y', y, 'f32', [rows, hidden])
    this.#operations.rmsNorm(
      handleOf(stream),
      dtypeCode[dtype],
      rows as number,
      hidden as number,
      epsilon,
      ...operand(x),
      ...operand(weight),
      ...operand(y),
    )
  }

  /** y = x · weightᵀ + bias; with `accumulate`, y += that. */
  linear(stream: Stream, { x, weight, bias, y, accumulate = false, parts }: LinearArguments): void {
    const what = 'linear'
    const dtype = requireWeightDType(what, 'weight', weight)
    const [outputs, inputs] = requireTensor(what, 'weight', weight, dtype, [undefined, undefined])
    const [rows] = requireTensor(what, 'x', x, 'f32', [undefined, inputs])
    requireTensor(what, 'y', y, 'f32', [rows, outputs])
    if (bias !== undefined) requireTensor(what, 'bias', bias, dtype, [outputs])
    if (parts !== undefined) requireTensor(what, 'parts', parts, 'bf16', [2, rows, inputs])
    this.#operations.linear(
      handleOf(stream),
      dtypeCode[dtype],
      rows as number,
      inputs as number,
      outputs as number,
      accumulate,
      this.#linearEntry,
      this.#library,
      ...operand(x),
      ...operand(weight),
      ...(bias === undefined ? [undefined, 0] : operand(bias)),
      ...operand(y),
      ...(parts === undefined ? [undefined, 0] : operand(parts)),
    )
  }

  /**
   * y = norm(x) · weightᵀ + bias, where norm(x) is what rmsNorm makes of x with the weight `norm`. In one launch: for one
   * row faster than two, whereas `linear` has faster ways for more.
   */
  normLinear(stream: Stream, { x, norm, epsilon, weight, bias, y }: NormLinearArguments): void {
    const what = 'normLinear'
    const dtype = requireWeightDType(what, 'weight', weight)
    const [outputs, inputs] = requireTensor(what, 'weight', weight, dtype, [undefined, undefined])
    const [rows] = requireTensor(what, 'x', x, 'f32', [undefined, inputs])
    requireTensor(what, 'norm', norm, dtype, [inputs])
    requireTensor(what, 'y', y, 'f32', [rows, outputs])
    if (bias !== undefined) requireTensor(what, 'bias', bias, dtype, [outputs])
    this.#operations.normLinear(
      handleOf(stream),
      dtypeCode[dtype],
      rows as number,
      inputs as number,
      outputs as number,
      epsilon,
      ...operand(x),
      ...operand(norm),
      ...operand(weight),
      ...(bias === undefined ? [undefined, 0] : operand(bias)),
      ...operand(y),
    )
  }

  /**
   * What normLinear and then siluMul make: y[r, i] = silu(g[r, i]) · g[r, ffn + i] with g = norm(x) · weightᵀ, the SwiGLU of
   * Shazeer (2020). In one launch, as normLinear.
   */
  normSwiglu(stream: Stream, { x, norm, epsilon, weight, y }: NormSwigluArguments): void {
    const what = 'normSwiglu'
    const dtype = requireWeightDType(what, 'weight', weight)
    const [rows, ffn] = requireTensor(what, 'y', y, 'f32', [undefined, undefined]) as [number, number]
    const [, inputs] = requireTensor(what, 'weight', weight, dtype, [2 * ffn, undefined])
    requireTensor(what, 'x', x, 'f32', [rows, inputs])
    requireTensor(what, 'norm', norm, dtype, [inputs])
    this.#operations.normSwiglu(
      handleOf(stream),
      dtypeCode[dtype],
      rows,
      inputs as number,
      ffn,
      epsilon,
      ...operand(x),
      ...operand(norm),
      ...operand(weight),
      ...operand(y),
    )
  }

  /**
   * Each head of q and of k, in place: x / sqrt(mean(x²) + epsilon) · its weight, as Hugging Face's Qwen3 does before it
   * rotates. v stays as it is.
   */
  qkNorm(stream: Stream, { qkv, qWeight, kWeight, heads, keyValueHeads, epsilon }: QkNormArguments): void {
    const what = 'qkNorm'
    const dtype = requireWeightDType(what, 'qWeight', qWeight)
    const [headDim] = requireTensor(what, 'qWeight', qWeight, dtype, [undefined]) as [number]
    requireTensor(what, 'kWeight', kWeight, dtype, [headDim])
    const rows = requireQkv(what, qkv, heads, { keyValueHeads, headDim })
    this.#operations.qkNorm(
      handleOf(stream),
      dtypeCode[dtype],
      rows,
      heads,
      keyValueHeads,
      headDim,
      epsilon,
      ...operand(qkv),
      ...operand(qWeight),
      ...operand(kWeight),
    )
  }

  /**
   * Rotary embedding and append to the cache. Row r stands at position[0] + r, read when the work runs, so a replayed
   * graph sees new positions. Rotates q in place (pairs i and i + headDim/2, Hugging Face's rotate_half) and writes
   * rotated k, and v, into the cache at that position. A row whose position is not in [0, context) writes nothing to
   * the cache.
   */
  ropeAppend(
    stream: Stream,
    { qkv, position, inverseFrequency, keys, values, heads, scaling }: RopeAppendArguments,
  ): void {
    const what = 'ropeAppend'
    const cache = requireCache(what, keys, values)
    const rows = requireQkv(what, qkv, heads, cache)
    requireTensor(what, 'position', position, 'i32', [1])
    if (cache.headDim % 2 !== 0) {
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${what}: headDim must be even, it is ${cache.headDim}`)
    }
    requireTensor(what, 'inverseFrequency', inverseFrequency, 'f32', [cache.headDim / 2])
    this.#operations.ropeAppend(
      handleOf(stream),
      dtypeCode[cache.dtype],
      rows,
      heads,
      cache.keyValueHeads,
      cache.headDim,
      cache.context,
      scaling,
      ...operand(qkv),
      ...operand(position),
      ...operand(inverseFrequency),
      ...operand(keys),
      ...operand(values),
    )
  }

  /**
   * Causal attention with grouped queries: row r, at position p = position[0] + r, sees cache positions 0 … p, its own
   * included, so `ropeAppend` comes first; with a `window`, the last `window` of these. y = softmax(scale · q·kᵀ) · v. A
   * row whose position is not in [0, context) has no key of its own in the cache: it gets NaN.
   */
  attention(stream: Stream, { qkv, position, keys, values, heads, scale, window, y }: AttentionArguments): void {
    const what = 'attention'
    const cache = requireCache(what, keys, values)
    const rows = requireQkv(what, qkv, heads, cache)
    requireTensor(what, 'position', position, 'i32', [1])
    requireTensor(what, 'y', y, 'f32', [rows, heads * cache.headDim])
    if (window !== undefined && !(Number.isSafeInteger(window) && window >= 1)) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `${what}: window must be at least 1 position, it is ${window}`,
      )
    }
    this.#operations.attention(
      handleOf(stream),
      dtypeCode[cache.dtype],
      rows,
      heads,
      cache.keyValueHeads,
      cache.headDim,
      cache.context,
      scale,
      // 0 is none for the kernel; a window as long as the cache leaves nothing out.
      window === undefined || window >= cache.context ? 0 : window,
      this.#attentionEntry,
      ...operand(qkv),
      ...operand(position),
      ...operand(keys),
      ...operand(values),
      ...operand(y),
    )
  }

  /** y[r, i] = silu(gateUp[r, i]) · gateUp[r, ffn + i]. */
  siluMul(stream: Stream, { gateUp, y }: SiluMulArguments): void {
    const what = 'siluMul'
    const [rows, ffn] = requireTensor(what, 'y', y, 'f32', [undefined, undefined])
    requireTensor(what, 'gateUp', gateUp, 'f32', [rows, 2 * (ffn as number)])
    this.#operations.siluMul(handleOf(stream), rows as number, ffn as number, ...operand(gateUp), ...operand(y))
  }

  /**
   * x as the sum of two bf16, to 2^-17 of it: parts[0] = x rounded, parts[1] = the rest rounded. Infinity is infinity and
   * NaN.
   */
  split(stream: Stream, { x, parts }: SplitArguments): void {
    const what = 'split'
    const [rows, columns] = requireTensor(what, 'x', x, 'f32', [undefined, undefined]) as [number, number]
    requireTensor(what, 'parts', parts, 'bf16', [2, rows, columns])
    this.#operations.split(handleOf(stream), rows * columns, ...operand(x), ...operand(parts))
  }
}
