/** Of a named pool, of what is in none, or of all. Counts since the device was opened; bytes of device memory. */
export interface MemoryStatistics {
  /** Had from the system, in segments: live, cached and lost to rounding. */
  readonly reservedBytes: number
  /** In live blocks: what was asked for, rounded up. */
  readonly liveBytes: number
  /** What was asked for. */
  readonly requestedBytes: number
  readonly peakReservedBytes: number
  readonly peakLiveBytes: number
  readonly peakRequestedBytes: number
  readonly allocations: number
  readonly frees: number
  /** Growing an expandable segment counts as one. */
  readonly segmentsCreated: number
  readonly segmentsDestroyed: number
  /** Allocations that found no memory. */
  readonly outOfMemory: number
}

export interface MemoryStats extends MemoryStatistics {
  /** By name; '' is what is in no pool. */
  readonly pools: Readonly<Record<string, MemoryStatistics>>
  readonly liveBytesByTag: Readonly<Record<string, number>>
}

export interface MemoryBlock {
  readonly address: number
  readonly bytes: number
  /** pending: free, while work that may not be done keeps it from some streams. */
  readonly state: 'live' | 'idle' | 'pending'
  /** Live: what was asked for. */
  readonly requestedBytes?: number
  readonly tag?: string
  /** Live: whose it is; pending: whose work uses it. Numbers that mean nothing but same or not the same. */
  readonly streams: readonly number[]
}

export interface MemorySegment {
  readonly address: number
  readonly bytes: number
  /** '' : in no pool. */
  readonly pool: string
  /** Blocks of at most 1 MiB lie in segments of their own. */
  readonly sizeClass: 'small' | 'large'
  readonly expandable: boolean
  /** By address, without gaps. */
  readonly blocks: readonly MemoryBlock[]
}

/** What the allocator holds at one moment. */
export interface MemorySnapshot {
  readonly stats: MemoryStats
  readonly segments: readonly MemorySegment[]
}

export interface MemoryEvent {
  readonly kind: 'allocate' | 'free' | 'createSegment' | 'destroySegment' | 'outOfMemory'
  /** From 0, since tracing began. */
  readonly number: number
  /** On a clock of the machine that only goes forward. */
  readonly timeMs: number
  /** Of blocks; of segments ''. */
  readonly tag: string
  readonly pool: string
  readonly stream: number
  /** Out of memory: 0. */
  readonly address: number
  /** Of the block, or of what was created or destroyed; out of memory: of the block there is none for. */
  readonly bytes: number
  /** Of blocks: what was asked for. */
  readonly requestedBytes: number
}

/** The last events, and what they led to. Plain data: `JSON.stringify` makes the file that `spillway memory` reads. */
export interface MemoryTrace {
  readonly format: 'spillway-memory-trace'
  readonly version: 1
  readonly device: string
  readonly limitBytes: number
  /** Events before the first one that is here. */
  readonly lostEvents: number
  /** The oldest first. */
  readonly events: readonly MemoryEvent[]
  /** After the last event. */
  readonly snapshot: MemorySnapshot
}
