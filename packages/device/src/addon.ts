import { realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { loadNative, SpillwayError } from '@spillway/core'
import type { ResolvedAllocatorSettings } from './allocator-settings.js'
import type { FailurePoint } from './failure-injection.js'
import type { MemorySnapshot, MemoryStats, MemoryTrace } from './memory-report.js'
import type { OrderViolationKind } from './order-violation.js'

/** A type-tagged External that holds one reference of the device addon; opaque here and in every other addon. */
export interface NativeHandle {
  readonly __spillwayHandle: never
}
/** The External of the C function table (native/include/spillway/abi.h). */
export interface NativeTable {
  readonly __spillwayTable: never
}

interface NativeBudget {
  readonly limitBytes: number
  readonly usedBytes: number
  readonly peakBytes: number
  readonly cachedBytes: number
  readonly granuleBytes: number
  readonly usedBytesByTag: Readonly<Record<string, number>>
}

/** An operation as the addon knows it: `site` is a number that onSite was called with, 0 for none. */
export interface NativeOperation {
  readonly what: string
  readonly stream: string
  readonly site: number
  readonly launchSite: number
}
export interface NativeViolation {
  readonly kind: OrderViolationKind
  readonly buffer: string
  readonly offset: number
  readonly bytes: number
  readonly earlier: NativeOperation | undefined
  readonly later: NativeOperation
}

/** The addon's functions, one to one. They check their arguments and throw coded errors. */
export interface DeviceAddon {
  attach(): NativeTable
  cudaStatus(): import('./open-device.js').CudaStatus
  cudaDriverCalls(): number
  openCuda(index: number, memoryLimitBytes: number): NativeHandle
  streamWrap(device: NativeHandle, pointer: bigint): NativeHandle
  bufferWrap(device: NativeHandle, pointer: bigint, bytes: number): NativeHandle
  kernelLoad(device: NativeHandle, image: Uint8Array, name: string): Promise<NativeHandle>
  kernelLaunch(
    stream: NativeHandle,
    kernel: NativeHandle,
    shape: readonly number[],
    launchArguments: Uint8Array,
    accesses: readonly (NativeHandle | number)[],
  ): void
  capabilities(device: NativeHandle): {
    unifiedMemory: boolean
    confidentialComputing: boolean
    virtualMemory: boolean
  }
  confidentialComputingBy(library: string): boolean
  systemMemory(): { totalBytes: number; availableBytes: number }
  openHost(
    memoryLimitBytes: number,
    threads: number,
    linkBytesPerSecond: number,
    linkLatencySeconds: number,
    adversarialSeed: number | undefined,
    check: boolean,
    pins: boolean,
    unified: boolean,
  ): NativeHandle
  onSite(note: (site: number, pending: boolean) => void): void
  armFailure(device: NativeHandle, at: number, number: number): void
  disarmFailure(device: NativeHandle): void
  failures(device: NativeHandle): { fired: boolean; passed: Readonly<Record<FailurePoint, number>> }
  takeViolations(device: NativeHandle): readonly NativeViolation[]
  release(handle: NativeHandle): void
  name(device: NativeHandle): string
  budget(device: NativeHandle): NativeBudget
  availableBytes(device: NativeHandle): number
  counters(device: NativeHandle): import('@spillway/core').DeviceCounters
  close(device: NativeHandle): Promise<void>
  streamCreate(device: NativeHandle, priority: number): NativeHandle
  eventCreate(device: NativeHandle): NativeHandle
  record(stream: NativeHandle, event: NativeHandle, external: boolean): void
  wait(stream: NativeHandle, event: NativeHandle, external: boolean): void
  copy(
    stream: NativeHandle,
    to: NativeHandle,
    toOffset: number,
    from: NativeHandle,
    fromOffset: number,
    bytes: number,
  ): void
  copyBatch(stream: NativeHandle, copies: readonly (NativeHandle | number)[]): void
  fill(stream: NativeHandle, to: NativeHandle, offset: number, bytes: number, byte: number): void
  notify(stream: NativeHandle): Promise<void>
  capturing(stream: NativeHandle): boolean
  beginCapture(stream: NativeHandle): void
  endCapture(stream: NativeHandle): NativeHandle
  launchGraph(stream: NativeHandle, graph: NativeHandle): void
  nodeCount(graph: NativeHandle): number
  bufferCreate(
    device: NativeHandle,
    bytes: number,
    tag: string,
    stream: NativeHandle | undefined,
    pool: string,
    settings: ResolvedAllocatorSettings,
  ): NativeHandle
  setDefaultSettings(device: NativeHandle, settings: ResolvedAllocatorSettings): void
  memoryStats(device: NativeHandle): MemoryStats
  memorySnapshot(device: NativeHandle): MemorySnapshot
  startMemoryTrace(device: NativeHandle, events: number): void
  memoryTrace(device: NativeHandle): Pick<MemoryTrace, 'events' | 'snapshot'>
  releaseCachedMemory(device: NativeHandle, pool: string | undefined): number
  hostAllocate(
    device: NativeHandle,
    sizes: readonly number[],
    storage: number,
  ): {
    readonly buffers: readonly Promise<NativeHandle>[]
    readonly cancel: () => void
    readonly takenBytes: () => number
  }
  hostRelease(buffer: NativeHandle): Promise<void> | undefined
  hostMemory(device: NativeHandle): import('./host-memory.js').HostMemoryReport
  readMemoryLimitsFrom(root: string): void
  numaNodeOf(pciAddress: string): [node: number | undefined, cpus: number[]]
  bufferInfo(buffer: NativeHandle): [bytes: number, storage: number, pointer: bigint]
  hostWrite(buffer: NativeHandle, offset: number, source: Uint8Array): void
  hostRead(buffer: NativeHandle, offset: number, bytes: number): Uint8Array
  hostReadInto(buffer: NativeHandle, offset: number, target: Uint8Array): void
  granularity(device: NativeHandle): number
  reserve(device: NativeHandle, bytes: number): NativeHandle
  createPhysical(device: NativeHandle, bytes: number, tag: string): NativeHandle
  map(range: NativeHandle, offset: number, physical: NativeHandle): void
  unmap(range: NativeHandle, offset: number, bytes: number): void
  rangeBuffer(range: NativeHandle, offset: number, bytes: number): NativeHandle
}

let loaded: DeviceAddon | undefined

/**
 * The addon, loaded on first use: importing the package works on any machine. A second copy of the package in the
 * process is refused with SPILLWAY_DUPLICATE_DEVICE: handles of one would be foreign to the other.
 */
export function addon(): DeviceAddon {
  if (loaded === undefined) {
    claimProcess()
    loaded = loadNative<DeviceAddon>({ from: import.meta.url, name: 'device' })
  }
  return loaded
}

function claimProcess(): void {
  const path = realpathSync(createRequire(import.meta.url).resolve('@spillway/device/package.json'))
  const key = Symbol.for('@spillway/device')
  const shared = globalThis as unknown as Record<symbol, unknown>
  const other = shared[key]
  if (other !== undefined && other !== path) {
    throw new SpillwayError(
      'SPILLWAY_DUPLICATE_DEVICE',
      `two copies of @spillway/device are loaded: ${String(other)} and ${path}; make every package depend on one version, then install again`,
      { details: { first: other, second: path } },
    )
  }
  shared[key] = path
}
