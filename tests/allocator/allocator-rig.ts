import type { MemorySnapshot, MemoryStats } from '@spillway/device'
import { type NativeSettings, probe, type RigHandle, sourceKinds } from './allocator-probe.js'
import type { MemoryEvent, Use } from './memory-log.js'

export const MiB: number = 2 ** 20

export interface RigOptions {
  /** Default 1 TiB. */
  readonly limitBytes?: number
  /** Default 512. */
  readonly granuleBytes?: number
  /** Default 2 MiB; 0: no virtual memory. */
  readonly mapGranuleBytes?: number
}
export interface Block {
  readonly id: number
  readonly address: number
  readonly bytes: number
  readonly stream: number
}
export interface AllocateOptions {
  /** Default 1; 0: none. */
  readonly stream?: number
  readonly tag?: string
  readonly pool?: string
  readonly settings?: NativeSettings
}

/** One allocator over made-up memory and made-up streams, and the log of what happened. */
export class AllocatorRig {
  readonly log: MemoryEvent[] = []
  readonly handle: RigHandle
  readonly #positions = new Map<number, number>()
  readonly #completed = new Map<number, number>()

  constructor({ limitBytes = 2 ** 40, granuleBytes = 512, mapGranuleBytes = 2 * MiB }: RigOptions = {}) {
    this.handle = probe.create(limitBytes, granuleBytes, mapGranuleBytes)
  }

  allocate(bytes: number, { stream = 1, tag = 'test', pool = '', settings = {} }: AllocateOptions = {}): Block {
    const [id, address, blockBytes] = this.#watch(() => probe.allocate(this.handle, bytes, stream, tag, pool, settings))
    this.log.push({ kind: 'allocate', id, address, bytes: blockBytes, requestedBytes: bytes, stream })
    return { id, address, bytes: blockBytes, stream }
  }

  /** The block was used by work of `streams`, default its own, that is enqueued now and done when complete() says so. */
  free(block: Block, streams: readonly number[] = block.stream === 0 ? [] : [block.stream]): void {
    const uses: Use[] = streams.map((stream) => ({ stream, position: this.#next(stream) }))
    this.log.push({ kind: 'free', id: block.id, uses })
    this.#watch(() =>
      probe.free(
        this.handle,
        block.id,
        uses.flatMap(({ stream, position }) => [stream, position]),
      ),
    )
  }

  /** The stream did what was enqueued up to `position`, default all. */
  complete(stream: number, position: number = this.enqueued(stream)): void {
    probe.complete(this.handle, stream, position)
    this.#follow()
  }

  completeAll(): void {
    for (const stream of this.#positions.keys()) this.complete(stream)
  }

  /** Position of the last work. */
  enqueued(stream: number): number {
    return this.#positions.get(stream) ?? 0
  }

  completed(stream: number): number {
    return probe.completed(this.handle, stream)
  }

  releaseCached(pool?: string): number {
    return this.#watch(() => probe.releaseCached(this.handle, pool))
  }

  statistics(): MemoryStats {
    return probe.statistics(this.handle)
  }

  snapshot(): MemorySnapshot {
    return probe.snapshot(this.handle)
  }

  /** The allocator goes. All blocks are free, and all work is done. */
  end(): void {
    this.#watch(() => probe.end(this.handle))
    this.log.push({ kind: 'end' })
  }

  #next(stream: number): number {
    const position = this.enqueued(stream) + 1
    this.#positions.set(stream, position)
    return position
  }

  #watch<T>(call: () => T): T {
    try {
      return call()
    } finally {
      // Waiting comes before what it allows.
      this.#follow()
      const events = probe.takeSourceEvents(this.handle)
      for (let i = 0; i < events.length; i += 3) {
        this.log.push({ kind: sourceKinds[events[i]!]!, address: events[i + 1]!, bytes: events[i + 2]! })
      }
    }
  }

  #follow(): void {
    for (const stream of this.#positions.keys()) {
      const position = this.completed(stream)
      if (position === (this.#completed.get(stream) ?? 0)) continue
      this.#completed.set(stream, position)
      this.log.push({ kind: 'complete', stream, position })
    }
  }
}
