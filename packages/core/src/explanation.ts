import type { MemoryPlan, ModuleTimes, OffloadForecast, StepForecast } from './backend.js'
import { formatBytes } from './bytes.js'
import { type ModuleRole, type ModuleSpec, ownParameters, type PlacedModule, parameterBytes } from './module.js'
import type { PhysicalBytes } from './resident-plan.js'

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
  readonly measured: StepForecast | undefined
  readonly physical: PhysicalBytes
  readonly peakDeviceBytes: number
}

/** Puts together what core, backend and measurement know; pure. */
export function explain(sources: ExplanationSources): Explanation {
  const { names, modules, plan, forecast, measured, physical, peakDeviceBytes } = sources
  const placed = [...modules].sort((a, b) => a.spec.order - b.spec.order)
  const predictedOf = byModule(forecast?.step)
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
    ...(forecast?.step === undefined ? {} : { predictedStepMs: forecast.step.stepMs }),
    ...(measured === undefined ? {} : { measuredStepMs: measured.stepMs }),
    measuredPeakDeviceBytes: peakDeviceBytes,
  }
}

/** For people: a line for each module, aligned, and what it comes to. */
export function formatExplanation({ modules, memory, ...whole }: Explanation): string {
  const predicted = modules.some((row) => row.predicted !== undefined)
  const measured = modules.some((row) => row.measured !== undefined)
  const timeHeadings = (label: string): string[] => [`${label} link`, 'wait', 'hidden']
  const headings = ['module', 'device', 'host', 'storage', 'slot']
  if (predicted) headings.push(...timeHeadings('predicted'))
  if (measured) headings.push(...timeHeadings('measured'))
  const rows = modules.map((row) => [
    row.module,
    bytesOrDash(row.deviceBytes),
    bytesOrDash(row.hostBytes),
    row.storage,
    row.slot === undefined ? '-' : String(row.slot),
    ...(predicted ? timeCells(row.predicted) : []),
    ...(measured ? timeCells(row.measured) : []),
  ])
  const { residentBytes, slotBytes, kvCacheBytes, workspaceBytes, postLoadBytes, deviceBytes, hostBytes } = memory
  const lines = [
    ...alignColumns([headings, ...rows]),
    '',
    `on the device: ${formatBytes(residentBytes)} of weights, ${formatBytes(slotBytes)} of slots, ` +
      `${formatBytes(kvCacheBytes)} of caches, ${formatBytes(workspaceBytes)} of workspace; ` +
      `${formatBytes(postLoadBytes)} while loading`,
    `at most ${formatBytes(deviceBytes)} planned, ${formatBytes(whole.measuredPeakDeviceBytes)} measured`,
    `on the host: ${formatBytes(hostBytes)} of weights`,
  ]
  const steps = [
    whole.predictedStepMs === undefined ? [] : `${whole.predictedStepMs.toFixed(2)} ms predicted`,
    whole.measuredStepMs === undefined ? [] : `${whole.measuredStepMs.toFixed(2)} ms measured`,
  ].flat()
  if (steps.length > 0) lines.push(`a step: ${steps.join(', ')}`)
  return lines.join('\n')
}

function own({ spec, parameters }: PlacedModule, onDevice: boolean) {
  return ownParameters(spec)
    .map(({ name }) => parameters.get(name)!)
    .filter(({ storage }) => (storage === 'device') === onDevice)
}

function byModule(times: StepForecast | undefined): ReadonlyMap<string, ModuleTimes> {
  return new Map(times?.modules.map((one) => [one.module, one]))
}

function bytesOrDash(bytes: number): string {
  return bytes === 0 ? '-' : formatBytes(bytes)
}

function timeCells(times: ModuleTimes | undefined): string[] {
  if (times === undefined || (times.linkMs === 0 && times.waitMs === 0)) return ['-', '-', '-']
  const { linkMs, waitMs, hiddenFraction } = times
  return [`${linkMs.toFixed(2)} ms`, `${waitMs.toFixed(2)} ms`, `${Math.round(100 * hiddenFraction)} %`]
}

/** Names to the left, numbers to the right. */
function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const leftAligned = new Set([0, 3])
  return rows.map((row) =>
    row
      .map((cell, i) => (leftAligned.has(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  )
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}
