import type { MemoryPlan, ModuleTimes, OffloadForecast, StepForecast, StepRates } from './backend.js'
import { type ModuleRole, type ModuleSpec, ownParameters, type PlacedModule, parameterBytes } from './module.js'
import type { PhysicalBytes } from './resident-plan.js'
import { moduleTimes } from './trace.js'

/** Where one module lies, and what its forwards cost. Bytes of parameters, ties counted where the bytes are. */
export interface ExplainedModule {
  readonly module: string
  readonly role: ModuleRole
  readonly deviceBytes: number
  readonly hostBytes: number
  /** Of what is on the host; `device` when nothing is. */
  readonly storage: string
  /** The slot it is read from, if any. */
  readonly slot?: number
  readonly predicted?: ModuleTimes
  readonly measured?: ModuleTimes
}

/** Device bytes as planned, in what the device has its memory in. */
export interface ExplainedMemory {
  readonly residentBytes: number
  readonly slotBytes: number
  readonly kvCacheBytes: number
  readonly workspaceBytes: number
  /** For a while when loading, before there are slots. */
  readonly postLoadBytes: number
  /** The most of all that at any time. */
  readonly deviceBytes: number
  /** Bytes on the host, without padding. */
  readonly hostBytes: number
}

export interface Explanation {
  /** As `Offloader.names`. */
  readonly names: readonly string[]
  /** In the order of the forward. */
  readonly modules: readonly ExplainedModule[]
  readonly memory: ExplainedMemory
  readonly predictedStepMs?: number
  readonly measuredStepMs?: number
  /** As the device counted it, other users of it included. */
  readonly measuredPeakDeviceBytes: number
}

export interface ExplanationSources {
  readonly names: readonly string[]
  readonly modules: Iterable<PlacedModule>
  readonly plan: MemoryPlan
  readonly forecast: OffloadForecast | undefined
  readonly rates: StepRates | undefined
  readonly measured: StepForecast | undefined
  readonly physical: PhysicalBytes
  readonly peakDeviceBytes: number
}

/** Puts together what core, backend and measurement know; pure. */
export function explain(sources: ExplanationSources): Explanation {
  const { names, modules, plan, forecast, rates, measured, physical, peakDeviceBytes } = sources
  const placed = [...modules].sort((a, b) => a.spec.order - b.spec.order)
  const step = forecast?.step ?? residentStep(placed, rates)
  const predictedOf = byModule(step)
  const measuredOf = byModule(measured)
  const rows = placed.map((module): ExplainedModule => {
    const { name, role } = module.spec
    const slot = forecast?.slotOf.get(name)
    const predicted = predictedOf.get(name)
    const times = measuredOf.get(name)
    return {
      module: name,
      role,
      deviceBytes: parameterBytes(own(module, true)),
      hostBytes: parameterBytes(own(module, false)),
      storage: [...new Set(own(module, false).map(({ storage }) => storage))].join('+') || 'device',
      ...(slot === undefined ? {} : { slot }),
      ...(predicted === undefined ? {} : { predicted }),
      ...(times === undefined ? {} : { measured: times }),
    }
  })
  const residentBytes = sum(placed.map((module) => physical.ofSlab(own(module, true))))
  const slotBytes = sum((forecast?.slotBytes ?? []).map((bytes) => physical.of(bytes)))
  const specs: ModuleSpec[] = placed.map(({ spec }) => spec)
  const kvCacheBytes = physical.of(plan.kvCacheBytes)
  const workspaceBytes = physical.of(plan.workspaceBytes)
  const loading = physical.ofPostLoad(specs, plan)
  return {
    names,
    modules: rows,
    memory: {
      residentBytes,
      slotBytes,
      kvCacheBytes,
      workspaceBytes,
      postLoadBytes: loading,
      deviceBytes: residentBytes + kvCacheBytes + workspaceBytes + Math.max(slotBytes, loading),
      hostBytes: sum(rows.map(({ hostBytes }) => hostBytes)),
    },
    ...(step === undefined ? {} : { predictedStepMs: step.stepMs }),
    ...(measured === undefined ? {} : { measuredStepMs: measured.stepMs }),
    measuredPeakDeviceBytes: peakDeviceBytes,
  }
}

/** Where nothing is copied, there is nothing for a backend to foretell: a step is what its kernels take. */
function residentStep(placed: readonly PlacedModule[], rates: StepRates | undefined): StepForecast | undefined {
  if (rates === undefined || placed.some((module) => own(module, false).length > 0)) return undefined
  const modules = placed.map(({ spec: { name } }) => moduleTimes(name, rates.computeMs(name), 0, 0))
  return { stepMs: sum(modules.map(({ computeMs }) => computeMs)), modules }
}

function own({ spec, parameters }: PlacedModule, onDevice: boolean) {
  return ownParameters(spec)
    .map(({ name }) => parameters.get(name)!)
    .filter(({ storage }) => (storage === 'device') === onDevice)
}

function byModule(times: StepForecast | undefined): ReadonlyMap<string, ModuleTimes> {
  return new Map(times?.modules.map((one) => [one.module, one]))
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}
