import { contiguousStride, type DType, SpillwayError, type TensorView } from '@spillway/core'

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
