import type { DeviceBuffer, HostBuffer } from './device.js'
import { SpillwayError } from './errors.js'

export type DType = 'f64' | 'f32' | 'f16' | 'bf16' | 'f8e4m3' | 'f8e5m2' | 'i64' | 'i32' | 'i16' | 'i8' | 'u8' | 'bool'

/** Bytes of one element. */
export const dtypeBytes: Readonly<Record<DType, number>> = Object.freeze({
  f64: 8,
  f32: 4,
  f16: 2,
  bf16: 2,
  f8e4m3: 1,
  f8e5m2: 1,
  i64: 8,
  i32: 4,
  i16: 2,
  i8: 1,
  u8: 1,
  bool: 1,
})

/** A shape and layout over part of a buffer. Owns nothing: the buffer outlives the view. */
export interface TensorView {
  readonly buffer: DeviceBuffer | HostBuffer
  /** Where element 0 lies, in bytes from the start of the buffer. */
  readonly offset: number
  readonly dtype: DType
  readonly shape: readonly number[]
  /** In elements, one per dimension. */
  readonly stride: readonly number[]
}

/** Row-major strides, in elements. */
export function contiguousStride(shape: readonly number[]): number[] {
  const stride = new Array<number>(shape.length)
  let step = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    stride[i] = step
    step *= Math.max(shape[i] as number, 1)
  }
  return stride
}

/** Number of elements; the product of an empty shape is 1 (a scalar). */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1)
}

/**
 * Bytes from the first to one past the last element, gaps of the strides included: what a parameter occupies in a
 * slab. Throws SPILLWAY_INVALID_ARGUMENT for a shape or stride that is negative, fractional or past 2^53.
 */
export function extentBytes(tensor: {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly stride: readonly number[]
}): number {
  const { dtype, shape, stride } = tensor
  const width: number | undefined = dtypeBytes[dtype]
  if (width === undefined || shape.length !== stride.length) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `not a tensor layout: ${JSON.stringify({ dtype, shape, stride })}`,
    )
  }
  let last = 0
  for (let i = 0; i < shape.length; i++) {
    const length = shape[i] as number
    const step = stride[i] as number
    if (!Number.isSafeInteger(length) || length < 0 || !Number.isSafeInteger(step) || step < 0) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `not a tensor layout: ${JSON.stringify({ dtype, shape, stride })}`,
      )
    }
    if (length === 0) return 0
    last += (length - 1) * step
  }
  const bytes = (last + 1) * width
  if (!Number.isSafeInteger(bytes)) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `a tensor of shape [${shape.join(', ')}] is larger than 2^53 bytes`,
    )
  }
  return bytes
}
