import {
  type BackendContext,
  type Event,
  type Fence,
  type HostBuffer,
  type MemorySource,
  type Recovery,
  type ResidencyBackend,
  type ResidencyState,
  type ResidencySteps,
  type SleepReport,
  type Stream,
  type Tag,
  throwIfAborted,
  type WakeReport,
} from '@spillway/core'
import { type AddressRange, NativeDevice, type NativeDeviceBuffer, type PhysicalMemory } from '@spillway/device'

type NoOptions = Readonly<Record<string, never>>

/** One allocation: its addresses for good, its memory while awake, its image while asleep. */
export interface Entry {
  readonly tag: Tag
  readonly module: string | undefined
  readonly recovery: Recovery
  readonly bytes: number
  readonly mappedBytes: number
  readonly range: AddressRange
  readonly buffer: NativeDeviceBuffer
  /** Undefined while its memory is given back. */
  memory: PhysicalMemory | undefined
  image: HostBuffer | undefined
}

/**
 * A residency backend as a real one is: addresses are reserved for good, physical memory is mapped and unmapped. It is
 * right; the broken ones are this one with one thing about it changed.
 */
export class PoolSteps implements ResidencySteps {
  readonly context: BackendContext
  readonly device: NativeDevice
  readonly stream: Stream
  entries: Entry[] = []
  readonly states: Map<Tag, ResidencyState> = new Map()
  readonly #epochs = new Map<Tag, number>()
  readonly #fences = new Map<string, Event>()
  readonly #opened: Event

  constructor(context: BackendContext) {
    if (!(context.device instanceof NativeDevice)) throw new Error('the pool needs virtual memory')
    this.context = context
    this.device = context.device
    this.stream = this.device.createStream()
    try {
      this.#opened = this.device.createEvent()
    } catch (error) {
      void this.stream.dispose()
      throw error
    }
  }

  source(tag: Tag): MemorySource {
    return {
      tag,
      allocate: (bytes, { module, recovery }) => {
        const { virtualMemory } = this.device
        const granularity = virtualMemory.granularityBytes
        const mappedBytes = Math.ceil(bytes / granularity) * granularity
        const made: { dispose(): Promise<void> }[] = []
        try {
          const range = virtualMemory.reserve(mappedBytes)
          made.push(range)
          const memory = virtualMemory.createPhysical(mappedBytes, tag)
          made.push(memory)
          range.map(0, memory)
          const buffer = range.buffer(0, bytes)
          made.push(buffer)
          if (module !== undefined && !this.#fences.has(module)) {
            this.#fences.set(module, this.device.createEvent())
          }
          const entry: Entry = { tag, module, recovery, bytes, mappedBytes, range, buffer, memory, image: undefined }
          const dispose = buffer.dispose.bind(buffer)
          buffer.dispose = () => this.forget(entry, dispose)
          this.entries.push(entry)
          if (!this.states.has(tag)) this.states.set(tag, 'awake')
          return buffer
        } catch (error) {
          for (const handle of made.reverse()) void handle.dispose()
          throw error
        }
      },
    }
  }

  async forget(entry: Entry, dispose: () => Promise<void>): Promise<void> {
    await dispose()
    this.entries = this.entries.filter((one) => one !== entry)
    await Promise.all([entry.range.dispose(), entry.memory?.dispose(), entry.image?.dispose()])
    entry.memory = undefined
    entry.image = undefined
  }

  use<T>(tag: Tag, fn: (source: MemorySource) => T): T {
    return fn(this.source(tag))
  }

  async sleep({ level, tags, after = [], signal }: Parameters<ResidencySteps['sleep']>[0]): Promise<SleepReport> {
    throwIfAborted(signal, 'sleeping')
    await Promise.all(after.map((stream) => stream.synchronize()))
    const report = { keptBytes: 0, copiedBytes: 0, discardedBytes: 0, freedBytes: 0 }
    const chosen = this.entries.filter(({ tag, memory }) => memory !== undefined && (tags?.includes(tag) ?? true))
    if (level > 0) {
      try {
        for (const entry of chosen) {
          if (!this.keeps(entry, level)) continue
          const storage = this.context.pin.pin ? 'pinned' : 'pageable'
          entry.image = await this.device.allocateHost(entry.bytes, { storage })
          this.stream.copy(entry.image, entry.buffer)
          report.copiedBytes += entry.bytes
        }
        await this.stream.synchronize()
      } catch (error) {
        // Nothing is unmapped yet: awake as before.
        await this.stream.synchronize().catch(() => undefined)
        await this.dropImages(chosen)
        throw error
      }
    }
    try {
      for (const entry of chosen) {
        const { tag, recovery, mappedBytes, bytes } = entry
        this.states.set(tag, level === 2 && recovery.kind === 'copy' && tag !== 'runtime' ? 'discarded' : 'asleep')
        if (level === 0) continue
        await this.giveBack(entry)
        if (recovery.kind === 'copy' && entry.image === undefined) report.discardedBytes += bytes
        report.freedBytes += mappedBytes
      }
    } catch (error) {
      // Some are asleep, and wake() brings them back. The others still have their memory, and need no image.
      await this.dropImages(chosen.filter(({ memory }) => memory !== undefined))
      throw error
    }
    return report
  }

  /** Whether an image is made of it. */
  keeps({ recovery, tag }: Entry, level: 0 | 1 | 2): boolean {
    return recovery.kind === 'copy' && (level === 1 || tag === 'runtime')
  }

  async giveBack(entry: Entry): Promise<void> {
    entry.range.unmap(0, entry.mappedBytes)
    await entry.memory!.dispose()
    entry.memory = undefined
  }

  async dropImages(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      await entry.image?.dispose()
      entry.image = undefined
    }
  }

  async wake({ tags, before = [] }: Parameters<ResidencySteps['wake']>[0] = {}): Promise<WakeReport> {
    const chosen = this.entries.filter(({ tag }) => (tags?.includes(tag) ?? true) && this.states.get(tag) !== 'awake')
    const away = chosen.filter(({ memory }) => memory === undefined)
    await this.mapAll(away)
    const report = { mappedBytes: 0, copiedBytes: 0, checkedBlocks: 0 }
    for (const { mappedBytes } of away) report.mappedBytes += mappedBytes
    try {
      for (const entry of away) report.copiedBytes += this.restore(entry)
      for (const module of new Set(chosen.map((entry) => entry.module))) {
        if (module !== undefined) this.stream.record(this.#fences.get(module)!)
      }
      this.stream.record(this.#opened)
      for (const stream of before) stream.wait(this.#opened)
      await this.stream.synchronize()
    } catch (error) {
      // No fence is open yet: asleep as before.
      await this.stream.synchronize().catch(() => undefined)
      for (const entry of away) await this.giveBack(entry)
      throw error
    }
    for (const { tag } of chosen) this.states.set(tag, 'awake')
    for (const tag of tags ?? this.states.keys()) if (this.states.has(tag)) this.states.set(tag, 'awake')
    await this.dropImages(away)
    return report
  }

  /** All or none. */
  async mapAll(entries: readonly Entry[]): Promise<void> {
    const mapped: Entry[] = []
    try {
      for (const entry of entries) {
        const memory = this.device.virtualMemory.createPhysical(entry.mappedBytes, entry.tag)
        try {
          entry.range.map(0, memory)
        } catch (error) {
          await memory.dispose()
          throw error
        }
        entry.memory = memory
        mapped.push(entry)
      }
    } catch (error) {
      for (const entry of mapped) await this.giveBack(entry)
      throw error
    }
  }

  /** Enqueues what brings the bytes back; returns how many are copied from an image. */
  restore({ image, recovery, buffer, bytes }: Entry): number {
    const from = image ?? (recovery.kind === 'backed' ? recovery.image : undefined)
    if (from !== undefined) {
      this.stream.copy(buffer, from, { bytes })
      return bytes
    }
    if (recovery.kind === 'rebuild') recovery.rebuild(this.stream)
    return 0
  }

  async discard(tags: readonly Tag[]): Promise<void> {
    for (const tag of tags) {
      const chosen = this.entries.filter((entry) => entry.tag === tag)
      // Before anything goes: whoever looks at the epoch must not take what is left for whole.
      this.raiseEpoch(tag)
      this.states.set(tag, 'discarded')
      for (const entry of chosen) {
        if (entry.memory !== undefined) await this.giveBack(entry)
        await this.dropImages([entry])
      }
    }
  }

  raiseEpoch(tag: Tag): void {
    this.#epochs.set(tag, this.epoch(tag) + 1)
  }

  fence(module: string): Fence {
    const open = ![...this.states.values()].includes('waking')
    return { event: this.#fences.get(module) ?? this.#opened, open }
  }

  epoch(tag: Tag): number {
    return this.#epochs.get(tag) ?? 0
  }

  state(): ReadonlyMap<Tag, ResidencyState> {
    return this.states
  }

  async dispose(): Promise<void> {
    await this.stream.synchronize().catch(() => undefined)
    for (const entry of [...this.entries]) await entry.buffer.dispose()
    for (const event of this.#fences.values()) await event.dispose()
    await this.#opened.dispose()
    await this.stream.dispose()
  }
}

export const pool: ResidencyBackend<NoOptions> = {
  name: 'pool',
  apiVersion: 1,
  role: 'residency',
  supports: { offloads: false, graphs: true, unpinned: true, kernels: false, reload: false },
  options: {},
  create: async (context) => new PoolSteps(context),
}

/** The same, made of another class. */
export function poolOf(Steps: new (context: BackendContext) => ResidencySteps): ResidencyBackend<NoOptions> {
  return { ...pool, name: 'broken', create: async (context) => new Steps(context) }
}
