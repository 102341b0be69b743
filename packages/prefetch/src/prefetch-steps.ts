import {
  applyReplacements,
  type BackendContext,
  type DeviceBuffer,
  extentBytes,
  type ForwardSteps,
  type HostBuffer,
  type ModuleSpec,
  type OffloaderSteps,
  type OffloadStats,
  ownParameters,
  type ParameterSpec,
  type PlacedModule,
  type Replacement,
  SpillwayError,
  type Stream,
  type TensorView,
  throwIfAborted,
} from '@spillway/core'
import { selectLayers } from './layer-selection.js'
import type { PrefetchAddon, RingCounters } from './native-ring.js'
import type { PrefetchConfig } from './options.js'
import { explainOutOfMemory } from './out-of-memory.js'
import { Placement } from './placement.js'
import { Ring } from './ring.js'
import { Slab } from './slab.js'

interface PrefetchModule {
  readonly placement: Placement
  /** Its parameters go to the host, except those that another module is tied to. */
  readonly selected: boolean
}

/** The placement backend `prefetch`: see README.md for the rules. */
export class PrefetchSteps implements OffloaderSteps {
  readonly #addon: PrefetchAddon
  readonly #context: BackendContext
  readonly #config: PrefetchConfig
  readonly #modules = new Map<string, PrefetchModule>()
  /** Full names of parameters that another module reads too: at a time when a slot may hold something else. */
  #tieTargets: ReadonlySet<string> = new Set()
  #layerCount = 0
  #ring: Ring | undefined
  /** Offloaded modules by name. */
  readonly #ringIndices = new Map<string, number>()

  constructor(addon: PrefetchAddon, context: BackendContext, config: PrefetchConfig) {
    this.#addon = addon
    this.#context = context
    this.#config = config
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    { signal }: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    const tieTargets = this.#withTieTargets(specs)
    const { selected, layerCount } = selectLayers(specs, this.#layerCount, this.#config)
    const made: PrefetchModule[] = []
    try {
      for (const spec of specs) {
        throwIfAborted(signal, 'placing modules')
        const isSelected = selected.has(spec.name)
        const { offloaded, resident } = split(spec.name, ownParameters(spec), isSelected, tieTargets)
        made.push({ placement: await this.#allocate(spec, offloaded, resident, signal), selected: isSelected })
      }
    } catch (error) {
      await Promise.all(made.map(({ placement }) => placement.dispose()))
      throw error
    }
    this.#tieTargets = tieTargets
    this.#layerCount = layerCount
    for (const module of made) this.#modules.set(module.placement.spec.name, module)
    return made.map(({ placement }) => placement.placed())
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const module = this.#modules.get(name)
    if (module === undefined) throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `no module ${name} was placed`)
    for (const [parameter, replacement] of next) {
      if (replacement !== null && 'tiedTo' in replacement) this.#checkTie(name, parameter, replacement.tiedTo)
    }
    const old = module.placement
    const { parameters, sources } = applyReplacements(old.placed(), next)
    const { offloaded, resident } = split(name, parameters, module.selected, this.#tieTargets)
    // New slabs first: a failure leaves the old parameters as they are.
    const made = await this.#allocate(old.spec, offloaded, resident)
    try {
      this.#copy(made, sources)
      await this.#context.compute.synchronize()
    } catch (error) {
      // The views are the caller's again once this throws.
      await this.#context.compute.synchronize().catch(() => undefined)
      await made.dispose()
      throw error
    }
    this.#modules.set(name, { ...module, placement: made })
    await old.dispose()
    return made.placed()
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    const offloaded = [...this.#modules.values()]
      .map(({ placement }) => placement)
      .filter((placement) => placement.offloaded !== undefined)
      .sort((a, b) => a.spec.order - b.spec.order)
    if (offloaded.length > 0) {
      const slabs = offloaded.map((placement) => placement.offloaded!.buffer)
      this.#ring = await Ring.open(this.#addon, this.#context, slabs, this.#config.prefetchStep)
      for (const [index, { spec }] of offloaded.entries()) this.#ringIndices.set(spec.name, index)
    }
    return [...this.#modules].map(([name, { placement }]) => {
      const index = this.#ringIndices.get(name)
      return placement.placed(index === undefined ? undefined : this.#ring!.slotOf(index))
    })
  }

  beginForward(stream: Stream): ForwardSteps {
    const ring = this.#ring
    if (ring === undefined) return { before() {}, after() {}, end() {} }
    const indices = this.#ringIndices
    ring.begin(stream)
    return {
      before(module) {
        const index = indices.get(module)
        if (index !== undefined) ring.before(index)
      },
      after(module) {
        const index = indices.get(module)
        if (index !== undefined) ring.after(index)
      },
      end: (ok) => ring.end(ok),
    }
  }

  stats(): OffloadStats {
    let offloadedBytes = 0
    let residentBytes = 0
    for (const { placement } of this.#modules.values()) {
      offloadedBytes += placement.offloadedBytes
      residentBytes += placement.residentBytes
    }
    return {
      offloadedBytes,
      residentBytes,
      slotBytes: this.#ring?.slotBytes ?? 0,
      onloadedBytes: this.#ring?.counters.onloadedBytes ?? 0,
    }
  }

  /** Undefined before postInit(), and when nothing is offloaded. */
  get ringCounters(): RingCounters | undefined {
    return this.#ring?.counters
  }

  async dispose(): Promise<void> {
    const modules = [...this.#modules.values()]
    const ring = this.#ring
    this.#modules.clear()
    this.#ringIndices.clear()
    this.#ring = undefined
    await Promise.all([ring?.dispose(), ...modules.map(({ placement }) => placement.dispose())])
  }

  #withTieTargets(specs: readonly ModuleSpec[]): ReadonlySet<string> {
    const targets = new Set(this.#tieTargets)
    for (const spec of specs) {
      for (const { name, tiedTo } of spec.parameters) {
        if (tiedTo === undefined) continue
        this.#checkTie(spec.name, name, tiedTo)
        // A module that reads its own parameter under two names reads it when it is in its slot.
        const withinModule = spec.parameters.some((parameter) => `${spec.name}.${parameter.name}` === tiedTo)
        if (!withinModule) targets.add(tiedTo)
      }
    }
    return targets
  }

  /** Refuses a tie to a parameter of another module that is on the host already. */
  #checkTie(module: string, parameter: string, tiedTo: string): void {
    for (const { placement } of this.#modules.values()) {
      const { spec, offloaded } = placement
      if (spec.name === module || !offloaded?.parameters.some(({ name }) => `${spec.name}.${name}` === tiedTo)) continue
      throw new SpillwayError(
        'SPILLWAY_INVALID_SPEC',
        `module ${module}, parameter ${parameter}, is tied to ${tiedTo}, which an earlier call has offloaded; ` +
          'pass both modules to one wrapModules() call, and the parameter stays on the device',
        { details: { module, parameter, tiedTo } },
      )
    }
  }

  async #allocate(
    spec: ModuleSpec,
    offloaded: readonly ParameterSpec[],
    resident: readonly ParameterSpec[],
    signal?: AbortSignal,
  ): Promise<Placement> {
    const own = { ...spec, parameters: [...offloaded, ...resident] }
    const host = offloaded.length === 0 ? undefined : await this.#allocateHost(offloaded, signal)
    try {
      return new Placement(own, host, resident.length === 0 ? undefined : this.#allocateDevice(spec.name, resident))
    } catch (error) {
      await host?.buffer.dispose()
      throw error
    }
  }

  async #allocateHost(parameters: readonly ParameterSpec[], signal?: AbortSignal): Promise<Slab<HostBuffer>> {
    const options = signal === undefined ? {} : { signal }
    return new Slab(parameters, await this.#context.host.allocate(Slab.bytes(parameters), options))
  }

  #allocateDevice(module: string, parameters: readonly ParameterSpec[]): Slab<DeviceBuffer> {
    const bytes = Slab.bytes(parameters)
    const { memory, compute } = this.#context
    try {
      const buffer = memory('weights').allocate(bytes, { stream: compute, module, recovery: { kind: 'copy' } })
      return new Slab(parameters, buffer)
    } catch (error) {
      throw explainOutOfMemory(
        error,
        `module ${module} (${bytes} bytes), which is not offloaded,`,
        'Offload more layers: with a smaller groupSize (--offload-group-size) or a larger numInGroup ' +
          '(--offload-num-in-group)',
      )
    }
  }

  #copy({ offloaded, resident }: Placement, sources: ReadonlyMap<string, TensorView>): void {
    for (const slab of [offloaded, resident]) {
      for (const parameter of slab?.parameters ?? []) {
        const bytes = extentBytes(parameter)
        if (bytes === 0) continue
        const from = sources.get(parameter.name)!
        const to = slab!.view(parameter)
        this.#context.compute.copy(to.buffer, from.buffer, { toOffset: to.offset, fromOffset: from.offset, bytes })
      }
    }
  }
}

function split(
  module: string,
  parameters: readonly ParameterSpec[],
  selected: boolean,
  tieTargets: ReadonlySet<string>,
): { offloaded: readonly ParameterSpec[]; resident: readonly ParameterSpec[] } {
  if (!selected) return { offloaded: [], resident: parameters }
  const stays = (parameter: ParameterSpec): boolean => tieTargets.has(`${module}.${parameter.name}`)
  return { offloaded: parameters.filter((parameter) => !stays(parameter)), resident: parameters.filter(stays) }
}
