import type { TensorView } from '@spillway/core'

// What each kernel is given: dtype and shape of every view, [rows] being those of one call. Weights and caches are f32,
// f16 or bf16.

export interface EmbeddingArguments {
  /** i32 [rows] */
  readonly tokens: TensorView
  /** A weight [vocabulary, hidden]. */
  readonly table: TensorView
  /** f32 [rows, hidden] */
  readonly y: TensorView
}

export interface RmsNormArguments {
  /** f32 [rows, hidden] */
  readonly x: TensorView
  /** [hidden] */
  readonly weight: TensorView
  /** f32 [rows, hidden] */
  readonly y: TensorView
  readonly epsilon: number
}

export interface LinearArguments {
  /** f32 [rows, inputs] */
  readonly x: TensorView
  /** [outputs, inputs] */
  readonly weight: TensorView
  /** [outputs], of the weight's dtype */
  readonly bias?: TensorView | undefined
  /** f32 [rows, outputs] */
  readonly y: TensorView
  /** Adds to what y holds: the residual. */
  readonly accumulate?: boolean | undefined
  /**
   * bf16 [2, rows, inputs]: memory that a matrix library needs for x as it takes it, overwritten or not. Without it, and
   * in captures, the decoder's own kernels compute the product.
   */
  readonly parts?: TensorView | undefined
}

export interface NormLinearArguments {
  /** f32 [rows, inputs] */
  readonly x: TensorView
  /** [inputs], of the weight's dtype */
  readonly norm: TensorView
  readonly epsilon: number
  /** [outputs, inputs] */
  readonly weight: TensorView
  /** [outputs], of the weight's dtype */
  readonly bias?: TensorView | undefined
  /** f32 [rows, outputs] */
  readonly y: TensorView
}

export interface NormSwigluArguments {
  /** f32 [rows, inputs] */
  readonly x: TensorView
  /** [inputs], of the weight's dtype */
  readonly norm: TensorView
  readonly epsilon: number
  /** [2·ffn, inputs]: gate, then up */
  readonly weight: TensorView
  /** f32 [rows, ffn] */
  readonly y: TensorView
}

export interface QkNormArguments {
  /** f32 [rows, (heads + 2·keyValueHeads)·headDim]: q, then k, then v. */
  readonly qkv: TensorView
  /** [headDim] */
  readonly qWeight: TensorView
  /** [headDim], of the same dtype */
  readonly kWeight: TensorView
  readonly heads: number
  readonly keyValueHeads: number
  readonly epsilon: number
}

export interface RopeAppendArguments {
  /** f32 [rows, (heads + 2·keyValueHeads)·headDim]: q, then k, then v. */
  readonly qkv: TensorView
  /** i32 [1] */
  readonly position: TensorView
  /** f32 [headDim/2] */
  readonly inverseFrequency: TensorView
  /** A cache [context, keyValueHeads, headDim]. */
  readonly keys: TensorView
  /** As `keys`. */
  readonly values: TensorView
  readonly heads: number
  /** cos and sin are multiplied by it: 1 unless the model's rope type says otherwise. */
  readonly scaling: number
}

export interface AttentionArguments {
  /** As `ropeAppend` leaves it. */
  readonly qkv: TensorView
  /** i32 [1] */
  readonly position: TensorView
  /** A cache [context, keyValueHeads, headDim], headDim at most 256. */
  readonly keys: TensorView
  /** As `keys`. */
  readonly values: TensorView
  readonly heads: number
  readonly scale: number
  /** Positions that a row sees; default: all up to its own. */
  readonly window?: number | undefined
  /** f32 [rows, heads·headDim] */
  readonly y: TensorView
}

export interface SiluMulArguments {
  /** f32 [rows, 2·ffn] */
  readonly gateUp: TensorView
  /** f32 [rows, ffn] */
  readonly y: TensorView
}

export interface SplitArguments {
  /** f32 [rows, columns] */
  readonly x: TensorView
  /** bf16 [2, rows, columns] */
  readonly parts: TensorView
}
