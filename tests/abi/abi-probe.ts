import { loadNative } from '@spillway/core'
import {
  attach,
  handleOf,
  type NativeDeviceBuffer,
  type NativeHandle,
  type NativeHostBuffer,
  type NativeStream,
  type NativeTable,
} from '@spillway/device'

/** tests/abi/native: an addon that meets the device over its function table only. */
export interface AbiProbe {
  attach(table: unknown, neededBytes?: number): void
  makeTable(major: number, minor: number, structSize: number, tagged: boolean): NativeTable
  /** The device's table, as of a device that takes no times. */
  tableWithoutTiming(): NativeTable
  makeBox(): unknown
  saxpy(
    stream: NativeHandle,
    x: NativeHandle,
    y: NativeHandle,
    count: number,
    a: number,
    xMode?: number,
    xBytes?: number,
  ): void
  cover(stream: NativeHandle, visits: NativeHandle, count: number, grain: number): void
  context(stream: NativeHandle, out: NativeHandle): void
  noTwin(stream: NativeHandle): void
  keep(buffer: NativeHandle): void
  useKept(stream: NativeHandle, to: NativeHandle): void
  letGo(): void
  fill(stream: NativeHandle, to: NativeHandle, value: number): void
  extension(device: NativeHandle, name: string, minStructSize: number): boolean
  beginCapture(stream: NativeHandle): void
  endCapture(stream: NativeHandle): number
  replay(stream: NativeHandle): void
  /** Launches of graphs that hold work of the stream. */
  replays(stream: NativeHandle): number
  dropGraph(): void
  /** The timestamp stays in the addon; returns its number. */
  createTimestamp(device: NativeHandle): number
  recordTimestamp(timestamp: number, stream: NativeHandle): void
  /** NaN for not yet. */
  elapsedMs(device: NativeHandle, from: number, to: number): number
  hostileTiming(device: NativeHandle, stream: NativeHandle, timestamp: number): number[]
  dropTimestamps(): void
  failWithError(device: NativeHandle, errorBytes: number): { status: number; block: Buffer }
  touch(
    stream: NativeHandle,
    ranges: BigUint64Array,
    handles: readonly NativeHandle[],
    declared: BigUint64Array,
    parallel: boolean,
    seed: bigint,
  ): void
  address(buffer: NativeHandle): bigint
  hostileCalls(device: NativeHandle, stream: NativeHandle): number[]
  rawStream(stream: NativeHandle, buffer: NativeHandle): bigint
  notify(stream: NativeHandle): void
  notified(): number
}

export const probe: AbiProbe = loadNative<AbiProbe>({ from: import.meta.url, name: 'abi_probe' })
probe.attach(attach())

export type TouchMode = 'read' | 'write' | 'read-write'
export type TouchBuffer = NativeDeviceBuffer | NativeHostBuffer

/** Bytes of a buffer. `offset`: default 0; `bytes`: default up to the end. */
export interface BufferRange {
  readonly buffer: TouchBuffer
  readonly offset?: number
  readonly bytes?: number
  readonly mode: TouchMode
}
/** Bytes at an address of the device, whatever is there when the work runs (addressOf). */
export interface AddressRange {
  readonly address: bigint
  readonly bytes: number
  readonly mode: TouchMode
}
export interface Touch {
  /** What the kernel reads and writes, in this order; at most 160. Nobody checks that it is inside of a buffer. */
  readonly touch: readonly (BufferRange | AddressRange)[]
  /** What the launch declares. Default: what `touch` says of buffers. */
  readonly declare?: readonly BufferRange[]
  /** Inside of parallel_for, to the same result. */
  readonly parallel?: boolean
  /** What the hash starts with, so that two kernels that read nothing write different bytes. Default 0. */
  readonly seed?: number
}

const modes = { read: 1n, write: 2n, 'read-write': 3n } as const

/** The device's address of a buffer, for a touch when the buffer is long gone. */
export function addressOf(buffer: TouchBuffer): bigint {
  return probe.address(handleOf(buffer))
}

/**
 * Launches the kernel `touch`: reads fold every byte into a hash, writes write bytes made of the hash and the position,
 * so that what comes out depends on everything that was read before it. See `touched` in touch-model.ts.
 */
export function launchTouch(stream: NativeStream, { touch, declare, parallel = false, seed = 0 }: Touch): void {
  const declared = declare ?? touch.filter((range) => 'buffer' in range)
  probe.touch(
    handleOf(stream),
    BigUint64Array.from(touch.flatMap((range) => [start(range), BigInt(bytesOf(range)), modes[range.mode]])),
    declared.map(({ buffer }) => handleOf(buffer)),
    BigUint64Array.from(
      declared.flatMap((range) => [BigInt(range.offset ?? 0), BigInt(bytesOf(range)), modes[range.mode]]),
    ),
    parallel,
    BigInt(seed),
  )
}

function bytesOf(range: BufferRange | AddressRange): number {
  return 'buffer' in range ? (range.bytes ?? range.buffer.bytes - (range.offset ?? 0)) : range.bytes
}

function start(range: BufferRange | AddressRange): bigint {
  if (!('buffer' in range)) return range.address
  const address = addressOf(range.buffer)
  if (address === 0n) throw new Error(`${range.buffer.storage} memory has no address that kernels can use`)
  return address + BigInt(range.offset ?? 0)
}
