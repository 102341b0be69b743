import {
  applyReplacements,
  type BackendContext,
  type DeviceBuffer,
  type Event,
  type ForwardSteps,
  type HostBuffer,
  type ModuleSpec,
  type OffloaderSteps,
  type OffloadStats,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  parameterBytes,
  type Replacement,
  Slab,
  type Stream,
  throwIfAborted,
} from '@spillway/core'

export interface RingConfig {
  /** Device slots, at least 1. */
  readonly slots: number
}

/** Where one module lies. Everything of a layer is on the host, everything else on the device. */
export interface Placed {
  readonly spec: ModuleSpec
  readonly own: readonly ParameterSpec[]
  readonly slab: Slab<HostBuffer> | Slab<DeviceBuffer> | undefined
}

export interface Slot {
  readonly buffer: DeviceBuffer
  /** Recorded on the copy stream when what the slot holds has arrived. */
  readonly loaded: Event
  /** Position in the ring of what it holds once everything enqueued is done; undefined: nobody knows. */
  holds: number | undefined
}

/** Layers on the host, slots, a copy stream, an event for each slot. */
export class SlotSteps implements OffloaderSteps {
  readonly context: BackendContext
  readonly config: RingConfig
  readonly placed: Map<string, Placed> = new Map()
  /** Layers in the order of the forward. */
  ring: Placed[] = []
  slots: Slot[] = []
  readonly copies: Stream
  readonly fork: Event
  #stream: Stream
  onloadedBytes = 0

  constructor(context: BackendContext, config: RingConfig) {
    this.context = context
    this.config = config
    const made: { dispose(): Promise<void> }[] = []
    try {
      this.copies = context.device.createStream()
      made.push(this.copies)
      this.fork = context.device.createEvent()
    } catch (error) {
      for (const handle of made) void handle.dispose()
      throw error
    }
    this.#stream = context.compute
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    { signal }: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    const made: Placed[] = []
    const targets = tieTargets(specs)
    try {
      for (const spec of specs) {
        throwIfAborted(signal, 'placing modules')
        made.push(await this.place(spec, ownParameters(spec), this.isOffloaded(spec, targets), signal))
      }
    } catch (error) {
      await this.giveBack(made)
      throw error
    }
    for (const one of made) this.placed.set(one.spec.name, one)
    return made.map((one) => this.show(one))
  }

  /** A layer that nobody is tied to: another module would read it when its slot holds something else. */
  isOffloaded({ name, role }: ModuleSpec, targets: ReadonlySet<string>): boolean {
    return role === 'layer' && !targets.has(name)
  }

  /** What a failed wrapModules does with what it had. */
  async giveBack(made: readonly Placed[]): Promise<void> {
    for (const { slab } of made) await slab?.buffer.dispose()
  }

  async place(
    spec: ModuleSpec,
    own: readonly ParameterSpec[],
    offloaded: boolean,
    signal?: AbortSignal,
  ): Promise<Placed> {
    if (own.length === 0) return { spec, own, slab: undefined }
    const bytes = Slab.bytes(own)
    if (offloaded) {
      const buffer = await this.context.host.allocate(bytes, signal === undefined ? {} : { signal })
      return { spec, own, slab: new Slab(own, buffer) }
    }
    const source = this.context.memory('weights')
    const recovery = { kind: 'copy' } as const
    const buffer = source.allocate(bytes, { stream: this.context.compute, module: spec.name, recovery })
    return { spec, own, slab: new Slab(own, buffer) }
  }

  show({ spec, own, slab }: Placed, slot?: DeviceBuffer): PlacedModule {
    const parameters = own.map((parameter): [string, Parameter] => {
      const tensor = slab!.view(parameter, slot as never)
      return [parameter.name, { ...parameter, storage: slab!.buffer.storage, tensor }]
    })
    return { spec, parameters: new Map(parameters) }
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const old = this.placed.get(name)!
    const { parameters, sources } = applyReplacements(this.show(old), next)
    const made = await this.place(old.spec, parameters, old.slab?.buffer.kind === 'host-buffer')
    try {
      await made.slab?.fill(this.context.compute, sources)
    } catch (error) {
      await made.slab?.buffer.dispose()
      throw error
    }
    this.placed.set(name, made)
    await old.slab?.buffer.dispose()
    return this.show(made)
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    const onHost = [...this.placed.values()].filter(({ slab }) => slab?.buffer.kind === 'host-buffer')
    this.ring = onHost.sort((a, b) => a.spec.order - b.spec.order)
    const count = Math.min(this.config.slots, this.ring.length)
    for (let s = 0; s < count; s++) {
      const bytes = Math.max(...this.ring.filter((_, i) => i % count === s).map(({ slab }) => slab!.buffer.bytes))
      this.slots.push(this.makeSlot(s, bytes))
    }
    this.restore()
    return [...this.placed.values()].map((one) => {
      const i = this.ring.indexOf(one)
      return this.show(one, i < 0 ? undefined : this.slots[i % count]!.buffer)
    })
  }

  makeSlot(number: number, bytes: number): Slot {
    const loaded = this.context.device.createEvent()
    try {
      const rebuild = (stream: Stream): void => this.rebuild(number, stream)
      const recovery = { kind: 'rebuild', rebuild } as const
      const buffer = this.context.memory('weights').allocate(bytes, { stream: this.context.compute, recovery })
      return { buffer, loaded, holds: undefined }
    } catch (error) {
      void loaded.dispose()
      throw error
    }
  }

  rebuild(number: number, stream: Stream): void {
    const slot = this.slots[number]!
    if (slot.holds === undefined) return
    stream.wait(slot.loaded)
    this.copy(stream, slot, slot.holds)
    stream.record(slot.loaded)
  }

  beginForward(stream: Stream): ForwardSteps {
    this.follow(stream)
    return {
      before: (name) => {
        const i = this.indexOf(name)
        if (i >= 0) this.before(i, stream)
      },
      after: (name) => {
        const i = this.indexOf(name)
        if (i >= 0) this.after(i)
      },
      end: (ok) => this.end(ok),
    }
  }

  /** The slots are shared: a forward on another stream comes after the one before. */
  follow(stream: Stream): void {
    if (stream !== this.#stream && !this.#stream.disposed) {
      this.#stream.record(this.fork)
      stream.wait(this.fork)
    }
    this.#stream = stream
  }

  before(i: number, stream: Stream): void {
    if (this.slotOf(i).holds !== i) this.onload(i)
    this.awaitLoaded(i, stream)
  }

  awaitLoaded(i: number, stream: Stream): void {
    stream.wait(this.slotOf(i).loaded)
  }

  after(i: number): void {
    const next = i + this.slots.length < this.ring.length ? i + this.slots.length : i % this.slots.length
    if (this.slotOf(next).holds !== next) this.onload(next)
  }

  end(_ok: boolean): void {
    this.restore()
  }

  /** Puts the first layers back for the next forward. */
  restore(): void {
    for (const [s, slot] of this.slots.entries()) if (slot.holds !== s) this.onload(s)
  }

  onload(i: number): void {
    const slot = this.slotOf(i)
    slot.holds = undefined
    this.forkCopies()
    this.copy(this.copies, slot, i)
    this.copies.record(slot.loaded)
    slot.holds = i
  }

  /** The copy comes after what still reads the slot. */
  forkCopies(): void {
    this.#stream.record(this.fork)
    this.copies.wait(this.fork)
  }

  copy(stream: Stream, slot: Slot, i: number): void {
    const { buffer } = this.ring[i]!.slab!
    stream.copy(slot.buffer, buffer)
    if (this.countsOnload()) this.onloadedBytes += buffer.bytes
  }

  countsOnload(): boolean {
    return true
  }

  stats(): OffloadStats {
    const stats = { offloadedBytes: 0, residentBytes: 0, slotBytes: 0, onloadedBytes: this.onloadedBytes }
    for (const { own, slab } of this.placed.values()) {
      const onHost = slab?.buffer.kind === 'host-buffer'
      stats[onHost ? 'offloadedBytes' : 'residentBytes'] += parameterBytes(own)
    }
    for (const { buffer } of this.slots) stats.slotBytes += buffer.bytes
    return stats
  }

  async dispose(): Promise<void> {
    await this.copies.synchronize().catch(() => undefined)
    await this.copies.dispose()
    await this.fork.dispose()
    for (const { buffer, loaded } of this.slots.splice(0)) {
      await loaded.dispose()
      await buffer.dispose()
    }
    for (const { slab } of this.placed.values()) await slab?.buffer.dispose()
    this.placed.clear()
    this.ring = []
  }

  indexOf(name: string): number {
    return this.ring.findIndex(({ spec }) => spec.name === name)
  }

  slotOf(i: number): Slot {
    return this.slots[i % this.slots.length]!
  }

  get stream(): Stream {
    return this.#stream
  }
}

function tieTargets(specs: readonly ModuleSpec[]): ReadonlySet<string> {
  const names = new Set<string>()
  for (const spec of specs) {
    for (const { tiedTo } of spec.parameters) {
      const target = specs.find(({ name }) => tiedTo?.startsWith(`${name}.`))
      if (target !== undefined && target !== spec) names.add(target.name)
    }
  }
  return names
}
