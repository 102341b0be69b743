import {
  type DeviceBuffer,
  type Offloader,
  type Recovery,
  SpillwayError,
  type Tag,
  type TensorView,
} from '@spillway/core'
import { ensureBytes } from '../assert.js'
import { pattern } from '../model.js'
import type { Rig } from '../rig.js'

/** Device memory of the engine's own, from the residency backend's pool, with bytes in it. */
export interface OwnMemory {
  readonly buffer: DeviceBuffer
  readonly tensor: TensorView
  readonly bytes: Uint8Array
  readonly pointer: bigint
}

export interface OwnMemoryOptions {
  readonly tag: Tag
  readonly bytes: number
  readonly recovery?: Recovery
  readonly module?: string
  readonly seed?: number
}

/** Given back before the offloader is disposed. */
export async function ownMemory(
  rig: Rig,
  offloader: Offloader,
  { tag, bytes, recovery = { kind: 'copy' }, module, seed = 1 }: OwnMemoryOptions,
): Promise<OwnMemory> {
  const options = { stream: rig.compute, recovery, ...(module === undefined ? {} : { module }) }
  const buffer = rig.keep(offloader.memory(tag).allocate(bytes, options))
  const memory = { buffer, tensor: viewOf(buffer, bytes), bytes: pattern(seed + 3000, bytes), pointer: buffer.pointer }
  await rig.write([[memory.tensor, memory.bytes]])
  return memory
}

export function viewOf(buffer: TensorView['buffer'], bytes: number): TensorView {
  return { buffer, offset: 0, dtype: 'u8', shape: [bytes], stride: [1] }
}

export async function checkMemory(rig: Rig, { tensor, bytes }: OwnMemory, what: string): Promise<void> {
  ensureBytes((await rig.read([tensor]))[0]!, bytes, what)
}

/** Whoever holds an offloader of this suite has one with a residency backend. */
export function residencyOf({ residency, names }: Offloader): NonNullable<Offloader['residency']> {
  if (residency !== undefined) return residency
  throw new SpillwayError('SPILLWAY_INTERNAL', `the offloader ${names.join('+')} has no residency backend`)
}

export function totalOf(hostBytes: Readonly<Record<string, number>>): number {
  return Object.values(hostBytes).reduce((sum, bytes) => sum + bytes, 0)
}
