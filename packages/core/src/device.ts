// What the contracts need of a device. @spillway/device implements these; core only declares them.

/** Opaque, reference-counted by the device addon. Using one after dispose throws SPILLWAY_DISPOSED. */
export interface Handle extends AsyncDisposable {
  readonly kind: string
  readonly disposed: boolean
  /**
   * Gives up this object's reference, at once; enqueued work that uses the handle keeps its own until it is done.
   * Calling it again does nothing. The promise settles when nothing is left to wait for.
   */
  dispose(): Promise<void>
}

/** A point in a stream. Recording again moves it; a wait means the record made last before that wait. */
export interface Event extends Handle {
  readonly kind: 'event'
}

export type StreamPriority = 'low' | 'normal' | 'high'

/** A queue of work, done in order. All methods but `synchronize` enqueue and return at once. */
export interface Stream extends Handle {
  readonly kind: 'stream'
  readonly priority: StreamPriority
  readonly capturing: boolean
  /**
   * `external: true`, inside a capture: a record that is made again at each replay, for waits that are no part of the
   * capture. From the launch on a wait means that replay, and does not wait for what of the graph comes later.
   */
  record(event: Event, options?: { external?: boolean }): void
  /**
   * `external: true`, inside a capture: a wait on an event that is no part of the capture, done again at each replay.
   */
  wait(event: Event, options?: { external?: boolean }): void
  copy(to: HostBuffer | DeviceBuffer, from: HostBuffer | DeviceBuffer, range?: CopyRange): void
  /** All of them, in any order or at once, or none when one is refused. Cheaper than one by one. */
  copyBatch(copies: readonly Copy[]): void
  fill(to: HostBuffer | DeviceBuffer, byte: number, range?: { offset?: number; bytes?: number }): void
  /** Everything enqueued from here until `endCapture` is recorded instead of done. */
  beginCapture(): void
  endCapture(): Graph
  /** Enqueues a recorded graph. */
  launch(graph: Graph): void
  /** Settles when everything enqueued so far is done. Blocks neither the event loop nor libuv's pool. */
  synchronize(options?: { signal?: AbortSignal }): Promise<void>
}

/** Recorded work. Replaying it enters no JavaScript. Keeps the buffers it uses. */
export interface Graph extends Handle {
  readonly kind: 'graph'
  readonly nodeCount: number
}

/** All in bytes. Default: offsets 0, and all of the smaller rest. */
export interface CopyRange {
  readonly toOffset?: number
  readonly fromOffset?: number
  readonly bytes?: number
}

export interface Copy extends CopyRange {
  readonly to: HostBuffer | DeviceBuffer
  readonly from: HostBuffer | DeviceBuffer
}

export interface DeviceBuffer extends Handle {
  readonly kind: 'device-buffer'
  readonly bytes: number
  readonly storage: 'device'
  readonly tag: string
  /** Address on the device; never changes. Borrowed by whoever reads it. */
  readonly pointer: bigint
}

export type HostStorage = 'mapped' | 'pinned' | 'pageable'

export interface HostBuffer extends Handle {
  readonly kind: 'host-buffer'
  readonly bytes: number
  readonly storage: HostStorage
  /** Copies bytes in, on the calling thread. The caller orders it against streams that use the buffer. */
  write(source: Uint8Array, offset?: number): void
  /** Copies bytes out, on the calling thread. The caller orders it against streams that use the buffer. */
  read(offset?: number, bytes?: number): Uint8Array
  /** As `read`, as many bytes as `target` has room for: for who reads the same again and again. */
  readInto(target: Uint8Array, offset?: number): void
}

export interface DeviceCapabilities {
  readonly pinnedMemory: boolean
  readonly mappedMemory: boolean
  readonly unifiedMemory: boolean
  readonly confidentialComputing: boolean
  readonly wsl: boolean
  readonly virtualMemory: boolean
  readonly graphs: boolean
}

/**
 * Physical device bytes, counted below every way to get them. A live object: each read is the present value. Used and
 * cached bytes together never pass the limit.
 */
export interface DeviceBudget {
  readonly limitBytes: number
  readonly usedBytes: number
  /** The most that was ever used. */
  readonly peakBytes: number
  /** Had from the system and free: others get them first, and they go back when something else needs them. */
  readonly cachedBytes: number
  /** What an allocation could get now, cached bytes included: no more than the limit, and other processes, leave. */
  readonly availableBytes: number
  /** What memory is had in: plans round up to it. Default: 4096. */
  readonly granuleBytes?: number
  /** Live bytes by tag. */
  readonly usedBytesByTag: Readonly<Record<string, number>>
}

/** Counted where copies and allocations are done; what a backend says of itself is checked against these. */
export interface DeviceCounters {
  readonly hostToDeviceBytes: number
  readonly hostToDeviceCopies: number
  readonly deviceToHostBytes: number
  readonly deviceToHostCopies: number
  readonly deviceToDeviceBytes: number
  readonly hostToHostBytes: number
  readonly launches: number
  /** Enqueued. */
  readonly graphLaunches: number
  /** Live host memory by storage, exact sizes as asked for. */
  readonly pinnedBytes: number
  readonly mappedBytes: number
  readonly pageableBytes: number
  /** Host-to-device bytes by the tag of the device buffer they went to. */
  readonly hostToDeviceBytesByTag: Readonly<Record<string, number>>
  /** Live handles by kind, over every addon and JavaScript object: a leak shows here. */
  readonly liveHandles: Readonly<Record<string, number>>
}

/** Of an allocation of host memory under way. */
export interface HostMemoryProgress {
  /** They have memory behind them. */
  readonly touchedBytes: number
  /** In buffers that can be used. */
  readonly readyBytes: number
  readonly totalBytes: number
}

export interface DeviceAllocation {
  readonly tag: string
  /**
   * The stream that uses the memory first: it may get what work enqueued there before still uses, and other streams
   * must wait for that point. Without one nobody has to wait for anything. Refused while the stream is captured.
   */
  readonly stream?: Stream
  readonly module?: string
}

export interface Device extends Handle {
  readonly kind: 'device'
  readonly type: 'host' | 'cuda'
  readonly name: string
  readonly capabilities: DeviceCapabilities
  readonly budget: DeviceBudget
  counters(): DeviceCounters
  createStream(options?: { priority?: StreamPriority }): Stream
  createEvent(): Event
  /** Throws SPILLWAY_OUT_OF_MEMORY with `requestedBytes`, `freeBytes`, `totalBytes` and `heldBytesByTag`. */
  allocate(bytes: number, options: DeviceAllocation): DeviceBuffer
  /** Gives cached device memory back to the system, as far as no work uses it. Returns the bytes. */
  releaseCachedMemory(): number
  /**
   * Exact size, never rounded to a power of two. Rejects with SPILLWAY_OUT_OF_MEMORY before anything is touched when a
   * limit of the machine would be passed, with the limit's name and value in `limit` and `limitBytes`.
   */
  allocateHost(
    bytes: number,
    options: { storage: HostStorage; signal?: AbortSignal; onProgress?: (progress: HostMemoryProgress) => void },
  ): Promise<HostBuffer>
}
