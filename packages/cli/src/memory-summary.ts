import { formatBytes } from '@spillway/core'
import type { MemoryHistory } from './memory-page/memory-history.js'
import { groupFreeSizes, type MomentSegment, memoryMoment } from './memory-page/memory-moment.js'

const shownSegments = 40
const shownNames = 20
const shades = [' ', '░', '▒', '▓', '█']

/** For people, on a terminal of so many columns: figures, tags, pools, and a bar for each segment. */
export function memorySummary(history: MemoryHistory, columns = 100): string[] {
  const { trace, events } = history
  const at = history.interestingMoment()
  const moment = memoryMoment(history, at)
  const { stats } = trace.snapshot
  const lost = trace.lostEvents > 0 ? `, ${trace.lostEvents} before them lost` : ''
  const failed = history.outOfMemory.at(-1)
  const shortage = failed === undefined ? undefined : events[failed]
  const when =
    shortage !== undefined && at === failed! + 1
      ? `when ${formatBytes(shortage.bytes)} (${terminalText(shortage.tag)}) were not to be had, event ${shortage.number}`
      : at === events.length
        ? 'at the end of the trace'
        : `at the most live, after event ${events[at - 1]?.number}; at the end nothing is`
  const pools = Object.entries(stats.pools)
  return [
    `${terminalText(trace.device)}, limit ${formatBytes(trace.limitBytes)}; ${counted(events.length, 'event')}${lost}`,
    '',
    `${when}:`,
    `  reserved       ${formatBytes(moment.reservedBytes)} in ${counted(moment.segments.length, 'segment')}`,
    `  live           ${formatBytes(moment.liveBytes)}, ${formatBytes(moment.roundingBytes)} of it lost to rounding`,
    `  cached         ${formatBytes(moment.cachedBytes)}, the largest free block ${formatBytes(moment.largestFreeBytes)}`,
    `  fragmentation  ${(100 * moment.fragmentation).toFixed(1)} % (1 - largest free block / cached)`,
    '',
    'live, by tag:',
    ...table(
      [...moment.liveBytesByTag].map(([tag, bytes]) => [terminalText(tag), formatBytes(bytes)]),
      'nothing',
    ),
    '',
    'free blocks, by size:',
    ...table(
      groupFreeSizes(moment).map(({ upToBytes, count, bytes }) => [
        `${formatBytes(upToBytes / 2)} to ${formatBytes(upToBytes)}`,
        `${count}, together ${formatBytes(bytes)}`,
      ]),
      'none',
    ),
    '',
    'at the end, by pool:',
    ...table(
      [
        ['all', stats] as const,
        ...pools.map(([name, one]) => [name === '' ? 'no pool' : terminalText(name), one] as const),
      ].map(([name, one]) => [
        name,
        `reserved ${formatBytes(one.reservedBytes)} (peak ${formatBytes(one.peakReservedBytes)}), ` +
          `live ${formatBytes(one.liveBytes)} (peak ${formatBytes(one.peakLiveBytes)}), ` +
          `${counted(one.allocations, 'allocation')}, ${counted(one.frees, 'free')}, ${one.outOfMemory} out of memory`,
      ]),
      'nothing',
    ),
    '',
    'segments, largest first (█ live, blank free):',
    ...segmentLines(moment.segments, Math.max(40, Math.min(columns, 160))),
  ]
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

function segmentLines(segments: readonly MomentSegment[], columns: number): string[] {
  const sorted = [...segments].sort((a, b) => b.bytes - a.bytes)
  const shown = sorted.slice(0, shownSegments)
  const most = shown[0]?.bytes ?? 1
  const room = columns - 32
  const lines = shown.map((segment) => {
    const width = Math.max(1, Math.round((room * segment.bytes) / most))
    const pool = `${segment.expandable ? '» ' : ''}${segment.pool === '' ? '' : terminalText(segment.pool)}`
    return `  ${formatBytes(segment.bytes).padStart(11)} |${bar(segment, width)}| ${pool}`.trimEnd()
  })
  if (sorted.length > shown.length) lines.push(`  and ${sorted.length - shown.length} smaller ones`)
  return lines.length === 0 ? ['  none'] : lines
}

/** Each character by how much of its stretch is live. Never quite full, nor empty, what is not. */
function bar({ address, bytes, blocks }: MomentSegment, width: number): string {
  const live = new Float64Array(width)
  const scale = width / bytes
  for (const block of blocks) {
    if (block.state !== 'live') continue
    const [from, to] = [(block.address - address) * scale, (block.address + block.bytes - address) * scale]
    for (let i = Math.floor(from); i < Math.min(width, Math.ceil(to)); i++) {
      live[i] = (live[i] as number) + Math.min(to, i + 1) - Math.max(from, i)
    }
  }
  return Array.from(live, (share) => {
    if (share < 1e-9) return shades[0]
    return share > 1 - 1e-6 ? shades[4] : shades[Math.min(3, 1 + Math.floor(share * 3))]
  }).join('')
}

function table(rows: readonly (readonly [string, string])[], none: string): string[] {
  if (rows.length === 0) return [`  ${none}`]
  const shown = rows.slice(0, shownNames)
  const width = Math.max(...shown.map(([name]) => name.length))
  const rest = rows.length > shown.length ? [`  and ${rows.length - shown.length} more`] : []
  return [...shown.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`), ...rest]
}

/** A name from a file, which may hold what moves a terminal's cursor. */
export function terminalText(name: string): string {
  const cut = name.length > 60 ? `${name.slice(0, 59)}…` : name
  return cut === '' ? 'no tag' : cut.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}
