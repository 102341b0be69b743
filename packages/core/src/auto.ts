import type {
  BackendContext,
  ForwardSteps,
  ForwardTracer,
  OffloadBackend,
  OffloaderSteps,
  OffloadForecast,
  OffloadStats,
  PlacementBackend,
  StepRates,
} from './backend.js'
import { checkBackend } from './backend-value.js'
import { formatBytes } from './bytes.js'
import { notSupported, requirePinning } from './composition.js'
import type { Stream } from './device.js'
import { isSpillwayError, messageOf, SpillwayError } from './errors.js'
import type { ModuleSpec, PlacedModule, Replacement } from './module.js'
import { none } from './none.js'
import type { OptionSpecs } from './option-spec.js'
import { flagName, parseOptions } from './options.js'
import { decideResident } from './resident-plan.js'
import { checkOffloaderSteps } from './steps-check.js'
import { warn } from './warning.js'

export interface AutoBackendOptions {
  /** Called only when the weights do not fit. */
  readonly loadPrefetch: () => Promise<OffloadBackend<never>>
  /** Prefetch's option specs: `auto` takes them and hands them on. */
  readonly options: OptionSpecs
}

/**
 * The placement backend `auto`: everything resident when it fits, else prefetch with its options as given. Decides at
 * the first `wrapModules`, from sizes alone; later calls go to whom it chose.
 */
export function createAutoBackend(options: AutoBackendOptions): PlacementBackend<Readonly<Record<string, unknown>>> {
  return Object.freeze({
    name: 'auto',
    apiVersion: 1 as const,
    role: 'placement' as const,
    supports: Object.freeze({ offloads: true, graphs: true, unpinned: true, kernels: false, reload: false }),
    options: options.options,
    create: async (context: BackendContext, config: Readonly<Record<string, unknown>>): Promise<OffloaderSteps> =>
      new AutoSteps(context, options, config),
  })
}

interface Choice {
  readonly name: string
  readonly graphs: boolean
  readonly steps: OffloaderSteps
}

class AutoSteps implements OffloaderSteps {
  readonly #context: BackendContext
  readonly #options: AutoBackendOptions
  readonly #config: Readonly<Record<string, unknown>>
  #choice: Choice | undefined

  constructor(context: BackendContext, options: AutoBackendOptions, config: Readonly<Record<string, unknown>>) {
    this.#context = context
    this.#options = options
    this.#config = config
  }

  get name(): string {
    return this.#choice === undefined ? 'auto' : `auto (${this.#choice.name})`
  }

  /** Everything resident is one of the two answers here, not a request that went wrong. */
  get offloads(): boolean {
    return this.#choice?.name !== none.name
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    options: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    if (this.#choice !== undefined) return this.#choice.steps.wrapModules(specs, options)
    const choice = await this.#choose(specs)
    try {
      const placed = await choice.steps.wrapModules(specs, options)
      this.#choice = choice
      return placed
    } catch (error) {
      // Nothing was placed, so nothing is decided: another try may be with other specs.
      // The first failure is the one to report.
      await choice.steps.dispose().catch(() => undefined)
      throw error
    }
  }

  replaceParameters(module: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    return this.#chosen().steps.replaceParameters(module, next)
  }

  postInit(): Promise<readonly PlacedModule[]> {
    return this.#chosen().steps.postInit()
  }

  beginForward(stream: Stream): ForwardSteps {
    const { name, graphs, steps } = this.#chosen()
    if (!graphs && stream.capturing) throw notSupported(name, 'graph capture', 'run without capturing')
    return steps.beginForward(stream)
  }

  stats(): OffloadStats {
    return this.#choice?.steps.stats() ?? { offloadedBytes: 0, residentBytes: 0, slotBytes: 0, onloadedBytes: 0 }
  }

  get tracer(): ForwardTracer | undefined {
    return this.#choice?.steps.tracer
  }

  forecast(rates?: StepRates): OffloadForecast {
    return this.#choice?.steps.forecast?.(rates) ?? { slotBytes: [], slotOf: new Map() }
  }

  async synchronize(options?: { readonly signal?: AbortSignal }): Promise<void> {
    await this.#choice?.steps.synchronize?.(options)
  }

  async dispose(): Promise<void> {
    const choice = this.#choice
    this.#choice = undefined
    await choice?.steps.dispose()
  }

  #warnOfIgnoredOptions(): void {
    const given = Object.entries(this.#options.options).filter(([key, spec]) => {
      const value = this.#config[key]
      return value !== undefined && JSON.stringify(value) !== JSON.stringify(spec.default)
    })
    if (given.length === 0) return
    const flags = given.map(([key, spec]) => `--${flagName(key, spec)}`)
    warn(
      'SPILLWAY_OPTION_IGNORED',
      `auto keeps everything on the device, where it fits, and ignores ${flags.join(', ')}; ` +
        'to offload all the same, choose the backend prefetch',
    )
  }

  #chosen(): Choice {
    if (this.#choice !== undefined) return this.#choice
    throw new SpillwayError('SPILLWAY_INVALID_STATE', 'auto has placed nothing yet; call wrapModules first')
  }

  async #choose(specs: readonly ModuleSpec[]): Promise<Choice> {
    const { budget, plan } = this.#context
    const { resident, neededBytes, availableBytes } = decideResident(specs, plan, budget)
    if (resident) {
      this.#warnOfIgnoredOptions()
      return { name: none.name, graphs: true, steps: await none.create(this.#context, {}) }
    }
    let loaded: OffloadBackend<never>
    try {
      loaded = await this.#options.loadPrefetch()
    } catch (cause) {
      throw new SpillwayError(
        isSpillwayError(cause) ? cause.code : 'SPILLWAY_BACKEND_FAILED',
        `the weights do not fit on the device (${formatBytes(neededBytes)} needed, ${formatBytes(availableBytes)} free), and prefetch, ` +
          `which would make them fit, did not load: ${messageOf(cause)}`,
        { cause },
      )
    }
    const checked = checkBackend(loaded, 'what auto loads as prefetch')
    if (checked.role !== 'placement') {
      throw new SpillwayError('SPILLWAY_BACKEND_INVALID', `auto needs a placement backend, ${checked.name} is none`)
    }
    requirePinning(checked, this.#context.pin)
    const config = parseOptions(checked.options, this.#config, checked.name)
    const steps = checkOffloaderSteps(await loaded.create(this.#context, config as never), checked.name)
    return { name: checked.name, graphs: checked.supports.graphs, steps }
  }
}
