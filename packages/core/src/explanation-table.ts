import type { ModuleTimes } from './backend.js'
import { formatBytes } from './bytes.js'
import type { ExplainedModule, Explanation } from './explanation.js'

export interface FormatExplanationOptions {
  /** Default true. false: what is to be had before a run is left out, for a table after one that had it. */
  readonly placement?: boolean
}

/**
 * For people: a line for each module, aligned, and what it comes to. Times are milliseconds of a step: of the module's
 * kernels, of its onload on the link, of the wait for that, and the share of the link's time that nobody waited for;
 * those of kernels are measured where there is a measurement.
 */
export function formatExplanation(explanation: Explanation, options: FormatExplanationOptions = {}): string {
  const { placement = true } = options
  const { modules, predictedStepMs, measuredStepMs } = explanation
  const columns = [
    column('module', 'left', ({ module }) => module),
    ...(placement ? [column('device', 'right', ({ deviceBytes }) => bytesOrDash(deviceBytes))] : []),
    // Beside its times, what is copied is of interest in any table.
    column('host', 'right', ({ hostBytes }) => bytesOrDash(hostBytes)),
    ...(placement ? placementColumns : []),
    ...timeColumns(modules),
  ]
  const table = placement || modules.some(({ measured }) => measured !== undefined)
  const lines = [...(table ? [...alignColumns(columns, modules), ''] : []), ...memoryLines(explanation, placement)]
  const steps = [
    predictedStepMs === undefined ? [] : `${formatMs(predictedStepMs)} predicted`,
    measuredStepMs === undefined ? [] : `${formatMs(measuredStepMs)} measured`,
  ].flat()
  if (steps.length > 0) lines.push(`a step: ${steps.join(', ')}`)
  return lines.join('\n')
}

function memoryLines({ memory, measuredStepMs, measuredPeakDeviceBytes }: Explanation, placement: boolean): string[] {
  const { residentBytes, slotBytes, kvCacheBytes, workspaceBytes, postLoadBytes, deviceBytes, hostBytes } = memory
  const uses =
    `on the device: ${formatBytes(residentBytes)} of weights, ${formatBytes(slotBytes)} of slots, ` +
    `${formatBytes(kvCacheBytes)} of caches, ${formatBytes(workspaceBytes)} of workspace; ` +
    `${formatBytes(postLoadBytes)} while loading`
  // Before anything has run the device has counted less than there will be.
  const peak = measuredStepMs === undefined ? '' : `, ${formatBytes(measuredPeakDeviceBytes)} measured`
  return [
    ...(placement ? [uses] : []),
    `at most ${formatBytes(deviceBytes)} on the device planned${peak}`,
    ...(placement ? [`on the host: ${formatBytes(hostBytes)} of weights`] : []),
  ]
}

interface Column {
  readonly heading: string
  readonly align: 'left' | 'right'
  cell(row: ExplainedModule): string
}

const absent = '-'

const placementColumns: readonly Column[] = [
  column('storage', 'left', ({ storage }) => storage),
  column('slot', 'right', ({ slot }) => (slot === undefined ? absent : String(slot))),
]

/** Of kernels, the better known of the two times: a prediction takes it as it is. */
function timeColumns(modules: readonly ExplainedModule[]): Column[] {
  const known = (['predicted', 'measured'] as const).filter((when) => modules.some((row) => row[when] !== undefined))
  const best = known.at(-1)
  if (best === undefined) return []
  return [
    column(`${best} compute`, 'right', (row) => msOrDash(row[best]?.computeMs)),
    ...known.flatMap((when) => {
      const copied = ({ [when]: times }: ExplainedModule): ModuleTimes | undefined =>
        times !== undefined && (times.linkMs > 0 || times.waitMs > 0) ? times : undefined
      if (!modules.some(copied)) return []
      return [
        column(`${when} link`, 'right', (row) => msOrDash(copied(row)?.linkMs)),
        column('wait', 'right', (row) => msOrDash(copied(row)?.waitMs)),
        column('hidden', 'right', (row) => percentOrDash(copied(row)?.hiddenFraction)),
      ]
    }),
  ]
}

function column(heading: string, align: Column['align'], cell: Column['cell']): Column {
  return { heading, align, cell }
}

function alignColumns(columns: readonly Column[], rows: readonly ExplainedModule[]): string[] {
  const cells = columns.map(({ heading, align, cell }) => {
    const texts = [heading, ...rows.map((row) => cell(row))]
    const width = Math.max(...texts.map(({ length }) => length))
    return texts.map((text) => (align === 'left' ? text.padEnd(width) : text.padStart(width)))
  })
  return ['', ...rows].map((_, line) => {
    return cells
      .map((texts) => texts[line]!)
      .join('  ')
      .trimEnd()
  })
}

function bytesOrDash(bytes: number): string {
  return bytes === 0 ? absent : formatBytes(bytes)
}

function msOrDash(ms: number | undefined): string {
  return ms === undefined ? absent : formatMs(ms)
}

function percentOrDash(fraction: number | undefined): string {
  return fraction === undefined ? absent : `${Math.round(100 * fraction)} %`
}

/** A norm's kernel takes some microseconds. */
function formatMs(ms: number): string {
  return `${ms.toFixed(ms > 0 && ms < 1 ? 3 : 2)} ms`
}
