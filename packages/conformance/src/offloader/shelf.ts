import {
  type BackendContext,
  type ConfiguredBackend,
  configure,
  type DeviceBuffer,
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
  type WakeReport,
} from '@spillway/core'

interface Entry {
  readonly buffer: DeviceBuffer
  readonly tag: Tag
  readonly module: string | undefined
  readonly recovery: Recovery
  image: HostBuffer | undefined
}

/**
 * A residency backend that any device can have, to test placement backends with: sleeping memory is overwritten instead
 * of given back, so that what a placement backend did not provide for is lost. Level 1 only.
 */
class Shelf implements ResidencySteps {
  readonly #context: BackendContext
  readonly #stream: Stream
  readonly #opened: Event
  readonly #fences = new Map<string, Event>()
  readonly #states = new Map<Tag, ResidencyState>()
  #entries: Entry[] = []

  constructor(context: BackendContext) {
    this.#context = context
    this.#stream = context.device.createStream()
    this.#opened = context.device.createEvent()
  }

  source(tag: Tag): MemorySource {
    const { device } = this.#context
    return {
      tag,
      allocate: (bytes, { stream, module, recovery }) => {
        const buffer = device.allocate(bytes, module === undefined ? { tag, stream } : { tag, stream, module })
        this.#entries.push({ buffer, tag, module, recovery, image: undefined })
        if (!this.#states.has(tag)) this.#states.set(tag, 'awake')
        if (module !== undefined && !this.#fences.has(module)) this.#fences.set(module, device.createEvent())
        return buffer
      },
    }
  }

  use<T>(tag: Tag, fn: (source: MemorySource) => T): T {
    return fn(this.source(tag))
  }

  async sleep({ after = [] }: Parameters<ResidencySteps['sleep']>[0]): Promise<SleepReport> {
    await Promise.all(after.map((stream) => stream.synchronize()))
    const report = { keptBytes: 0, copiedBytes: 0, discardedBytes: 0, freedBytes: 0 }
    for (const entry of this.#live()) {
      const { buffer, recovery } = entry
      if (recovery.kind === 'copy') {
        entry.image = await this.#context.host.allocate(buffer.bytes)
        this.#stream.copy(entry.image, buffer)
        report.copiedBytes += buffer.bytes
      }
      this.#stream.fill(buffer, 0xee)
    }
    await this.#stream.synchronize()
    for (const tag of this.#states.keys()) this.#states.set(tag, 'asleep')
    return report
  }

  async wake(): Promise<WakeReport> {
    let copiedBytes = 0
    for (const { buffer, recovery, module, image } of this.#live()) {
      const from = image ?? (recovery.kind === 'backed' ? recovery.image : undefined)
      if (from !== undefined) this.#stream.copy(buffer, from, { bytes: buffer.bytes })
      else if (recovery.kind === 'rebuild') recovery.rebuild(this.#stream)
      if (image !== undefined) copiedBytes += buffer.bytes
      if (module !== undefined) this.#stream.record(this.#fences.get(module)!)
    }
    this.#stream.record(this.#opened)
    await this.#stream.synchronize()
    for (const entry of this.#entries) {
      await entry.image?.dispose()
      entry.image = undefined
    }
    for (const tag of this.#states.keys()) this.#states.set(tag, 'awake')
    return { mappedBytes: 0, copiedBytes, checkedBlocks: 0 }
  }

  discard(): Promise<void> {
    return Promise.resolve()
  }

  fence(module: string): Fence {
    return { event: this.#fences.get(module) ?? this.#opened, open: true }
  }

  epoch(): number {
    return 0
  }

  state(): ReadonlyMap<Tag, ResidencyState> {
    return this.#states
  }

  async dispose(): Promise<void> {
    await this.#stream.synchronize()
    for (const { image } of this.#entries) await image?.dispose()
    for (const event of this.#fences.values()) await event.dispose()
    await this.#opened.dispose()
    await this.#stream.dispose()
  }

  #live(): readonly Entry[] {
    this.#entries = this.#entries.filter(({ buffer }) => !buffer.disposed)
    return this.#entries
  }
}

const backend: ResidencyBackend<Readonly<Record<string, never>>> = {
  name: 'conformance-shelf',
  apiVersion: 1,
  role: 'residency',
  supports: { offloads: false, graphs: true, unpinned: true, kernels: false, reload: false },
  options: {},
  create: async (context) => new Shelf(context),
}

export const shelf: ConfiguredBackend = configure(backend)
