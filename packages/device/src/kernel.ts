import { types } from 'node:util'
import { type DeviceBuffer, type HostBuffer, printable, readOptions, SpillwayError } from '@spillway/core'
import type { NativeHandle } from './addon.js'
import { readList, restBytes } from './call-options.js'
import { handleOf, NativeObject } from './native-object.js'

/** A kernel of an image that a program brought: see `NativeDevice.loadKernel`. */
export class NativeKernel extends NativeObject {
  readonly kind = 'kernel'
  /** Its entry point in the image. */
  readonly name: string

  constructor(handle: NativeHandle, name: string) {
    super(handle)
    this.name = name
  }
}

/** A range of a buffer that a kernel touches, in bytes; default: all of it. */
export interface KernelAccess {
  readonly buffer: DeviceBuffer | HostBuffer
  readonly mode: 'read' | 'write' | 'read-write'
  readonly offset?: number
  readonly bytes?: number
}

/** One launch of a kernel. */
export interface KernelLaunch {
  /** Blocks, in one to three dimensions. */
  readonly grid: readonly number[]
  /** Threads of a block, in one to three dimensions. */
  readonly block: readonly number[]
  /** Dynamic shared memory of a block. Default: 0. */
  readonly sharedBytes?: number
  /** The kernel's parameters as they lie in memory, each aligned as in a C struct, without padding at the end. */
  readonly arguments: Uint8Array
  /** Every byte that the kernel reads or writes: what is not named here may be gone before the kernel runs. */
  readonly accesses: readonly KernelAccess[]
}

export interface FlatLaunch {
  /** Grid, block, shared bytes: seven numbers. */
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
  /** Buffer, offset, bytes, mode of each access. */
  readonly accesses: readonly (NativeHandle | number)[]
}

// SPILLWAY_ACCESS_* of abi.h.
const modes: ReadonlyMap<unknown, number> = new Map([
  ['read', 1],
  ['write', 2],
  ['read-write', 3],
])
const launchNames = ['grid', 'block', 'sharedBytes', 'arguments', 'accesses'] as const

/** Checks what a caller passed, each thing read once. Throws SPILLWAY_INVALID_ARGUMENT. */
export function readLaunch(launch: KernelLaunch): FlatLaunch {
  const call = 'launchKernel'
  const given = readOptions<KernelLaunch, (typeof launchNames)[number]>(launch, call, launchNames)
  const { grid, block, sharedBytes = 0, arguments: bytes, accesses } = given
  if (!types.isUint8Array(bytes)) throw invalid(`arguments is a Uint8Array, not ${printable(bytes)}`)
  return {
    shape: [...dimensions('grid', grid), ...dimensions('block', block), sharedBytes],
    bytes,
    accesses: readList(accesses, call).flatMap(readAccess),
  }
}

function dimensions(what: string, value: readonly number[]): number[] {
  const [x, y = 1, z = 1, ...more] = readList(value, 'launchKernel')
  if (x === undefined || more.length > 0) throw invalid(`${what} has one to three dimensions`)
  return [x, y, z]
}

function readAccess(access: KernelAccess): (NativeHandle | number)[] {
  const names = ['buffer', 'mode', 'offset', 'bytes'] as const
  const { buffer, mode, offset = 0, bytes } = readOptions(access, 'launchKernel', names)
  const code = modes.get(mode)
  if (code === undefined) throw invalid(`an access is ${[...modes.keys()].join(', ')}, not ${printable(mode)}`)
  const handle = handleOf(buffer)
  return [handle, offset, bytes ?? restBytes(buffer.bytes, offset), code]
}

function invalid(rule: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `launchKernel: ${rule}`)
}
