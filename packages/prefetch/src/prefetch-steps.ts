import {
  type BackendContext,
  type ForwardSteps,
  type ForwardTracer,
  type ModuleOnloads,
  type ModuleSpec,
  type OffloaderSteps,
  type OffloadForecast,
  type OffloadStats,
  onloadTimes,
  type PlacedModule,
  type Replacement,
  SpillwayError,
  type StepRates,
  type Stream,
  throwIfAborted,
} from '@spillway/core'
import type { PrefetchAddon } from './native-ring.js'
import { OffloadPlanner } from './offload-planner.js'
import type { PrefetchConfig } from './options.js'
import { Placement } from './placement.js'
import { Ring } from './ring.js'
import { eventsOfMarks, traceKind } from './ring-trace.js'
import { simulateSchedule } from './schedule.js'

/** The placement backend `prefetch`; its rules are in README.md. JavaScript thread of one environment. */
export class PrefetchSteps implements OffloaderSteps {
  readonly #addon: PrefetchAddon
  readonly #context: BackendContext
  readonly #planner: OffloadPlanner
  readonly #placements = new Map<string, Placement>()
  #ring: Ring | undefined
  #ringElements: readonly Placement[] = []
  /** Labels of the modules that are not in the ring: they follow its elements. */
  readonly #residentLabels = new Map<string, number>()
  /** Position in the ring of every module with parameters on the host. */
  readonly #ringIndices = new Map<string, number>()
  /** Of the largest slab that was replaced, or took its place: it came up, or was given back. */
  #cachedBytes = 0

  constructor(addon: PrefetchAddon, context: BackendContext, config: PrefetchConfig) {
    this.#addon = addon
    this.#context = context
    this.#planner = new OffloadPlanner(context, config)
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    { prefix, signal }: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    for (const spec of specs) this.#checkTies(spec)
    const plan = this.#planner.plan(specs, prefix, [...this.#placements.values()])
    const made: Placement[] = []
    try {
      for (const spec of specs) {
        throwIfAborted(signal, 'placing modules')
        const isOffloaded = (parameter: string): boolean => plan.isOffloaded(spec, parameter)
        made.push(await Placement.create(this.#context, spec, isOffloaded, { signal }))
      }
    } catch (error) {
      await Promise.all(made.map((placement) => placement.dispose()))
      throw error
    }
    this.#planner.accept(plan)
    for (const [i, placement] of made.entries()) this.#placements.set(specs[i]!.name, placement)
    return made.map((placement) => placement.placed())
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const old = this.#placements.get(name)
    if (old === undefined) throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `no module ${name} was placed`)
    for (const [parameter, replacement] of next) {
      if (replacement !== null && 'tiedTo' in replacement) this.#checkTie(name, parameter, replacement.tiedTo)
    }
    // Slots are not there yet.
    const slotBytes = this.#planner.slotSizes(this.#elements().map(({ offloaded }) => offloaded!.buffer.bytes))
    const roomBytes = slotBytes.reduce((sum, bytes) => sum + bytes, 0)
    const made = await old.replace(this.#addon, this.#context, next, roomBytes, this.#cachedBytes)
    this.#placements.set(name, made)
    this.#cachedBytes = Math.max(this.#cachedBytes, old.largestSlabBytes, made.largestSlabBytes)
    await old.dispose(made)
    return made.placed()
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    this.#planner.requireMatched()
    const offloaded = this.#elements()
    if (offloaded.length === 0) throw this.#planner.nothingOffloaded()
    const slabs = offloaded.map((placement) => placement.offloaded!.buffer)
    const slotBytes = this.#planner.slotSizes(slabs.map(({ bytes }) => bytes))
    this.#ring = await Ring.open(this.#addon, this.#context, slabs, slotBytes)
    this.#ringElements = offloaded
    for (const [index, { spec }] of offloaded.entries()) this.#ringIndices.set(spec.name, index)
    const resident = [...this.#placements.keys()].filter((name) => !this.#ringIndices.has(name))
    for (const [i, name] of resident.entries()) this.#residentLabels.set(name, offloaded.length + i)
    return [...this.#placements].map(([name, placement]) => {
      const index = this.#ringIndices.get(name)
      return placement.placed(index === undefined ? undefined : this.#ring!.slotOf(index))
    })
  }

  beginForward(stream: Stream): ForwardSteps {
    const ring = this.#ring
    if (ring === undefined) return { before() {}, after() {}, end() {} }
    const indices = this.#ringIndices
    const resident = this.#residentLabels
    const timed = ring.begin(stream)
    return {
      before(module) {
        const index = indices.get(module)
        if (index !== undefined) ring.before(index)
        else if (timed) ring.mark(traceKind.begin, resident.get(module)!)
      },
      after(module) {
        const index = indices.get(module)
        if (index !== undefined) ring.after(index)
        else if (timed) ring.mark(traceKind.end, resident.get(module)!)
      },
      end: (ok) => ring.end(ok),
    }
  }

  get tracer(): ForwardTracer | undefined {
    return this.#ring?.canTime === true ? this.#tracer : undefined
  }

  readonly #tracer: ForwardTracer = {
    start: () => this.#ring?.beginTrace(),
    stop: () => {
      const offloaded = this.#ringElements.map(({ spec, offloaded }) => {
        return { name: spec.name, bytes: offloaded!.buffer.bytes }
      })
      const resident = [...this.#residentLabels.keys()].map((name) => ({ name }))
      return eventsOfMarks(this.#ring?.endTrace() ?? new Float64Array(), [...offloaded, ...resident])
    },
  }

  stats(): OffloadStats {
    let offloadedBytes = 0
    let residentBytes = 0
    for (const placement of this.#placements.values()) {
      offloadedBytes += placement.offloadedBytes
      residentBytes += placement.residentBytes
    }
    const ring = this.#ring
    if (ring === undefined) return { offloadedBytes, residentBytes, slotBytes: 0, onloadedBytes: 0 }
    const { onloadedBytes, ...counters } = ring.counters
    const times = ring.elementTimes
    const modules = ring.elementCounters.map((counts, i): ModuleOnloads => {
      const { spec, offloaded } = this.#ringElements[i]!
      const counted = { module: spec.name, bytes: offloaded!.buffer.bytes, ...counts }
      const linkMs = times[2 * i]!
      return Number.isNaN(linkMs) ? counted : { ...counted, ...onloadTimes(linkMs, times[2 * i + 1]!) }
    })
    const onloads = { ...counters, modules }
    return { offloadedBytes, residentBytes, slotBytes: ring.slotBytes, onloadedBytes, onloads }
  }

  forecast(rates?: StepRates): OffloadForecast {
    const elements = this.#elements()
    const bytesOf = new Map(elements.map(({ spec, offloaded }) => [spec.name, offloaded!.buffer.bytes]))
    const slotBytes = this.#planner.slotSizes([...bytesOf.values()])
    const slotOf = new Map(elements.map(({ spec }, i) => [spec.name, i % slotBytes.length]))
    if (rates === undefined) return { slotBytes, slotOf }
    const inOrder = [...this.#placements.values()].sort(byOrder)
    const modules = inOrder.map(({ spec: { name } }) => {
      return { name, computeMs: rates.computeMs(name), onloadBytes: bytesOf.get(name) ?? 0 }
    })
    const { linkBytesPerSecond } = rates
    const { stepMs, modules: times } = simulateSchedule({ modules, slots: slotBytes.length, linkBytesPerSecond })
    return { slotBytes, slotOf, step: { stepMs, modules: times } }
  }

  async synchronize(options?: { readonly signal?: AbortSignal }): Promise<void> {
    await this.#ring?.synchronize(options)
  }

  async dispose(): Promise<void> {
    const placements = [...this.#placements.values()]
    const ring = this.#ring
    this.#placements.clear()
    this.#ringIndices.clear()
    this.#ring = undefined
    await Promise.all([ring?.dispose(), ...placements.map((placement) => placement.dispose())])
  }

  /** What passes through slots, in the order of the forward. */
  #elements(): readonly Placement[] {
    return [...this.#placements.values()].filter(({ offloaded }) => offloaded !== undefined).sort(byOrder)
  }

  #checkTies(spec: ModuleSpec): void {
    for (const { name, tiedTo } of spec.parameters) {
      if (tiedTo !== undefined) this.#checkTie(spec.name, name, tiedTo)
    }
  }

  /** Refuses a tie to what another module has on the host already: its slot may hold another layer by then. */
  #checkTie(module: string, parameter: string, tiedTo: string): void {
    for (const [name, { offloaded }] of this.#placements) {
      if (name === module) continue
      if (!offloaded?.parameters.some((target) => `${name}.${target.name}` === tiedTo)) continue
      throw new SpillwayError(
        'SPILLWAY_INVALID_SPEC',
        `module ${module}, parameter ${parameter}, is tied to ${tiedTo}, which an earlier call has offloaded; ` +
          'pass both modules to one wrapModules() call, and that parameter stays on the device',
        { details: { module, parameter, tiedTo } },
      )
    }
  }
}

function byOrder(a: Placement, b: Placement): number {
  return a.spec.order - b.spec.order
}
