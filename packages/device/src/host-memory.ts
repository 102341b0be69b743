/** What bounds the host memory of this process, and how large pinned buffers are made on this machine. */
export interface HostMemoryReport {
  /** MemAvailable, and `memory.max` (or version 1's) of each control group above the process. */
  readonly limits: readonly {
    readonly name: string
    readonly limitBytes: number
    /** What it leaves, without swapping. */
    readonly availableBytes: number
    /** What pageable memory can have besides. */
    readonly swapBytes: number
  }[]
  /** Granted to allocations under way, and not touched yet. */
  readonly reservedBytes: number
  /** `ulimit -l`; undefined when there is none. A driver that pins does not count against it, as a rule. */
  readonly lockableBytes?: number
  /** Where the device is, on a machine with memory in several places; memory is touched first there. */
  readonly numaNode?: number
  /** What the probe found; undefined before the first large allocation. */
  readonly hugePages?: { readonly used: boolean; readonly reason: string }
}
