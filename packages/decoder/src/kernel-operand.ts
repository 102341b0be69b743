import { contiguousStride, type DType, SpillwayError, type TensorView } from '@spillway/core'
import { handleOf } from '@spillway/device'

/** What weights and caches may be stored as. */
export type KernelDType = 'f32' | 'f16' | 'bf16'

const kernelDTypes: readonly DType[] = ['f32', 'f16', 'bf16']

/** The dtype of a weight or cache; throws SPILLWAY_NOT_SUPPORTED when there is no kernel for it. */
export function requireWeightDType(kernel: string, name: string, view: TensorView): KernelDType {
  if (!kernelDTypes.includes(view.dtype)) {
    throw new SpillwayError(
      'SPILLWAY_NOT_SUPPORTED',
      `${kernel}: ${name} is ${view.dtype}; there are kernels for ${kernelDTypes.join(', ')}: convert it first`,
      { details: { kernel, operand: name, dtype: view.dtype } },
    )
  }
  return view.dtype as KernelDType
}

/**
 * The shape of a view that must be contiguous, of one dtype and of a given shape, where `undefined` takes any positive
 * length. Throws SPILLWAY_INVALID_ARGUMENT.
 */
export function requireTensor(
  kernel: string,
  name: string,
  view: TensorView,
  dtype: DType,
  expected: readonly (number | undefined)[],
): readonly number[] {
  const { shape, stride } = view
  const contiguous = contiguousStride(shape)
  const fits =
    view.dtype === dtype &&
    shape.length === expected.length &&
    stride.length === shape.length &&
    shape.every(
      (length, i) =>
        Number.isSafeInteger(length) &&
        length > 0 &&
        (expected[i] === undefined || expected[i] === length) &&
        // A dimension of one element is never stepped along.
        (length === 1 || stride[i] === contiguous[i]),
    )
  if (!fits) {
    const wanted = expected.map((length) => length ?? 'n').join(', ')
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${kernel}: ${name} must be ${dtype} [${wanted}], contiguous; it is ${view.dtype} [${shape.join(', ')}] with ` +
        `strides [${stride.join(', ')}]`,
      { details: { kernel, operand: name, dtype: view.dtype, shape: [...shape], stride: [...stride] } },
    )
  }
  return shape
}

/** A cache's keys; its values are the same. */
interface CacheShape {
  readonly dtype: KernelDType
  readonly context: number
  readonly keyValueHeads: number
  readonly headDim: number
}

/** How a tensor crosses to the addon. */
export function operand(view: TensorView): [external: unknown, offsetBytes: number] {
  return [handleOf(view.buffer), view.offset]
}

/** Throws SPILLWAY_NOT_SUPPORTED, SPILLWAY_INVALID_ARGUMENT. */
export function requireCache(what: string, keys: TensorView, values: TensorView): CacheShape {
  const dtype = requireWeightDType(what, 'keys', keys)
  const shape = requireTensor(what, 'keys', keys, dtype, [undefined, undefined, undefined])
  requireTensor(what, 'values', values, dtype, shape)
  const [context, keyValueHeads, headDim] = shape as [number, number, number]
  return { dtype, context, keyValueHeads, headDim }
}

/** How many rows `qkv` has. Throws SPILLWAY_INVALID_ARGUMENT. */
export function requireQkv(
  what: string,
  qkv: TensorView,
  heads: number,
  { keyValueHeads, headDim }: Pick<CacheShape, 'keyValueHeads' | 'headDim'>,
): number {
  const positive = [heads, keyValueHeads].every((count) => Number.isSafeInteger(count) && count >= 1)
  if (!positive || heads % keyValueHeads !== 0) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${what}: heads must be a positive multiple of the ${keyValueHeads} key-value heads, it is ${heads}`,
    )
  }
  const [rows] = requireTensor(what, 'qkv', qkv, 'f32', [undefined, (heads + 2 * keyValueHeads) * headDim])
  return rows as number
}
