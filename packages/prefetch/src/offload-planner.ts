import {
  type BackendContext,
  formatBytes,
  type ModuleSpec,
  ownParameters,
  PhysicalBytes,
  Slab,
  SpillwayError,
  warn,
} from '@spillway/core'
import { type FitModule, planFit } from './fit.js'
import { layersOf, selectLayers } from './layer-selection.js'
import { defaultPrefetchStep, type PrefetchConfig } from './options.js'
import { ParameterPatterns } from './parameter-pattern.js'
import type { Placement } from './placement.js'
import { slotSizes } from './slots.js'

/**
 * Memory of at least this size is a segment of its own, which goes back whole. Smaller pieces share segments, with
 * neighbours that stay: what is given back of them may be of no use for slots. The sizes are PyTorch's.
 */
const ownSegmentBytes = 10 * 2 ** 20

/** What one call of `wrapModules` puts on the host. */
export interface OffloadPlan {
  isOffloaded(module: ModuleSpec, parameter: string): boolean
  readonly prefetchStep: number
  readonly layerCount: number
  readonly patterns: ParameterPatterns
}

/** Decides from sizes alone what goes to the host: by groups of layers, or as little as makes the rest fit. */
export class OffloadPlanner {
  readonly #context: BackendContext
  readonly #config: PrefetchConfig
  #patterns: ParameterPatterns
  #layerCount = 0
  #prefetchStep: number

  constructor(context: BackendContext, config: PrefetchConfig) {
    this.#context = context
    this.#config = config
    this.#patterns = new ParameterPatterns(config.params)
    this.#prefetchStep = config.prefetchStep ?? defaultPrefetchStep
  }

  /** Bytes of each slot for the elements of the ring, as was planned. */
  slotSizes(elementBytes: readonly number[]): readonly number[] {
    const physical = new PhysicalBytes(this.#context.budget)
    return slotSizes(elementBytes, this.#prefetchStep, (bytes) => physical.of(bytes))
  }

  /**
   * `placed`: what earlier calls placed, patterns of which count as matched. Throws SPILLWAY_PATTERN_UNMATCHED and, without groups, SPILLWAY_OUT_OF_MEMORY
   * when nothing fits and SPILLWAY_NOTHING_OFFLOADED when everything does. Changes nothing until `accept`.
   */
  plan(specs: readonly ModuleSpec[], prefix: string, placed: readonly Placement[]): OffloadPlan {
    const patterns = this.#patterns.copy()
    const tieTargets = tieTargetsOf(specs)
    const mayOffload = (module: ModuleSpec, parameter: string): boolean =>
      !tieTargets.has(`${module.name}.${parameter}`) && patterns.matches(module, parameter, prefix)
    const offloadable = new Map(
      specs.map((spec) => [spec, ownParameters(spec).filter(({ name }) => mayOffload(spec, name))] as const),
    )
    const layers = layersOf(specs)
    // A tower may come before the layers in a call of its own.
    if (layers.length > 0) patterns.requireMatched()
    const named = specs.filter((spec) => spec.role !== 'layer' && offloadable.get(spec)!.length > 0)
    const grouped = this.#config.groupSize > 0
    const fit = grouped ? undefined : this.#fit(offloadable, placed)
    const chosen = fit?.offloaded ?? selectLayers(specs, this.#layerCount, this.#config)
    const selected = new Set([...chosen, ...named.map(({ name }) => name)])
    return {
      isOffloaded: (module, parameter) => selected.has(module.name) && mayOffload(module, parameter),
      prefetchStep: fit?.prefetchStep ?? this.#prefetchStep,
      layerCount: this.#layerCount + layers.length,
      patterns,
    }
  }

  /** The modules of the plan are placed. */
  accept({ prefetchStep, layerCount, patterns }: OffloadPlan): void {
    this.#prefetchStep = prefetchStep
    this.#layerCount = layerCount
    this.#patterns = patterns
  }

  /** Throws SPILLWAY_PATTERN_UNMATCHED for a pattern that matched nothing in any call: one without layers is not asked. */
  requireMatched(): void {
    this.#patterns.requireMatched()
  }

  nothingOffloaded(): SpillwayError {
    const { groupSize, numInGroup } = this.#config
    if (groupSize === 0) return nothingOffloaded('no module with the role layer was placed', {})
    return nothingOffloaded(
      `groups of ${groupSize} layers (--offload-group-size), of which the last ${numInGroup} are offloaded, select none of ` +
        `${this.#layerCount} layers with anything to offload. Take smaller groups, or leave --offload-group-size out`,
      { groupSize, numInGroup, layerCount: this.#layerCount },
    )
  }

  #fit(offloadable: ReadonlyMap<ModuleSpec, ModuleSpec['parameters']>, placed: readonly Placement[]) {
    const { budget, plan } = this.#context
    const specs = [...offloadable.keys()]
    const physical = new PhysicalBytes(budget)
    const modules = specs.map((spec) => ({ order: spec.order, ...fitModule(spec, offloadable.get(spec)!, physical) }))
    for (const { spec, offloaded } of placed) {
      if (offloaded !== undefined)
        modules.push({ order: spec.order, ...placedModule(spec.name, offloaded.buffer.bytes, physical) })
    }
    const loading = physical.ofPostLoad(specs, plan)
    const largest = Math.max(0, ...layersOf(specs).map((spec) => physical.ofSlab(ownParameters(spec))))
    const fit = planFit({
      modules: modules.sort((a, b) => a.order - b.order),
      otherBytes: physical.of(plan.kvCacheBytes) + physical.of(plan.workspaceBytes) + physical.ofLeftover(specs, plan),
      postLoadBytes: loading,
      lostBytes: largest < ownSegmentBytes ? loading : 0,
      boundBytes: budget.availableBytes,
      prefetchStep: this.#config.prefetchStep,
    })
    if (fit.offloaded.length === 0 && specs.some(({ role }) => role === 'layer')) {
      throw nothingOffloaded(
        `everything fits on the device: ${formatBytes(fit.deviceBytes)} of ${formatBytes(budget.availableBytes)} that are ` +
          'free. Choose the backend auto or none; or say with --offload-group-size which layers to offload all the same, ' +
          'or with --device-memory how little the device has',
        { neededBytes: fit.deviceBytes, availableBytes: budget.availableBytes },
      )
    }
    if (this.#config.prefetchStep === undefined && fit.prefetchStep < defaultPrefetchStep) {
      warn(
        'SPILLWAY_PREFETCH_STEP',
        `prefetch: ${defaultPrefetchStep} slots do not fit into the ${formatBytes(budget.availableBytes)} that are free, so ` +
          `there is one of ${formatBytes(fit.slotBytes[0] ?? 0)}: no layer is copied while another offloaded one is read`,
      )
    }
    return fit
  }
}

function fitModule(spec: ModuleSpec, offloadable: ModuleSpec['parameters'], physical: PhysicalBytes): FitModule {
  const own = ownParameters(spec)
  const kept = own.filter((parameter) => !offloadable.includes(parameter))
  const slabBytes = offloadable.length === 0 ? 0 : Slab.bytes(offloadable)
  return {
    name: spec.name,
    hostBytes: slabBytes,
    slotBytes: physical.of(slabBytes),
    keptBytes: physical.ofSlab(kept),
    residentBytes: physical.ofSlab(own),
    offload: spec.role === 'layer' ? 'chosen' : 'always',
  }
}

/** What stays of it on the device is not among the bytes that are free any more. */
function placedModule(name: string, hostBytes: number, physical: PhysicalBytes): FitModule {
  const slotBytes = physical.of(hostBytes)
  return { name, hostBytes, slotBytes, keptBytes: 0, residentBytes: 0, offload: 'always' }
}

function nothingOffloaded(problem: string, details: Readonly<Record<string, unknown>>): SpillwayError {
  const message = `prefetch was asked to offload, and nothing would be: ${problem}`
  return new SpillwayError('SPILLWAY_NOTHING_OFFLOADED', message, { details: { backend: 'prefetch', ...details } })
}

/** Full names of parameters that another module reads too, at a time when a slot may hold another layer. */
function tieTargetsOf(specs: readonly ModuleSpec[]): ReadonlySet<string> {
  const targets = new Set<string>()
  for (const spec of specs) {
    // A second name within the module is read when the module is in its slot.
    const inner = new Set(spec.parameters.map(({ name }) => `${spec.name}.${name}`))
    for (const { tiedTo } of spec.parameters) {
      if (tiedTo !== undefined && !inner.has(tiedTo)) targets.add(tiedTo)
    }
  }
  return targets
}
