import { type DType, dtypeBytes } from '@spillway/core'

/** The dtypes that kernels of backends are asked about. */
export const floatDTypes = ['f32', 'f16', 'bf16'] as const
export type FloatDType = (typeof floatDTypes)[number]

/** The relative step of a dtype: half of it is what rounding to it can lose. */
export const epsilon: Readonly<Record<FloatDType, number>> = { f32: 2 ** -23, f16: 2 ** -10, bf16: 2 ** -7 }

/** Rounded to nearest; ties and overflow do not occur in what the suite encodes. */
export function encode(dtype: FloatDType | 'i32' | 'i64', values: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(values.length * dtypeBytes[dtype])
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (dtype === 'f32') view.setFloat32(4 * i, value, true)
    else if (dtype === 'i32') view.setInt32(4 * i, value, true)
    else if (dtype === 'i64') view.setBigInt64(8 * i, BigInt(value), true)
    else if (dtype === 'bf16') view.setUint16(2 * i, bf16Bits(value), true)
    else view.setUint16(2 * i, f16Bits(value), true)
  }
  return bytes
}

export function decode(dtype: FloatDType, bytes: Uint8Array): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float64Array.from({ length: bytes.length / dtypeBytes[dtype as DType] }, (_, i) => {
    if (dtype === 'f32') return view.getFloat32(4 * i, true)
    const bits = view.getUint16(2 * i, true)
    return dtype === 'bf16' ? bf16Value(bits) : f16Value(bits)
  })
}

const scratch = new DataView(new ArrayBuffer(4))

function bf16Bits(value: number): number {
  scratch.setFloat32(0, value)
  return (scratch.getUint32(0) + 0x8000) >>> 16
}

function bf16Value(bits: number): number {
  scratch.setUint32(0, bits * 65_536)
  return scratch.getFloat32(0)
}

// Sign, five bits of exponent (bias 15), ten of fraction. Below 2^-14 the fraction has no leading one.
function f16Bits(value: number): number {
  const size = Math.abs(value)
  const sign = value < 0 ? 0x8000 : 0
  if (size === 0) return sign
  const exponent = Math.max(Math.floor(Math.log2(size)), -14)
  const steps = Math.round(size / 2 ** (exponent - 10))
  // A rounding up to the next power carries into the exponent by itself.
  return sign + (exponent + 14) * 1024 + steps
}

function f16Value(bits: number): number {
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  const sign = bits & 0x8000 ? -1 : 1
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}
