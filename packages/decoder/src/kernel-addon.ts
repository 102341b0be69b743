import { loadNative, SpillwayError } from '@spillway/core'
import type { KernelDType } from './kernel-operand.js'

/** Which vector instructions the host twins use. `baseline` is what every processor of the architecture has. */
export type InstructionSet = 'baseline' | 'avx2' | 'avx512'

export interface KernelDescription {
  readonly name: string
  /** The device image: `none` where the addon was built without nvcc. */
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
  /** Tries the names in their order, on that device; remembers what was opened. */
  openMatrixLibrary(
    device: unknown,
    names: readonly string[],
  ): { readonly number: number; readonly description: string } | { readonly reason: string }
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
    entry: number,
    library: number | undefined,
    ...tensors: unknown[]
  ): void
  normLinear(
    stream: unknown,
    dtype: number,
    rows: number,
    inputs: number,
    outputs: number,
    epsilon: number,
    ...tensors: unknown[]
  ): void
  normSwiglu(
    stream: unknown,
    dtype: number,
    rows: number,
    inputs: number,
    ffn: number,
    epsilon: number,
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
    entry: number,
    ...tensors: unknown[]
  ): void
  siluMul(stream: unknown, rows: number, ffn: number, ...tensors: unknown[]): void
  split(stream: unknown, count: number, ...tensors: unknown[]): void
}

/** Entry points that compute the same, by their fastest use; each is right for any number of rows. */
export type LinearEntry = 'vector' | 'few' | 'tiles'
export type AttentionEntry = 'split' | 'tiles'

const linearEntries: readonly LinearEntry[] = ['vector', 'few', 'tiles']
const attentionEntries: readonly AttentionEntry[] = ['split', 'tiles']

/** How an entry crosses to the addon: 0 leaves it to the number of rows. Throws SPILLWAY_INVALID_ARGUMENT. */
export function linearEntryCode(entry: LinearEntry | undefined): number {
  return entryCode('linear', linearEntries, entry)
}

/** As linearEntryCode. */
export function attentionEntryCode(entry: AttentionEntry | undefined): number {
  return entryCode('attention', attentionEntries, entry)
}

function entryCode<T extends string>(option: string, entries: readonly T[], entry: T | undefined): number {
  if (entry !== undefined && !entries.includes(entry)) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${option} is ${JSON.stringify(entry)}: leave it out, or choose from ${entries.join(', ')}`,
    )
  }
  return entry === undefined ? 0 : entries.indexOf(entry) + 1
}

export const dtypeCode: Readonly<Record<KernelDType, number>> = { f32: 0, f16: 1, bf16: 2 }

/** Throws SPILLWAY_ADDON_NOT_FOUND or SPILLWAY_ADDON_FAILED. */
export function loadKernelAddon(): KernelAddon {
  return loadNative<KernelAddon>({ from: import.meta.url, name: 'decoder' })
}
