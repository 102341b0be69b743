import type { MemoryHistory } from './memory-history.js'

/** What is drawn in one column of pixels: of all its moments, the one with the most live bytes. */
interface TimelineColumn {
  readonly moment: number
  /** The most of any moment in the column. */
  readonly reservedBytes: number
  readonly liveBytes: number
  readonly requestedBytes: number
  /** Live bytes by tag at `moment`, as `tags` has them. */
  readonly bytesByTag: Float64Array
}

export interface Timeline {
  readonly columns: readonly TimelineColumn[]
  /** Those with the largest peaks; the last one, undefined, is all others. */
  readonly tags: readonly (string | undefined)[]
  readonly mostBytes: number
}

export type TimeAxis = 'events' | 'time'

const shownTags = 15

/** Columns keep every peak: what lived for one event is drawn, however many events there are. */
export function makeTimeline(history: MemoryHistory, columnCount: number, axis: TimeAxis): Timeline {
  const count = history.events.length
  const tags = largestTags(history)
  const numbers = new Map(tags.map((tag, i) => [tag, i]))
  const others = tags.length - 1
  const bytes = new Float64Array(tags.length)
  for (const { tag, bytes: size } of history.at(0).live.values()) addTo(bytes, numbers.get(tag) ?? others, size)
  const columns: TimelineColumn[] = []
  const columnOf = (moment: number): TimelineColumn => ({
    moment,
    reservedBytes: history.reservedBytes[moment] as number,
    liveBytes: history.liveBytes[moment] as number,
    requestedBytes: history.requestedBytes[moment] as number,
    bytesByTag: bytes.slice(),
  })
  const scale = momentScale(history, axis)
  let mostBytes = 0
  for (let moment = 0; moment <= count; moment++) {
    const column = Math.min(columnCount - 1, Math.floor(scale.positionOf(moment) * columnCount))
    // Where nothing happened it is as it was.
    while (columns.length < column) columns.push(columnOf(Math.max(0, moment - 1)))
    const event = history.events[moment - 1]
    if (event?.kind === 'allocate') addTo(bytes, numbers.get(event.tag) ?? others, event.bytes)
    if (event?.kind === 'free') addTo(bytes, numbers.get(event.tag) ?? others, -event.bytes)
    const [reservedBytes, liveBytes] = [history.reservedBytes[moment] as number, history.liveBytes[moment] as number]
    mostBytes = Math.max(mostBytes, reservedBytes, liveBytes)
    const before = columns[column]
    if (before === undefined) columns.push(columnOf(moment))
    else if (liveBytes > before.liveBytes) {
      columns[column] = { ...columnOf(moment), reservedBytes: Math.max(before.reservedBytes, reservedBytes) }
    } else if (reservedBytes > before.reservedBytes) columns[column] = { ...before, reservedBytes }
  }
  while (columns.length < columnCount) columns.push(columnOf(count))
  return { columns, tags, mostBytes }
}

/** Between moments and positions from 0 to 1. */
export interface MomentScale {
  positionOf(moment: number): number
  momentAt(position: number): number
}

export function momentScale(history: MemoryHistory, axis: TimeAxis): MomentScale {
  const count = history.events.length
  const lastMs = history.elapsedMs(count)
  if (axis === 'events' || !(lastMs > 0)) {
    return {
      positionOf: (moment) => (count === 0 ? 0 : moment / count),
      momentAt: (position) => Math.round(Math.min(1, Math.max(0, position)) * count),
    }
  }
  return {
    positionOf: (moment) => Math.min(1, history.elapsedMs(moment) / lastMs),
    // The last moment at or before that time.
    momentAt(position) {
      let [low, high] = [0, count + 1]
      while (low < high - 1) {
        const middle = (low + high) >> 1
        if (history.elapsedMs(middle) <= position * lastMs) low = middle
        else high = middle
      }
      return low
    },
  }
}

function largestTags(history: MemoryHistory): (string | undefined)[] {
  const now = new Map<string, number>()
  const peaks = new Map<string, number>()
  const add = (tag: string, bytes: number): void => {
    const sum = (now.get(tag) ?? 0) + bytes
    now.set(tag, sum)
    peaks.set(tag, Math.max(sum, peaks.get(tag) ?? 0))
  }
  for (const { tag, bytes } of history.at(0).live.values()) add(tag, bytes)
  for (const { kind, tag, bytes } of history.events) {
    if (kind === 'allocate') add(tag, bytes)
    if (kind === 'free') add(tag, -bytes)
  }
  const sorted = [...peaks].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([tag]) => tag)
  return [...sorted.slice(0, shownTags), undefined]
}

function addTo(array: Float64Array, index: number, bytes: number): void {
  array[index] = Math.max(0, (array[index] as number) + bytes)
}
