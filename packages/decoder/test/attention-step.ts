import type { TensorView } from '@spillway/core'
import type { Kernels } from '../src/kernels.js'
import type { HeadShape } from './kernels-reference.js'
import type { KernelRig, Tensor } from './kernels-rig.js'

// f32 rounds a score of 10 by up to 5e-7, and softmax turns that into a relative error of its result.
export const tolerance = 1e-5
export const context = 80
export const scaling = 1.1
export const scale = 0.3

/** The operands of one ropeAppend and the attention after it. */
export interface AttentionStep {
  readonly shape: HeadShape
  readonly qkv: Tensor
  readonly position: TensorView
  readonly inverseFrequency: Tensor
  readonly keys: Tensor
  readonly values: Tensor
}

/** A cache of `length` positions, filled up to `position`, NaN from there on, and the rows to come. */
export async function prepare(
  rig: KernelRig,
  shape: HeadShape,
  dtype: 'f32' | 'f16' | 'bf16',
  position: number,
  rows: number,
  length: number = context,
): Promise<AttentionStep> {
  const { heads, keyValueHeads, headDim } = shape
  const cache = () =>
    rig.randoms(length * keyValueHeads * headDim).fill(Number.NaN, Math.max(position, 0) * keyValueHeads * headDim)
  const cacheShape = [length, keyValueHeads, headDim]
  return {
    shape,
    qkv: await rig.uploadRandom('f32', [rows, (heads + 2 * keyValueHeads) * headDim], 2),
    position: (await rig.upload('i32', [1], [position])).view,
    inverseFrequency: await rig.upload(
      'f32',
      [headDim / 2],
      Array.from({ length: headDim / 2 }, (_, i) => 10000 ** ((-2 * i) / headDim)),
    ),
    keys: await rig.upload(dtype, cacheShape, cache()),
    values: await rig.upload(dtype, cacheShape, cache()),
  }
}

export function ropeAppend(rig: KernelRig, kernels: Kernels, step: AttentionStep): void {
  kernels.ropeAppend(rig.stream, {
    qkv: step.qkv.view,
    position: step.position,
    inverseFrequency: step.inverseFrequency.view,
    keys: step.keys.view,
    values: step.values.view,
    heads: step.shape.heads,
    scaling,
  })
}

export function attention(rig: KernelRig, kernels: Kernels, step: AttentionStep, window?: number): TensorView {
  const y = rig.poisoned('f32', [step.qkv.view.shape[0] as number, step.shape.heads * step.shape.headDim])
  kernels.attention(rig.stream, {
    qkv: step.qkv.view,
    position: step.position,
    keys: step.keys.view,
    values: step.values.view,
    heads: step.shape.heads,
    scale,
    window,
    y,
  })
  return y
}
