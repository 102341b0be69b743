import type { MemoryEvent, MemoryTrace } from '@spillway/device'

/** A block that was live at some moment. Never changes: states share it. */
export interface LiveBlock {
  readonly address: number
  readonly bytes: number
  readonly requestedBytes: number
  readonly tag: string
  readonly stream: number
  /** Index of the event that allocated it; -1: it is older than the first event. */
  readonly bornAt: number
}

/** A range of addresses had from the system. Never changes: states share it. */
export interface ReservedRange {
  readonly address: number
  readonly bytes: number
  readonly pool: string
  /** It grew, or is known to. Of a segment that is gone there may be nothing to tell. */
  readonly expandable: boolean
}

export interface MemoryState {
  /** By address; none overlap. */
  readonly segments: readonly ReservedRange[]
  /** By address. */
  readonly live: ReadonlyMap<number, LiveBlock>
}

/** More than a driver gives out. Bounds the time that a trace which is made up can take. */
const mostSegments = 50_000

/** A state that events are taken out of again, the last one first. */
export class UndoableState implements MemoryState {
  readonly segments: ReservedRange[]
  readonly live: Map<number, LiveBlock>
  /** Segments as they were after they, or a part of them, were created. */
  readonly created: ReservedRange[] = []
  reserved = 0
  liveTotal = 0
  requested = 0

  constructor(from: MemoryState | MemoryTrace, births?: ReadonlyMap<number, number>) {
    if ('live' in from) {
      this.segments = [...from.segments]
      this.live = new Map(from.live)
      return
    }
    this.segments = from.snapshot.segments
      .map(({ address, bytes, pool, expandable }) => ({ address, bytes, pool, expandable }))
      .sort((a, b) => a.address - b.address)
    this.live = new Map()
    for (const { blocks } of from.snapshot.segments) {
      for (const { state, address, bytes, requestedBytes = bytes, tag = '', streams } of blocks) {
        if (state !== 'live') continue
        const bornAt = births?.get(address) ?? -1
        this.#insert({ address, bytes, requestedBytes, tag, stream: streams[0] ?? 0, bornAt })
      }
    }
    this.reserved = this.segments.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  get size(): number {
    return this.segments.length + this.live.size
  }

  copy(): MemoryState {
    return { segments: [...this.segments], live: new Map(this.live) }
  }

  /** Makes this the state before `event`. What contradicts it is returned as a sentence, and nothing is changed. */
  undo(event: MemoryEvent, bornAt: number): string | undefined {
    switch (event.kind) {
      case 'allocate':
        return this.#undoAllocate(event)
      case 'free':
        return this.#undoFree(event, bornAt)
      case 'createSegment':
        return this.#undoCreate(event)
      case 'destroySegment':
        return this.#undoDestroy(event)
      case 'outOfMemory':
        return undefined
    }
  }

  #undoAllocate({ address, bytes }: MemoryEvent): string | undefined {
    const block = this.live.get(address)
    if (block === undefined) return `allocates ${bytes} bytes at ${address}, where no block is live after it`
    if (block.bytes !== bytes)
      return `allocates ${bytes} bytes at ${address}, where one of ${block.bytes} is live after it`
    this.live.delete(address)
    this.liveTotal -= bytes
    this.requested -= block.requestedBytes
    return undefined
  }

  #undoFree({ address, bytes, requestedBytes, tag, stream }: MemoryEvent, bornAt: number): string | undefined {
    if (this.live.has(address)) return `frees ${bytes} bytes at ${address}, where a block is live after it`
    const at = this.#unite(address, bytes)
    if (at < 0) return `frees ${bytes} bytes at ${address}, which is in no segment`
    this.#insert({ address, bytes, requestedBytes, tag, stream, bornAt })
    return undefined
  }

  // What was created may be the end of a segment that grew.
  #undoCreate({ address, bytes }: MemoryEvent): string | undefined {
    const at = this.#unite(address, bytes)
    const end = address + bytes
    if (at < 0 || endOf(this.segments[at]) !== end) {
      return `creates ${bytes} bytes at ${address}, which are not what is reserved after it`
    }
    const { address: start, pool } = this.segments[at] as ReservedRange
    this.created.push({ address: start, bytes: end - start, pool, expandable: start < address })
    const rest = start < address ? [{ address: start, bytes: address - start, pool, expandable: true }] : []
    this.segments.splice(at, 1, ...rest)
    this.reserved -= bytes
    return undefined
  }

  #undoDestroy({ address, bytes, pool }: MemoryEvent): string | undefined {
    const before = this.#indexBefore(address)
    const previous = this.segments[before]
    const next = this.segments[before + 1]
    if (
      (previous !== undefined && endOf(previous) > address) ||
      (next !== undefined && next.address < address + bytes)
    ) {
      return `destroys ${bytes} bytes at ${address}, some of which are reserved after it`
    }
    if (this.segments.length >= mostSegments)
      return `destroys ${bytes} bytes at ${address}: there are too many segments`
    if (previous?.expandable && previous.pool === pool && endOf(previous) === address) {
      this.segments[before] = { ...previous, bytes: previous.bytes + bytes }
    } else {
      this.segments.splice(before + 1, 0, { address, bytes, pool, expandable: false })
    }
    this.reserved += bytes
    return undefined
  }

  #insert(block: LiveBlock): void {
    this.live.set(block.address, block)
    this.liveTotal += block.bytes
    this.requested += block.requestedBytes
  }

  /**
   * The index of the segment that has all these bytes; -1: none. An expandable one that went in pieces is several
   * ranges until something lies across them.
   */
  #unite(address: number, bytes: number): number {
    const first = this.#indexBefore(address)
    let last = first
    while (endOf(this.segments[last]) < address + bytes && this.#touches(last)) last++
    const [{ address: start = 0, pool = '' } = {}, end] = [this.segments[first], endOf(this.segments[last])]
    if (!(address < endOf(this.segments[first]) && address + bytes <= end)) return -1
    if (last > first) {
      this.segments.splice(first, last - first + 1, { address: start, bytes: end - start, pool, expandable: true })
    }
    return first
  }

  /** The next one begins where this one ends, in the same pool. */
  #touches(index: number): boolean {
    const next = this.segments[index + 1]
    return endOf(this.segments[index]) === next?.address && this.segments[index]?.pool === next.pool
  }

  /** Of the last segment that begins there or before. */
  #indexBefore(address: number): number {
    let low = 0
    let high = this.segments.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.segments[middle] as ReservedRange).address <= address) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}

export function endOf(range: ReservedRange | undefined): number {
  return range === undefined ? Number.NaN : range.address + range.bytes
}
