import type {
  BackendContext,
  Device,
  DeviceBuffer,
  Event,
  Fence,
  HostArena,
  HostBuffer,
  MemorySource,
  Recovery,
  ResidencyBackend,
  ResidencyState,
  ResidencySteps,
  SleepReport,
  Stream,
  Tag,
  WakeReport,
} from '@spillway/core'

/**
 * A residency backend for tests: sleeping memory is copied to the host and then overwritten, so that whoever reads it
 * asleep reads garbage; waking copies it back on a stream of its own, one fence per module. It gives no memory back.
 */
export const shelf: ResidencyBackend<Readonly<Record<string, never>>> = {
  name: 'shelf',
  apiVersion: 1,
  role: 'residency',
  supports: { offloads: false, graphs: true, unpinned: true, kernels: false, reload: false },
  options: {},
  create: async (context) => new Shelf(context),
}

interface Kept {
  readonly buffer: DeviceBuffer
  readonly tag: Tag
  readonly module: string | undefined
  readonly recovery: Recovery
  image: HostBuffer | undefined
}

export class Shelf implements ResidencySteps {
  /** Enqueued on the wake stream before anything is copied back; a test makes waking slow with it. */
  beforeWake: (stream: Stream) => void = () => {}
  disposals = 0
  readonly kept: Kept[] = []
  readonly #device: Device
  readonly #host: HostArena
  readonly #stream: Stream
  readonly #opened: Event
  readonly #fences = new Map<string, Event>()
  readonly #state = new Map<Tag, ResidencyState>()
  readonly #epochs = new Map<Tag, number>()

  constructor(context: BackendContext) {
    this.#device = context.device
    this.#host = context.host
    this.#stream = context.device.createStream()
    this.#opened = context.device.createEvent()
    this.#stream.record(this.#opened)
  }

  source(tag: Tag): MemorySource {
    return {
      tag,
      allocate: (bytes, { stream, module, recovery }) => {
        const buffer = this.#device.allocate(bytes, module === undefined ? { tag, stream } : { tag, stream, module })
        this.kept.push({ buffer, tag, module, recovery, image: undefined })
        if (!this.#state.has(tag)) this.#state.set(tag, 'awake')
        if (module !== undefined && !this.#fences.has(module)) {
          const event = this.#device.createEvent()
          this.#stream.record(event)
          this.#fences.set(module, event)
        }
        return buffer
      },
    }
  }

  use<T>(tag: Tag, fn: (source: MemorySource) => T): T {
    return fn(this.source(tag))
  }

  async sleep({ level, tags, after = [] }: Parameters<ResidencySteps['sleep']>[0]): Promise<SleepReport> {
    await Promise.all(after.map((stream) => stream.synchronize()))
    const report = { keptBytes: 0, copiedBytes: 0, discardedBytes: 0, freedBytes: 0 }
    const asleep = this.#live().filter((entry) => tags === undefined || tags.includes(entry.tag))
    for (const entry of asleep) {
      const { buffer, recovery, tag } = entry
      if (recovery.kind === 'copy' && level < 2) {
        entry.image = await this.#host.allocate(buffer.bytes)
        this.#stream.copy(entry.image, buffer)
        report.copiedBytes += buffer.bytes
      }
      this.#stream.fill(buffer, 0xee)
      this.#state.set(tag, recovery.kind === 'copy' && level === 2 ? 'discarded' : 'asleep')
    }
    await this.#stream.synchronize()
    return report
  }

  async wake({ tags }: { tags?: readonly Tag[] } = {}): Promise<WakeReport> {
    const woken = this.#live().filter(({ tag }) => tags === undefined || tags.includes(tag))
    this.beforeWake(this.#stream)
    let copiedBytes = 0
    for (const entry of woken) {
      const { buffer, recovery, module, image } = entry
      if (image !== undefined) {
        this.#stream.copy(buffer, image)
        copiedBytes += buffer.bytes
      } else if (recovery.kind === 'backed') this.#stream.copy(buffer, recovery.image)
      else if (recovery.kind === 'rebuild') recovery.rebuild(this.#stream)
      if (module !== undefined) this.#stream.record(this.#fences.get(module)!)
      this.#state.set(entry.tag, 'waking')
    }
    await this.#stream.synchronize()
    for (const entry of woken) {
      await entry.image?.dispose()
      entry.image = undefined
      this.#state.set(entry.tag, 'awake')
    }
    return { mappedBytes: 0, copiedBytes, checkedBlocks: 0 }
  }

  async discard(tags: readonly Tag[]): Promise<void> {
    for (const { buffer, tag } of this.#live()) {
      if (!tags.includes(tag)) continue
      this.#stream.fill(buffer, 0xee)
      this.#state.set(tag, 'discarded')
      this.#epochs.set(tag, this.epoch(tag) + 1)
    }
    await this.#stream.synchronize()
  }

  fence(module: string): Fence {
    const open = ![...this.#state.values()].includes('waking')
    return { event: this.#fences.get(module) ?? this.#opened, open }
  }

  epoch(tag: Tag): number {
    return this.#epochs.get(tag) ?? 0
  }

  state(): ReadonlyMap<Tag, ResidencyState> {
    return this.#state
  }

  async dispose(): Promise<void> {
    this.disposals++
    await this.#stream.synchronize()
    for (const { image } of this.kept) await image?.dispose()
    for (const event of this.#fences.values()) await event.dispose()
    await this.#opened.dispose()
    await this.#stream.dispose()
  }

  #live(): Kept[] {
    return this.kept.filter(({ buffer }) => !buffer.disposed)
  }
}
