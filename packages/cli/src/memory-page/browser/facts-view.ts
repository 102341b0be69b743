import type { MemoryStatistics } from '@spillway/device'
import type { MemoryHistory } from '../memory-history.js'
import { groupFreeSizes, type MemoryMoment } from '../memory-moment.js'
import { tagColor } from '../tag-colors.js'
import type { DrawnBlock } from './address-view.js'
import { element, make } from './elements.js'
import { showAddress, showBytes, showExactBytes, showMs, showPool, showShare, showTag } from './units.js'

const shownTags = 60
const shownProblems = 5

/** Text beside the pictures. */
export function showFigures(moment: MemoryMoment, limitBytes: number): void {
  const bytes = (name: string, label: string, value: number, loud = false): HTMLElement =>
    figure(name, label, showBytes(value), showExactBytes(value), loud)
  element('figures', HTMLElement).replaceChildren(
    bytes('reserved', `reserved, of ${showBytes(limitBytes)}`, moment.reservedBytes),
    bytes('live', 'live', moment.liveBytes),
    bytes('requested', 'requested', moment.requestedBytes),
    bytes('cached', 'cached', moment.cachedBytes),
    bytes('largest-free', 'largest free block', moment.largestFreeBytes),
    figure(
      'fragmentation',
      'fragmentation',
      showShare(moment.fragmentation),
      '1 - largest free block / all that is free in segments',
      moment.fragmentation > 0.5,
    ),
    bytes('rounding', 'lost to rounding', moment.roundingBytes),
  )
}

function figure(name: string, label: string, text: string, title: string, loud: boolean): HTMLElement {
  const value = make('dd', text)
  value.id = `figure-${name}`
  value.title = title
  return make('div', [make('dt', label), value], loud ? 'loud' : '')
}

export function showTags(
  { liveBytesByTag }: MemoryMoment,
  chosen: string | undefined,
  choose: (tag: string | undefined) => void,
): void {
  const list = element('tags', HTMLElement)
  const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute('data-tag') : undefined
  const entries = [...liveBytesByTag]
  const rows = entries.slice(0, shownTags).map(([tag, bytes]) => {
    const swatch = make('canvas')
    swatch.width = swatch.height = 14
    const context = swatch.getContext('2d') as CanvasRenderingContext2D
    context.fillStyle = tagColor(tag)
    context.fillRect(0, 0, 14, 14)
    const size = make('span', showBytes(bytes), 'bytes')
    size.title = showExactBytes(bytes)
    const button = make('button', [swatch, make('span', showTag(tag), 'name'), size])
    button.type = 'button'
    button.setAttribute('aria-pressed', String(tag === chosen))
    button.setAttribute('data-tag', tag)
    button.addEventListener('click', () => choose(tag === chosen ? undefined : tag))
    return make('li', [button])
  })
  if (entries.length > shownTags) rows.push(make('li', `and ${entries.length - shownTags} more`))
  if (entries.length === 0) rows.push(make('li', 'nothing is live'))
  list.replaceChildren(...rows)
  if (focused !== undefined && focused !== null) {
    for (const button of list.querySelectorAll('button')) {
      if (button.getAttribute('data-tag') === focused) button.focus()
    }
  }
}

export function showFree(moment: MemoryMoment): void {
  const rows = groupFreeSizes(moment).map(({ upToBytes, count, bytes }) => {
    const size = make('th', `${showBytes(upToBytes / 2)} to ${showBytes(upToBytes)}`)
    size.setAttribute('scope', 'row')
    return make('tr', [size, make('td', `${count.toLocaleString('en')} ×`), make('td', showBytes(bytes))])
  })
  const none = make('tr', [make('td', 'none')])
  element('free', HTMLTableElement).replaceChildren(make('tbody', rows.length === 0 ? [none] : rows))
}

/** What is known of a block, as pairs of name and text. */
export function blockFacts(drawn: DrawnBlock, history: MemoryHistory, moment: number): (readonly [string, string])[] {
  const { segment, block } = drawn
  const { block: live } = block
  const place = `${showAddress(block.address)}, in a segment of ${showBytes(segment.bytes)} (${showPool(segment.pool)}${
    segment.expandable ? ', expandable' : ''
  })`
  const size = `${showBytes(live?.bytes ?? block.bytes)} (${showExactBytes(live?.bytes ?? block.bytes)})`
  if (live === undefined) {
    const states = { free: 'free', idle: 'free', pending: 'free, but work of some streams may still use it', live: '' }
    const streams = block.streams === undefined ? [] : [['streams', block.streams.join(', ')] as const]
    return [['state', states[block.state]], ['bytes', size], ...streams, ['at', place]]
  }
  const born = history.events[live.bornAt]
  const age =
    born === undefined
      ? 'older than the first event here'
      : `${(moment - live.bornAt - 1).toLocaleString('en')} events, ${showMs(history.elapsedMs(moment) - history.elapsedMs(live.bornAt + 1))}; allocated by event ${(live.bornAt + 1).toLocaleString('en')}`
  return [
    ['tag', showTag(live.tag)],
    ['bytes', size],
    ['requested', showExactBytes(live.requestedBytes)],
    ['stream', live.stream === 0 ? 'none' : `${live.stream}`],
    ['age', age],
    ['at', place],
  ]
}

export function showBlock(facts: readonly (readonly [string, string])[] | undefined): void {
  const list = element('block', HTMLElement)
  const pairs = facts ?? [['', 'Point at one, click it, or go there with the arrow keys.'] as const]
  list.replaceChildren(...pairs.flatMap(([name, text]) => [make('dt', name), make('dd', text)]))
}

/** The event before the cursor. */
export function showEvent(history: MemoryHistory, moment: number): void {
  const line = element('event', HTMLElement)
  const event = history.events[moment - 1]
  if (event === undefined) {
    line.textContent =
      history.events.length === 0 ? 'The trace has no events: this is its snapshot.' : 'Before the first event here'
    return
  }
  const verbs = {
    allocate: 'allocate',
    free: 'free',
    createSegment: 'reserve',
    destroySegment: 'give back',
    outOfMemory: 'OUT OF MEMORY: no room for',
  }
  const names = [
    ...(event.tag !== '' && !event.kind.endsWith('Segment') ? [event.tag] : []),
    ...(event.pool === '' ? [] : [showPool(event.pool)]),
    ...(event.stream === 0 ? [] : [`stream ${event.stream}`]),
  ]
  const what = make('b', `${verbs[event.kind]} ${showBytes(event.bytes)}`)
  const around = names.length === 0 ? '' : ` (${names.join(', ')})`
  const number = history.trace.lostEvents > 0 ? ` (number ${event.number.toLocaleString('en')})` : ''
  const count = history.events.length.toLocaleString('en')
  const where = `Event ${moment.toLocaleString('en')} of ${count}${number}, after ${showMs(history.elapsedMs(moment))}: `
  line.replaceChildren(where, what, around)
}

export function showAbout(history: MemoryHistory): void {
  const { trace, events, problems, problemCount } = history
  const count = events.length
  element('about', HTMLElement).textContent =
    `${trace.device} · limit ${showBytes(trace.limitBytes)} · ${count.toLocaleString('en')} ` +
    `${count === 1 ? 'event' : 'events'} in ${showMs(history.elapsedMs(count))}`
  const notices = [
    ...(trace.lostEvents > 0
      ? [
          `${trace.lostEvents.toLocaleString('en')} earlier events were lost. What is shown from the first kept one on is whole.`,
        ]
      : []),
    ...problems
      .slice(0, shownProblems)
      .map(({ at, text }) => `${at < count ? `event ${events[at]?.number}` : 'the snapshot:'} ${text}`),
    ...(problemCount > shownProblems ? [`and ${problemCount - shownProblems} more contradictions`] : []),
  ]
  const list = element('notices', HTMLElement)
  list.replaceChildren(...notices.map((text) => make('li', text)))
  list.hidden = notices.length === 0
}

const columns: readonly (readonly [keyof MemoryStatistics, string, boolean])[] = [
  ['reservedBytes', 'reserved', true],
  ['peakReservedBytes', 'peak', true],
  ['liveBytes', 'live', true],
  ['peakLiveBytes', 'peak', true],
  ['requestedBytes', 'requested', true],
  ['peakRequestedBytes', 'peak', true],
  ['allocations', 'allocations', false],
  ['frees', 'frees', false],
  ['segmentsCreated', 'segments created', false],
  ['segmentsDestroyed', 'given back', false],
  ['outOfMemory', 'out of memory', false],
]
const shownPools = 100

export function showStatistics({ trace }: MemoryHistory): void {
  const { stats } = trace.snapshot
  const heading = (text: string, scope: string): HTMLElement => {
    const cell = make('th', text)
    cell.setAttribute('scope', scope)
    return cell
  }
  const row = (name: string, statistics: MemoryStatistics): HTMLElement =>
    make('tr', [
      heading(name, 'row'),
      ...columns.map(([key, , isBytes]) => {
        const cell = make('td', isBytes ? showBytes(statistics[key]) : statistics[key].toLocaleString('en'))
        if (isBytes) cell.title = showExactBytes(statistics[key])
        return cell
      }),
    ])
  const pools = Object.entries(stats.pools).slice(0, shownPools)
  element('statistics', HTMLTableElement).replaceChildren(
    make('thead', [make('tr', [heading('', 'col'), ...columns.map(([, label]) => heading(label, 'col'))])]),
    make('tbody', [row('all', stats), ...pools.map(([name, statistics]) => row(showPool(name), statistics))]),
  )
}
