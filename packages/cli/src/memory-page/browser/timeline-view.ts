import type { MemoryHistory } from '../memory-history.js'
import { memoryMoment } from '../memory-moment.js'
import { tagColor } from '../tag-colors.js'
import { type MomentScale, makeTimeline, momentScale, type TimeAxis, type Timeline } from '../timeline.js'
import { contextOf, themeColor } from './elements.js'
import { showBytes, showMs } from './units.js'

const leftMargin = 72
const rightMargin = 10
const topMargin = 16
const plotHeight = 200
const shareTop = topMargin + plotHeight + 12
const shareHeight = 36
const height = shareTop + shareHeight + 22

/** Reserved, live by tag, requested and fragmentation over all moments. */
export class TimelineView {
  readonly #canvas: HTMLCanvasElement
  /** All but the cursor, which moves. */
  readonly #still = document.createElement('canvas')
  #history: MemoryHistory
  #axis: TimeAxis = 'events'
  #timeline!: Timeline
  #scale!: MomentScale
  /** Fragmentation, by column; found a few at a time. */
  #shares: (number | undefined)[] = []
  #searching = 0
  #cursor = 0
  #tag: string | undefined

  constructor(canvas: HTMLCanvasElement, history: MemoryHistory, move: (moment: number) => void) {
    this.#canvas = canvas
    this.#history = history
    const follow = (event: PointerEvent): void => {
      const { left, width } = canvas.getBoundingClientRect()
      move(this.#scale.momentAt((event.clientX - left - leftMargin) / (width - leftMargin - rightMargin)))
    }
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId)
      follow(event)
    })
    canvas.addEventListener('pointermove', (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) follow(event)
    })
  }

  show(history: MemoryHistory, axis: TimeAxis): void {
    this.#history = history
    this.#axis = axis
    this.resize()
  }

  resize(): void {
    const columns = Math.max(50, Math.round(this.#width - leftMargin - rightMargin))
    this.#timeline = makeTimeline(this.#history, columns, this.#axis)
    this.#scale = momentScale(this.#history, this.#axis)
    this.#shares = Array.from({ length: columns })
    this.#findShares(++this.#searching)
    this.redraw()
  }

  redraw(): void {
    this.#drawStill()
    this.#drawCursor()
  }

  set tag(tag: string | undefined) {
    this.#tag = tag
    this.redraw()
  }

  set cursor(moment: number) {
    this.#cursor = moment
    this.#drawCursor()
  }

  get #width(): number {
    return Math.max(300, this.#canvas.getBoundingClientRect().width)
  }

  /** From 0 to 1 to pixels. */
  #x(position: number): number {
    return leftMargin + position * (this.#width - leftMargin - rightMargin)
  }

  // A moment with thousands of blocks takes milliseconds: every eighth column first, then those between them.
  #findShares(search: number, next = 0): void {
    if (search !== this.#searching) return
    const columns = this.#timeline.columns
    const start = performance.now()
    let i = next
    for (; i < columns.length && performance.now() - start < 12; i++) {
      const at = Math.floor(i / Math.ceil(columns.length / 8)) + 8 * (i % Math.ceil(columns.length / 8))
      const moment = columns[at]?.moment
      if (moment !== undefined) this.#shares[at] = memoryMoment(this.#history, moment).fragmentation
    }
    if (i === columns.length || Math.floor((8 * i) / columns.length) > Math.floor((8 * next) / columns.length))
      this.redraw()
    if (i < columns.length) setTimeout(() => this.#findShares(search, i), 30)
  }

  #y(bytes: number): number {
    return topMargin + plotHeight * (1 - bytes / this.#mostBytes)
  }

  get #limitIsNear(): boolean {
    const { limitBytes } = this.#history.trace
    return limitBytes > 0 && limitBytes <= 1.6 * Math.max(1, this.#timeline.mostBytes)
  }

  get #mostBytes(): number {
    const most = Math.max(1, this.#timeline.mostBytes)
    return 1.04 * (this.#limitIsNear ? Math.max(most, this.#history.trace.limitBytes) : most)
  }

  #drawStill(): void {
    const width = this.#width
    const context = contextOf(this.#still, width, height)
    context.font = '12px system-ui, "DejaVu Sans", sans-serif'
    this.#drawAxes(context, width)
    this.#drawAreas(context, width)
    this.#drawMarks(context, width)
  }

  #drawAxes(context: CanvasRenderingContext2D, width: number): void {
    context.strokeStyle = themeColor('line')
    context.fillStyle = themeColor('quiet')
    context.lineWidth = 1
    context.textAlign = 'right'
    context.textBaseline = 'middle'
    for (const bytes of ticks(this.#mostBytes)) {
      const y = Math.round(this.#y(bytes)) + 0.5
      line(context, leftMargin, y, width - rightMargin, y)
      context.fillText(bytes === 0 ? '0' : showBytes(bytes), leftMargin - 8, y)
    }
    context.fillText('100 %', leftMargin - 8, shareTop + 5)
    line(context, leftMargin, shareTop + shareHeight + 0.5, width - rightMargin, shareTop + shareHeight + 0.5)
    context.textBaseline = 'top'
    const count = this.#history.events.length
    const lastMs = this.#history.elapsedMs(count)
    const labels = Math.max(1, Math.min(8, Math.floor(width / 120)))
    for (let i = 0; i <= labels; i++) {
      const share = i / labels
      context.textAlign = i === 0 ? 'left' : i === labels ? 'right' : 'center'
      const text = this.#axis === 'time' ? showMs(share * lastMs) : Math.round(share * count).toLocaleString('en')
      context.fillText(text, this.#x(share), shareTop + shareHeight + 6)
    }
  }

  #drawAreas(context: CanvasRenderingContext2D, width: number): void {
    const { columns, tags } = this.#timeline
    const wide = (width - leftMargin - rightMargin) / columns.length
    const bottom = this.#y(0)
    for (const [i, column] of columns.entries()) {
      const x = leftMargin + i * wide
      context.fillStyle = themeColorOnce('free')
      context.fillRect(x, this.#y(column.reservedBytes), wide + 0.5, bottom - this.#y(column.reservedBytes))
      let below = 0
      for (const [k, tag] of tags.entries()) {
        const bytes = column.bytesByTag[k] as number
        if (bytes === 0) continue
        context.globalAlpha = this.#tag === undefined || this.#tag === tag ? 1 : 0.25
        context.fillStyle = tag === undefined ? themeColorOnce('hatch') : tagColor(tag)
        context.fillRect(x, this.#y(below + bytes), wide + 0.5, this.#y(below) - this.#y(below + bytes))
        below += bytes
      }
      context.globalAlpha = 1
    }
    const trace = (bytesOf: (column: Timeline['columns'][number]) => number): void => {
      context.beginPath()
      for (const [i, column] of columns.entries()) {
        const y = this.#y(bytesOf(column))
        context.lineTo(leftMargin + i * wide, y)
        context.lineTo(leftMargin + (i + 1) * wide, y)
      }
      context.stroke()
    }
    context.lineWidth = 1.5
    context.strokeStyle = themeColor('reserved')
    trace(({ reservedBytes }) => reservedBytes)
    context.setLineDash([1.5, 3])
    context.strokeStyle = themeColor('requested')
    trace(({ requestedBytes }) => requestedBytes)
    context.setLineDash([])
    context.fillStyle = themeColor('fragmented')
    let known = 0
    for (const [i, found] of this.#shares.entries()) {
      const share = found ?? known
      known = share
      const high = share * shareHeight
      context.globalAlpha = 0.35
      context.fillRect(leftMargin + i * wide, shareTop + shareHeight - high, wide + 0.5, high)
      context.globalAlpha = 1
      context.fillRect(leftMargin + i * wide, shareTop + shareHeight - high - 1, wide + 0.5, 1.5)
    }
  }

  #drawMarks(context: CanvasRenderingContext2D, width: number): void {
    const { limitBytes } = this.#history.trace
    context.fillStyle = themeColor('limit')
    context.strokeStyle = themeColor('limit')
    context.textAlign = 'left'
    context.textBaseline = 'bottom'
    if (this.#limitIsNear) {
      const y = Math.round(this.#y(limitBytes)) + 0.5
      context.setLineDash([7, 4])
      line(context, leftMargin, y, width - rightMargin, y)
      context.setLineDash([])
      context.fillText(`limit ${showBytes(limitBytes)}`, leftMargin + 6, y - 2)
    } else context.fillText(`limit ${showBytes(limitBytes)}, above ↑`, leftMargin + 6, topMargin - 1)
    let lastX = -10
    for (const index of this.#history.outOfMemory) {
      const x = this.#x(this.#scale.positionOf(index + 1))
      if (x - lastX < 1) continue
      lastX = x
      context.globalAlpha = 0.6
      line(context, x, topMargin, x, shareTop + shareHeight)
      context.globalAlpha = 1
      context.beginPath()
      context.moveTo(x - 6, topMargin - 12)
      context.lineTo(x + 6, topMargin - 12)
      context.lineTo(x, topMargin - 1)
      context.fill()
    }
  }

  #drawCursor(): void {
    const width = this.#width
    const context = contextOf(this.#canvas, width, height)
    context.drawImage(this.#still, 0, 0, width, height)
    const x = this.#x(this.#scale.positionOf(this.#cursor))
    context.strokeStyle = themeColor('accent')
    context.fillStyle = themeColor('accent')
    context.lineWidth = 2
    line(context, x, topMargin - 4, x, shareTop + shareHeight)
    context.beginPath()
    context.arc(x, this.#y(this.#history.reservedBytes[this.#cursor] ?? 0), 4, 0, 2 * Math.PI)
    context.fill()
  }
}

// Asking for a computed style in every column takes longer than drawing.
const colors = new Map<string, string>()
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => colors.clear())
function themeColorOnce(name: string): string {
  const known = colors.get(name) ?? themeColor(name)
  colors.set(name, known)
  return known
}

/** Round numbers of bytes from 0, four to eight of them. */
function ticks(mostBytes: number): number[] {
  const step = 2 ** Math.ceil(Math.log2(mostBytes / 8))
  return Array.from({ length: Math.floor(mostBytes / step) + 1 }, (_, i) => i * step)
}

function line(context: CanvasRenderingContext2D, x: number, y: number, toX: number, toY: number): void {
  context.beginPath()
  context.moveTo(x, y)
  context.lineTo(toX, toY)
  context.stroke()
}
