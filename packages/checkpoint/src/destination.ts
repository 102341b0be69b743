import {
  type DeviceBuffer,
  dtypeBytes,
  extentBytes,
  type HostBuffer,
  SpillwayError,
  type TensorView,
} from '@spillway/core'
import { quote } from './checkpoint-error.js'

/** Where a tensor's row-major bytes go: one run, or one for each row of a strided view. */
export interface Destination {
  readonly buffer: DeviceBuffer | HostBuffer
  /** Bytes of the tensor that are contiguous in the file and in the view alike. */
  readonly runBytes: number
  /** Bytes, gaps of the strides included. */
  readonly extent: { readonly begin: number; readonly end: number }
  /** Lengths and strides in bytes of the dimensions outside a run, outermost first. */
  readonly outer: readonly { readonly length: number; readonly strideBytes: number }[]
}

/**
 * Checks that a view lies inside its buffer and that no two of its elements share a byte. Throws
 * SPILLWAY_INVALID_ARGUMENT naming the tensor. The view's dtype and shape equal the file's already.
 */
export function destinationOf(name: string, view: TensorView): Destination {
  const { buffer, offset, dtype, shape, stride } = view
  const end = offset + extentBytes(view)
  if (!Number.isSafeInteger(offset) || offset < 0 || end > buffer.bytes) {
    const reason = `the place for tensor ${quote(name)}, bytes ${offset} to ${end}, is not inside its buffer of ${buffer.bytes} bytes`
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', reason, { details: { tensor: name } })
  }
  const width = dtypeBytes[dtype]
  const outer = shape
    .map((length, i) => ({ length, strideBytes: (stride[i] as number) * width }))
    .filter(({ length }) => length !== 1)
  if (overlaps(outer, width)) {
    const reason = `the place for tensor ${quote(name)} has strides [${stride.join(', ')}], by which elements of shape [${shape.join(', ')}] share bytes: nothing can be loaded into it`
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', reason, { details: { tensor: name } })
  }
  let runBytes = width
  for (let last = outer.at(-1); last !== undefined && last.strideBytes === runBytes; last = outer.at(-1)) {
    runBytes *= last.length
    outer.pop()
  }
  return { buffer, runBytes, extent: { begin: offset, end }, outer }
}

/** Sufficient and, for layouts that are permutations of padded ones, necessary: each dimension steps over the smaller. */
function overlaps(dimensions: readonly { length: number; strideBytes: number }[], width: number): boolean {
  if (dimensions.some(({ length }) => length === 0)) return false
  let span = width
  for (const { length, strideBytes } of [...dimensions].sort((a, b) => a.strideBytes - b.strideBytes)) {
    if (strideBytes < span) return true
    span += (length - 1) * strideBytes
  }
  return false
}

/** Calls `run` for each contiguous piece of the tensor's row-major bytes `begin` to `end`. `from` counts from `begin`. */
export function forEachRun(
  destination: Destination,
  begin: number,
  end: number,
  run: (toOffset: number, from: number, bytes: number) => void,
): void {
  const { runBytes, outer, extent } = destination
  for (let at = begin; at < end; ) {
    const within = at % runBytes
    const bytes = Math.min(runBytes - within, end - at)
    let index = (at - within) / runBytes
    let toOffset = extent.begin + within
    for (let i = outer.length - 1; i >= 0; i--) {
      const { length, strideBytes } = outer[i] as { length: number; strideBytes: number }
      toOffset += (index % length) * strideBytes
      index = Math.floor(index / length)
    }
    run(toOffset, at - begin, bytes)
    at += bytes
  }
}
