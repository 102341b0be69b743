import { loadNative } from '@spillway/core'
import type { MemorySnapshot, MemoryStats, MemoryTrace } from '@spillway/device'

declare const rigHandle: unique symbol
/** One allocator over one made-up source, and how far each stream is. */
export type RigHandle = { readonly [rigHandle]: true }

/** As native code takes them: resolved. */
export interface NativeSettings {
  readonly maxSplitBytes?: number
  readonly expandableSegments?: boolean
  readonly garbageCollectionThreshold?: number
  readonly roundupPower2Divisions?: number
}

/** Without what reading the clock takes. */
interface MeasuredCall {
  readonly medianNs: number
  readonly p99Ns: number
}

/** tests/allocator/native: the allocator of @spillway/device by itself. */
interface AllocatorProbe {
  /** `mapGranuleBytes` 0: no virtual memory. */
  create(limitBytes: number, granuleBytes: number, mapGranuleBytes: number): RigHandle
  /** [id, address, bytes] */
  allocate(
    rig: RigHandle,
    bytes: number,
    stream: number,
    tag: string,
    pool: string,
    settings: NativeSettings,
  ): [number, number, number]
  /** [stream, position, …] */
  free(rig: RigHandle, id: number, uses: readonly number[]): void
  complete(rig: RigHandle, stream: number, position: number): void
  completed(rig: RigHandle, stream: number): number
  releaseCached(rig: RigHandle, pool?: string): number
  failAt(rig: RigHandle, call: number, lost: boolean): void
  statistics(rig: RigHandle): MemoryStats
  sourceUsedBytes(rig: RigHandle): number
  sourceCalls(rig: RigHandle): number
  snapshot(rig: RigHandle): MemorySnapshot
  startTrace(rig: RigHandle, capacity: number): void
  trace(rig: RigHandle): Pick<MemoryTrace, 'events' | 'snapshot'>
  /** [kind, address, bytes, …] since the last call; kinds as in `sourceKinds`. */
  takeSourceEvents(rig: RigHandle): number[]
  end(rig: RigHandle): void
  hammer(rig: RigHandle, threads: number, rounds: number, seed: number): number
  measure(rig: RigHandle, live: number, rounds: number): Readonly<Record<'allocate' | 'free', MeasuredCall>>
}

export const sourceKinds = ['create', 'destroy', 'reserve', 'unreserve', 'map', 'unmap'] as const
export const probe: AllocatorProbe = loadNative<AllocatorProbe>({ from: import.meta.url, name: 'allocator_probe' })
