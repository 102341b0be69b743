import { loadNative } from '@spillway/core'
import type { KernelDType } from './kernel-operand.js'

/** Which vector instructions the host twins use. `baseline` is what every processor of the architecture has. */
export type InstructionSet = 'baseline' | 'avx2' | 'avx512'

export interface KernelDescription {
  readonly name: string
  /** The device image: `none` until the addon is built with nvcc. */
  readonly image: 'none' | 'fatbin'
  readonly hostTwin: boolean
}

/** Also without a device: which twins there are to choose from. */
export interface KernelAddon {
  attach(table: unknown, instructionSet: string | undefined): KernelOperations
  instructionSets(): InstructionSet[]
}

/**
 * Each enqueues one launch. A tensor crosses as its buffer's External and the byte offset of its first element, in the
 * order of the method of Kernels. The addon trusts nothing here: it checks every range against its buffer.
 */
export interface KernelOperations {
  readonly instructionSet: InstructionSet
  describe(): KernelDescription[]
  embedding(
    stream: unknown,
    dtype: number,
    rows: number,
    vocabulary: number,
    hidden: number,
    ...tensors: unknown[]
  ): void
  rmsNorm(stream: unknown, dtype: number, rows: number, hidden: number, epsilon: number, ...tensors: unknown[]): void
  linear(
    stream: unknown,
    dtype: number,
    rows: number,
    inputs: number,
    outputs: number,
    accumulate: boolean,
    ...tensors: unknown[]
  ): void
  qkNorm(
    stream: unknown,
    dtype: number,
    rows: number,
    heads: number,
    keyValueHeads: number,
    headDim: number,
    epsilon: number,
    ...tensors: unknown[]
  ): void
  ropeAppend(
    stream: unknown,
    dtype: number,
    rows: number,
    heads: number,
    keyValueHeads: number,
    headDim: number,
    context: number,
    scaling: number,
    ...tensors: unknown[]
  ): void
  attention(
    stream: unknown,
    dtype: number,
    rows: number,
    heads: number,
    keyValueHeads: number,
    headDim: number,
    context: number,
    scale: number,
    window: number,
    ...tensors: unknown[]
  ): void
  siluMul(stream: unknown, rows: number, ffn: number, ...tensors: unknown[]): void
}

export const dtypeCode: Readonly<Record<KernelDType, number>> = { f32: 0, f16: 1, bf16: 2 }

/** Throws SPILLWAY_ADDON_NOT_FOUND or SPILLWAY_ADDON_FAILED. */
export function loadKernelAddon(): KernelAddon {
  return loadNative<KernelAddon>({ from: import.meta.url, name: 'decoder' })
}
