import type { DType } from '@spillway/core'

export interface StoredDType {
  /** Of one element; less than 8 for packed formats. */
  readonly bits: number
  /** null: Spillway has no such dtype yet, so tensors of it are listed but not read. */
  readonly dtype: DType | null
}

/**
 * Every dtype name the safetensors format knows, with its width (source: the Dtype enumeration and `bitsize` of the
 * huggingface/safetensors crate, 0.7). A Map: a file may call its dtype `constructor`.
 */
export const storedDTypes: ReadonlyMap<string, StoredDType> = new Map<string, StoredDType>([
  ['F64', { bits: 64, dtype: 'f64' }],
  ['F32', { bits: 32, dtype: 'f32' }],
  ['F16', { bits: 16, dtype: 'f16' }],
  ['BF16', { bits: 16, dtype: 'bf16' }],
  ['F8_E4M3', { bits: 8, dtype: 'f8e4m3' }],
  ['F8_E5M2', { bits: 8, dtype: 'f8e5m2' }],
  ['I64', { bits: 64, dtype: 'i64' }],
  ['I32', { bits: 32, dtype: 'i32' }],
  ['I16', { bits: 16, dtype: 'i16' }],
  ['I8', { bits: 8, dtype: 'i8' }],
  ['U8', { bits: 8, dtype: 'u8' }],
  ['BOOL', { bits: 8, dtype: 'bool' }],
  ['U64', { bits: 64, dtype: null }],
  ['U32', { bits: 32, dtype: null }],
  ['U16', { bits: 16, dtype: null }],
  ['C64', { bits: 64, dtype: null }],
  ['F8_E8M0', { bits: 8, dtype: null }],
  ['F8_E4M3FNUZ', { bits: 8, dtype: null }],
  ['F8_E5M2FNUZ', { bits: 8, dtype: null }],
  ['F6_E2M3', { bits: 6, dtype: null }],
  ['F6_E3M2', { bits: 6, dtype: null }],
  ['F4', { bits: 4, dtype: null }],
])

/** Names of the dtypes that can be read, for messages. */
export const readableDTypeNames: string = [...storedDTypes]
  .filter(([, stored]) => stored.dtype !== null)
  .map(([name]) => name)
  .join(', ')
