import {
  type ConfiguredBackend,
  createOffloader,
  extentBytes,
  type ForwardSteps,
  type HostBuffer,
  type MemoryPlan,
  type ModuleSpec,
  type Offloader,
  type OffloaderStats,
  ownParameters,
  type PinSetting,
  type PlacedModule,
  type Stream,
} from '@spillway/core'
import { ensure, ensureBytes, ensureSame } from './assert.js'
import { elementBytes, pattern } from './model.js'
import type { Rig } from './rig.js'

export interface EngineOptions {
  readonly backends: readonly ConfiguredBackend[]
  readonly specs: readonly ModuleSpec[]
  readonly pin?: PinSetting
  readonly plan?: MemoryPlan
}

/** Names of modules in the order of a forward. */
export type Order = readonly string[]

/**
 * The part of an engine: wraps, loads, and runs forwards whose "kernels" copy every parameter out, so that what they
 * read can be compared byte by byte.
 */
export class Engine {
  readonly rig: Rig
  readonly offloader: Offloader
  /** By `module.parameter`, tied parameters included. */
  readonly contents: Map<string, Uint8Array> = new Map()
  #specs: ModuleSpec[] = []
  #countedBefore = 0
  #exact = true

  private constructor(rig: Rig, offloader: Offloader) {
    this.rig = rig
    this.offloader = offloader
  }

  /** An offloader with nothing wrapped. The rig disposes it. */
  static async create(rig: Rig, { backends, pin = 'auto', plan }: Omit<EngineOptions, 'specs'>): Promise<Engine> {
    const { device, compute } = rig
    const environment = { pinMemoryDisabledBy: undefined }
    const options = { device, compute, backends, pin, environment }
    return new Engine(rig, rig.keep(await createOffloader(plan === undefined ? options : { ...options, plan })))
  }

  /** With its modules wrapped and loaded. */
  static async load(rig: Rig, options: EngineOptions): Promise<Engine> {
    const engine = await Engine.create(rig, options)
    await engine.wrap(options.specs)
    return engine
  }

  /** Ready for forwards. */
  static async open(rig: Rig, options: EngineOptions): Promise<Engine> {
    const engine = await Engine.load(rig, options)
    await engine.ready()
    return engine
  }

  get specs(): readonly ModuleSpec[] {
    return this.#specs
  }

  /** Names by `order`. */
  get order(): Order {
    return [...this.#specs].sort((a, b) => a.order - b.order).map(({ name }) => name)
  }

  /** Bytes of parameters, tied ones counted once. */
  get parameterBytes(): number {
    let sum = 0
    for (const { spec, parameters } of this.offloader.modules.values()) {
      for (const { name } of ownParameters(spec)) sum += extentBytes(parameters.get(name)!)
    }
    return sum
  }

  async wrap(specs: readonly ModuleSpec[]): Promise<void> {
    const placed = await this.offloader.wrapModules(specs)
    ensureSame(
      placed.map(({ spec }) => spec.name),
      specs.map(({ name }) => name),
      'the modules that wrapModules returned',
    )
    this.#specs.push(...specs)
    await this.loadParameters(placed)
  }

  /** Gives each parameter bytes of its own. `round` makes them other bytes. */
  async loadParameters(modules: Iterable<PlacedModule> = this.offloader.modules.values(), round = 0): Promise<void> {
    const entries = []
    for (const { spec, parameters } of modules) {
      for (const { name } of ownParameters(spec)) {
        const { tensor } = parameters.get(name)!
        const bytes = pattern(seedOf(`${spec.name}.${name}`) + round, extentBytes(tensor))
        this.contents.set(`${spec.name}.${name}`, bytes)
        entries.push([tensor, bytes] as const)
      }
    }
    await this.rig.write(entries)
    this.followTies()
  }

  /** Tied parameters have the contents of their target. */
  followTies(): void {
    for (const { spec } of this.offloader.modules.values()) {
      for (const { name, tiedTo } of spec.parameters) {
        if (tiedTo !== undefined) this.contents.set(`${spec.name}.${name}`, this.contents.get(tiedTo)!)
      }
    }
  }

  async ready(): Promise<ReadonlyMap<string, PlacedModule>> {
    this.#countedBefore = this.#counted()
    return this.offloader.postInit()
  }

  /** A forward on the compute stream, and what it read compared. Default: every module once, in order. */
  async forward({ order = this.order, what = 'a forward' }: { order?: Order; what?: string } = {}): Promise<void> {
    const stream = this.rig.compute
    const reading = await this.reading(order)
    try {
      this.offloader.forward(stream, (scope) => reading.enqueue(scope, stream))
      await stream.synchronize()
      reading.check(what)
    } finally {
      await reading.dispose()
    }
  }

  /** Memory for what a forward over these modules reads. Whoever asks disposes it. */
  async reading(order: Order = this.order): Promise<Reading> {
    const { modules } = this.offloader
    const bytes = order.reduce((sum, name) => sum + moduleBytes(modules.get(name)!), 0)
    return new Reading(this, order, await this.rig.staging(bytes))
  }

  /** Replays of graphs, and waking, copy too: the placement backend's own count is then at most the device's. */
  allowOtherCopies(): void {
    this.#exact = false
  }

  /** Statistics when everything is done, held against the device's counters. */
  async settledStats(): Promise<OffloaderStats> {
    const stats = await this.offloader.settledStats()
    const counted = this.#counted() - this.#countedBefore
    const what = 'onloadedBytes, against the bytes that the device has copied from host to device since postInit()'
    if (this.#exact) ensureSame(stats.onloadedBytes, counted, what)
    else ensure(stats.onloadedBytes <= counted, `${what}: got ${stats.onloadedBytes}, expected at most ${counted}`)
    ensureSame(stats.offloadedBytes + stats.residentBytes, this.parameterBytes, 'offloadedBytes + residentBytes')
    return stats
  }

  /** What every offloader test ends with. */
  async finish(): Promise<void> {
    await this.settledStats()
    await this.offloader.dispose()
  }

  #counted(): number {
    return this.rig.device.counters().hostToDeviceBytes - this.rig.uploadedBytes
  }
}

/** What one forward reads, or each replay of one that was captured. */
export class Reading {
  readonly #engine: Engine
  readonly #order: Order
  readonly #staging: HostBuffer

  constructor(engine: Engine, order: Order, staging: HostBuffer) {
    this.#engine = engine
    this.#order = order
    this.#staging = staging
  }

  enqueue({ before, after }: Pick<ForwardSteps, 'before' | 'after'>, stream: Stream): void {
    let at = 0
    for (const name of this.#order) {
      before(name)
      at = this.enqueueModule(name, stream, at)
      after(name)
    }
  }

  /** The reads of one module, from `at` in the staging memory. Returns where the next ones go. */
  enqueueModule(name: string, stream: Stream, at: number): number {
    let to = at
    for (const { tensor } of this.#engine.offloader.modules.get(name)!.parameters.values()) {
      const bytes = extentBytes(tensor)
      if (bytes > 0) stream.copy(this.#staging, tensor.buffer, { toOffset: to, fromOffset: tensor.offset, bytes })
      to += bytes
    }
    return to
  }

  /** Forgets what an earlier replay read. */
  clear(): void {
    this.#staging.write(new Uint8Array(this.#staging.bytes))
  }

  /** When the stream is idle: that every parameter was read as it was loaded. Gaps of strides do not count. */
  check(what: string): void {
    let at = 0
    for (const [position, name] of this.#order.entries()) {
      for (const parameter of this.#engine.offloader.modules.get(name)!.parameters.values()) {
        const bytes = extentBytes(parameter.tensor)
        const full = `${name}.${parameter.name}`
        const place = `${what}: ${full}, read as module ${position + 1} of ${this.#order.length}`
        const read = this.#staging.read(at, bytes)
        ensureBytes(read, this.#engine.contents.get(full)!, place, elementBytes(parameter))
        at += bytes
      }
    }
  }

  dispose(): Promise<void> {
    return this.#staging.dispose()
  }
}

function moduleBytes({ parameters }: PlacedModule): number {
  let sum = 0
  for (const parameter of parameters.values()) sum += extentBytes(parameter)
  return sum
}

function seedOf(name: string): number {
  return [...name].reduce((sum, letter) => (Math.imul(sum, 31) + letter.charCodeAt(0)) >>> 0, 7)
}
