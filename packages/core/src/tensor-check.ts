import type { DeviceBuffer, HostBuffer } from './device.js'
import { messageOf } from './errors.js'
import { printable } from './printable.js'
import { type DType, dtypeBytes, extentBytes, type TensorView } from './tensor.js'

/** A layout without a buffer. */
export interface TensorLayout {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly stride: readonly number[]
}

/** The most dimensions a tensor may have: what array formats and kernels in the field stop at. */
const maxDimensions = 32

/** Says what is wrong with a layout that came from outside; undefined when nothing is. */
export function layoutProblem(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return `it is ${printable(value)}, not a tensor`
  const { dtype, shape, stride } = value as Record<string, unknown>
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype)) {
    return `its dtype is ${printable(dtype)}; known are ${Object.keys(dtypeBytes).join(', ')}`
  }
  if (!isNumberList(shape)) return `its shape is ${printable(shape)}, not a list of at most ${maxDimensions} numbers`
  if (!isNumberList(stride)) return `its stride is ${printable(stride)}, not a list of at most ${maxDimensions} numbers`
  try {
    extentBytes({ dtype: dtype as DType, shape, stride })
  } catch (error) {
    return messageOf(error)
  }
  return undefined
}

/** Says what is wrong with a view: its layout, or that it does not lie inside of a live buffer. */
export function viewProblem(value: unknown): string | undefined {
  const problem = layoutProblem(value)
  if (problem !== undefined) return problem
  const view = value as TensorView
  const buffer = view.buffer as Partial<DeviceBuffer | HostBuffer> | null | undefined
  if (typeof buffer !== 'object' || buffer === null) return 'it has no buffer'
  if (buffer.kind !== 'device-buffer' && buffer.kind !== 'host-buffer') return `its buffer is ${printable(buffer.kind)}`
  if (buffer.disposed === true) return 'its buffer has been disposed'
  if (typeof buffer.bytes !== 'number') return 'its buffer has no size'
  const { offset } = view
  if (!Number.isSafeInteger(offset)) return `its offset is ${printable(offset)}, not a number of bytes`
  const end = offset + extentBytes(view)
  if (offset < 0 || end > buffer.bytes) {
    return `bytes ${offset} to ${end} are not inside of its buffer of ${buffer.bytes} bytes`
  }
  return undefined
}

/** The layout by itself, without what else the object holds. */
export function layoutOf({ dtype, shape, stride }: TensorLayout): TensorLayout {
  return { dtype, shape, stride }
}

export function sameLayout(a: TensorLayout, b: TensorLayout): boolean {
  return a.dtype === b.dtype && sameNumbers(a.shape, b.shape) && sameNumbers(a.stride, b.stride)
}

/** `bf16[4, 8] with stride [8, 1]` */
export function formatLayout({ dtype, shape, stride }: TensorLayout): string {
  return `${dtype}[${shape.join(', ')}] with stride [${stride.join(', ')}]`
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}

// A sparse array has holes that every() skips: includes() does see them.
function isNumberList(value: unknown): value is readonly number[] {
  return (
    Array.isArray(value) &&
    value.length <= maxDimensions &&
    !value.includes(undefined) &&
    value.every((number) => typeof number === 'number')
  )
}
