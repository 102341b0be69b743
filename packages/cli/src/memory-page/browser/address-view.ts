import type { MemoryEvent } from '@spillway/device'
import { type AddressLayout, layoutAddresses, rowBytesFor, uniteRanges } from '../address-layout.js'
import type { MemoryHistory } from '../memory-history.js'
import type { MemoryMoment, MomentBlock, MomentSegment } from '../memory-moment.js'
import { tagColor } from '../tag-colors.js'
import type { ReservedRange } from '../undoable-state.js'
import { contextOf, themeColor } from './elements.js'
import { showBytes, showPool } from './units.js'

const rowHeight = 22
const rowGap = 5
const headingHeight = 24
const gapPixels = 6
const usualRows = 22
const mostHeight = 12_000

/** A block, or free stretch, as it is drawn: one for each row it lies in. */
export interface DrawnBlock {
  readonly segment: MomentSegment
  readonly block: MomentBlock
  readonly x: number
  readonly y: number
  readonly width: number
}

interface Group {
  readonly pool: string
  readonly ranges: readonly ReservedRange[]
}

/** The segments at the cursor, drawn to scale in rows, by pool and address. */
export class AddressView {
  readonly #canvas: HTMLCanvasElement
  #drawn: DrawnBlock[] = []
  #moment: MemoryMoment | undefined
  #event: MemoryEvent | undefined
  #union: readonly ReservedRange[] = []
  #rowBytes = 1
  #usualRowBytes = 1
  /** Room for all that is ever reserved, so that nothing moves. */
  still = false
  tag: string | undefined
  selected: number | undefined

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas
  }

  /** Returns whether so little more than the peak is ever reserved that it can all have its place. */
  prepare(history: MemoryHistory): boolean {
    this.#union = uniteRanges(history.everReserved)
    const peakMoment = history.peakMoment()
    const united = this.#union.reduce((sum, { bytes }) => sum + bytes, 0)
    const fits = united <= 1.25 * (history.reservedBytes[peakMoment] as number) && this.#union.length <= 2000
    const usual = this.#usualRowBytes
    this.#usualRowBytes = rowBytesFor(fits ? this.#union : history.at(peakMoment).segments, usualRows)
    if (usual !== this.#usualRowBytes) this.#rowBytes = this.#usualRowBytes
    return fits
  }

  zoom(factor: number): void {
    const [least, most] = [this.#usualRowBytes / 64, this.#usualRowBytes * 16]
    this.#rowBytes = Math.min(most, Math.max(least, 4096, this.#rowBytes * factor))
  }

  get rowBytes(): number {
    return this.#rowBytes
  }

  get blocks(): readonly DrawnBlock[] {
    return this.#drawn
  }

  draw(moment: MemoryMoment, event: MemoryEvent | undefined): void {
    this.#moment = moment
    this.#event = event
    this.redraw()
  }

  redraw(): void {
    if (this.#moment === undefined) return
    const width = Math.max(200, this.#canvas.parentElement?.clientWidth ?? 0)
    const groups = this.#groups(this.#moment)
    const gapBytes = (gapPixels / width) * this.#rowBytes
    const layouts = groups.map(({ ranges }) => layoutAddresses(ranges, this.#rowBytes, gapBytes))
    const heights = layouts.map(({ rows }) => headingHeight + rows * (rowHeight + rowGap) + 6)
    const height = Math.min(
      mostHeight,
      Math.max(
        60,
        heights.reduce((sum, high) => sum + high, 0),
      ),
    )
    const context = contextOf(this.#canvas, width, height)
    context.font = '12px system-ui, "DejaVu Sans", sans-serif'
    context.textBaseline = 'middle'
    this.#drawn = []
    if (groups.length === 0) {
      context.fillStyle = themeColor('quiet')
      context.fillText('Nothing is reserved here.', 0, 20)
    }
    const paint = new Paint(context)
    let y = 0
    for (const [i, group] of groups.entries()) {
      if (y > height) break
      this.#drawGroup(paint, group, layouts[i] as AddressLayout, y, width)
      y += heights[i] as number
    }
    this.#drawTouched(paint)
    const selected = this.selected === undefined ? undefined : this.#drawn[this.selected]
    if (selected !== undefined) paint.outline(selected, themeColor('accent'), 2.5)
  }

  /** Its index in `blocks`, at a place on the canvas. */
  find(x: number, y: number): number | undefined {
    const index = this.#drawn.findIndex((one) => {
      return y >= one.y && y < one.y + rowHeight && x >= one.x && x < one.x + Math.max(1, one.width)
    })
    return index < 0 ? undefined : index
  }

  /** The block above or below, else the next or previous one. */
  neighbour(from: number | undefined, key: string): number | undefined {
    const here = from === undefined ? undefined : this.#drawn[from]
    if (here === undefined || from === undefined) return this.#drawn.length > 0 ? 0 : undefined
    if (key === 'ArrowLeft') return Math.max(0, from - 1)
    if (key === 'ArrowRight') return Math.min(this.#drawn.length - 1, from + 1)
    const up = key === 'ArrowUp'
    const row = this.#drawn.reduce(
      (best, { y }) => {
        return up ? (y < here.y && y > best ? y : best) : y > here.y && y < best ? y : best
      },
      up ? -1 : mostHeight,
    )
    const middle = here.x + here.width / 2
    const found = this.#drawn.findLastIndex(({ x, y }) => y === row && x <= middle)
    return found < 0 ? from : found
  }

  #groups({ segments }: MemoryMoment): Group[] {
    const shown = this.still ? this.#union : segments
    const pools = [...new Set(shown.map(({ pool }) => pool))].sort()
    return pools.map((pool) => ({ pool, ranges: shown.filter((range) => range.pool === pool) }))
  }

  #drawGroup(paint: Paint, { pool }: Group, layout: AddressLayout, top: number, width: number): void {
    const segments = (this.#moment as MemoryMoment).segments.filter((segment) => segment.pool === pool)
    const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0)
    paint.text(
      `${showPool(pool)}: ${showBytes(bytes)} in ${segments.length} ${segments.length === 1 ? 'segment' : 'segments'}`,
      0,
      top + headingHeight / 2,
      themeColor('quiet'),
    )
    const scale = width / layout.rowBytes
    let at = 0
    for (const part of layout.parts) {
      const y = top + headingHeight + part.row * (rowHeight + rowGap)
      if (y > mostHeight) break
      if (this.still) paint.room(part.x * scale, y, part.bytes * scale)
      const end = part.address + part.bytes
      // Both are by address: what ends before this part is not looked at again.
      while (at > 0 && endOf(segments[at - 1] as MomentSegment) > part.address) at--
      for (; at < segments.length && (segments[at] as MomentSegment).address < end; at++) {
        const segment = segments[at] as MomentSegment
        if (endOf(segment) <= part.address) continue
        const toX = (address: number): number => (part.x + address - part.address) * scale
        for (const block of segment.blocks) {
          const [from, to] = [Math.max(block.address, part.address), Math.min(block.address + block.bytes, end)]
          if (to <= from) continue
          const drawn = { segment, block, x: toX(from), y, width: toX(to) - toX(from) }
          this.#drawn.push(drawn)
          const dim = this.tag !== undefined && block.block !== undefined && block.block.tag !== this.tag
          paint.block(drawn, dim, from === block.address)
        }
        const [from, to] = [Math.max(segment.address, part.address), Math.min(endOf(segment), end)]
        paint.segment(toX(from), y, toX(to) - toX(from), segment.expandable && to === endOf(segment))
        if (endOf(segment) > end) break
      }
    }
  }

  /** What the last event was about. */
  #drawTouched(paint: Paint): void {
    const event = this.#event
    if (event === undefined || event.bytes === 0 || event.kind === 'outOfMemory') return
    for (const drawn of this.#drawn) {
      const { address, bytes } = drawn.block
      const from = Math.max(address, event.address)
      const to = Math.min(address + bytes, event.address + event.bytes)
      if (to <= from || drawn.segment.pool !== event.pool) continue
      // A block that lies in several rows is outlined in each.
      const whole = from === address && to === address + bytes
      const scale = drawn.width / bytes
      const part = whole ? drawn : { ...drawn, x: drawn.x + (from - address) * scale, width: (to - from) * scale }
      paint.outline(part, themeColor('text'), 2)
    }
  }
}

function endOf({ address, bytes }: ReservedRange): number {
  return address + bytes
}

/** How one picture's parts look. Colours are read once. */
class Paint {
  readonly #context: CanvasRenderingContext2D
  readonly #patterns: Readonly<Record<'free' | 'idle' | 'pending', CanvasPattern>>
  readonly #colors = {
    accent: themeColor('accent'),
    empty: themeColor('empty'),
    free: themeColor('free'),
    reserved: themeColor('reserved'),
    text: themeColor('text'),
  }

  constructor(context: CanvasRenderingContext2D) {
    this.#context = context
    const idle = hatched(context, false)
    this.#patterns = { free: idle, idle, pending: hatched(context, true) }
  }

  text(text: string, x: number, y: number, color: string): void {
    this.#context.fillStyle = color
    this.#context.fillText(text, x, y)
  }

  /** Where something is reserved at another moment. */
  room(x: number, y: number, width: number): void {
    this.#context.fillStyle = this.#colors.empty
    this.#context.fillRect(x, y, Math.max(1, width), rowHeight)
  }

  block({ block, x, y, width }: DrawnBlock, dim: boolean, begins: boolean): void {
    const context = this.#context
    context.globalAlpha = dim ? 0.25 : 1
    context.fillStyle = block.block === undefined ? this.#patterns[block.state as 'free'] : tagColor(block.block.tag)
    context.fillRect(x, y, Math.max(1, width), rowHeight)
    if (block.block !== undefined && width > 2) {
      context.fillStyle = '#0005'
      context.fillRect(x + width - 1, y, 1, rowHeight)
    }
    if (begins && width > 40) this.#name(block, x, y, width)
    context.globalAlpha = 1
  }

  /** Tag and size, or the size alone, or nothing: what there is room for. */
  #name({ block, bytes }: MomentBlock, x: number, y: number, width: number): void {
    const context = this.#context
    const size = showBytes(block?.bytes ?? bytes)
    const texts = [...(block === undefined || block.tag === '' ? [] : [`${block.tag} ${size}`]), size]
    const text = texts.find((one) => one.length < width && context.measureText(one).width < width - 11)
    if (text === undefined) return
    if (block === undefined) {
      // On hatching, text needs a ground.
      context.fillStyle = this.#colors.free
      context.fillRect(x + 3, y + 3, context.measureText(text).width + 6, rowHeight - 6)
    }
    this.text(text, x + 6, y + rowHeight / 2 + 0.5, block === undefined ? this.#colors.text : '#10151b')
  }

  segment(x: number, y: number, width: number, grows: boolean): void {
    const context = this.#context
    context.strokeStyle = this.#colors.reserved
    context.lineWidth = 1
    context.strokeRect(x + 0.5, y + 0.5, Math.max(1, width - 1), rowHeight - 1)
    if (!grows) return
    context.fillStyle = this.#colors.accent
    context.fillRect(x + width - 1, y, 2, rowHeight)
    context.fillRect(x + width + 2, y, 2, rowHeight)
  }

  outline({ x, y, width }: DrawnBlock, color: string, thick: number): void {
    this.#context.strokeStyle = color
    this.#context.lineWidth = thick
    this.#context.strokeRect(x, y, Math.max(2, width), rowHeight)
  }
}

function hatched(context: CanvasRenderingContext2D, crossed: boolean): CanvasPattern {
  const tile = document.createElement('canvas')
  tile.width = tile.height = 8
  const on = tile.getContext('2d') as CanvasRenderingContext2D
  on.fillStyle = themeColor('free')
  on.fillRect(0, 0, 8, 8)
  on.strokeStyle = themeColor(crossed ? 'reserved' : 'hatch')
  on.lineWidth = 1
  on.beginPath()
  for (const offset of [-8, 0, 8]) {
    on.moveTo(offset, 8)
    on.lineTo(offset + 8, 0)
    if (crossed) {
      on.moveTo(offset, 0)
      on.lineTo(offset + 8, 8)
    }
  }
  on.stroke()
  return context.createPattern(tile, 'repeat') as CanvasPattern
}
