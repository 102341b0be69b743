import type { MemoryHistory } from '../memory-history.js'
import { type MemoryMoment, memoryMoment } from '../memory-moment.js'
import type { TimeAxis } from '../timeline.js'
import { AddressView } from './address-view.js'
import { element } from './elements.js'
import {
  blockFacts,
  showAbout,
  showBlock,
  showEvent,
  showFigures,
  showFree,
  showStatistics,
  showTags,
} from './facts-view.js'
import { TimelineView } from './timeline-view.js'
import { showBytes } from './units.js'

/** Playing all of a trace takes so long. */
const playMs = 20_000

/** What is looked at: the trace, the cursor, the tag, the block; and the page's controls. */
export class MemoryApp {
  readonly #timeline: TimelineView
  readonly #map = new AddressView(element('map', HTMLCanvasElement))
  readonly #slider = element('cursor', HTMLInputElement)
  #history: MemoryHistory
  #cursor = 0
  #moment!: MemoryMoment
  #tag: string | undefined
  #axis: TimeAxis = 'events'
  #playing: number | undefined
  #noting: number | undefined

  constructor(history: MemoryHistory) {
    this.#history = history
    this.#timeline = new TimelineView(element('timeline', HTMLCanvasElement), history, (moment) => this.#moveTo(moment))
    this.#wire()
    this.#load(history, momentOfHash(history) ?? history.interestingMoment())
  }

  /** Another trace, of the same process a little later: the cursor stays at its event, or at the end. */
  show(history: MemoryHistory): void {
    const before = this.#history
    const number = before.events[this.#cursor - 1]?.number
    const atEnd = this.#cursor === before.events.length
    const index = history.events.findIndex((event) => event.number === number)
    this.#load(history, atEnd ? history.events.length : Math.max(0, index + 1))
  }

  #load(history: MemoryHistory, cursor: number): void {
    this.#history = history
    this.#map.still = element('still', HTMLInputElement).checked = this.#map.prepare(history)
    this.#slider.max = `${history.events.length}`
    element('shortage', HTMLButtonElement).disabled = history.outOfMemory.length === 0
    showAbout(history)
    showStatistics(history)
    this.#timeline.show(history, this.#axis)
    this.#moveTo(cursor)
  }

  #moveTo(moment: number): void {
    const history = this.#history
    this.#cursor = Math.max(0, Math.min(history.events.length, moment))
    this.#moment = memoryMoment(history, this.#cursor)
    this.#slider.value = `${this.#cursor}`
    this.#slider.setAttribute('aria-valuetext', `${this.#cursor} of ${history.events.length} events`)
    this.#timeline.cursor = this.#cursor
    this.#map.selected = undefined
    showFigures(this.#moment, history.trace.limitBytes)
    showEvent(history, this.#cursor)
    showFree(this.#moment)
    showBlock(undefined)
    this.#showTag(this.#tag)
    clearTimeout(this.#noting)
    this.#noting = setTimeout(() => this.#noteCursor(), 300)
  }

  /** A reload, and who is sent the address, see the same. Browsers take offence at who does this many times a second. */
  #noteCursor(): void {
    const event = this.#history.events[this.#cursor - 1]
    window.history.replaceState(null, '', `#event=${event?.number ?? 'none'}`)
  }

  #showTag(tag: string | undefined): void {
    if (tag !== this.#tag) this.#timeline.tag = tag
    this.#tag = tag
    this.#map.tag = tag
    showTags(this.#moment, tag, (chosen) => this.#showTag(chosen))
    this.#drawMap()
  }

  #drawMap(): void {
    this.#map.draw(this.#moment, this.#history.events[this.#cursor - 1])
    element('scale', HTMLElement).textContent = `a row is ${showBytes(this.#map.rowBytes)}`
  }

  #select(index: number | undefined): void {
    this.#map.selected = index
    const drawn = index === undefined ? undefined : this.#map.blocks[index]
    showBlock(drawn === undefined ? undefined : blockFacts(drawn, this.#history, this.#cursor))
    this.#map.redraw()
  }

  #wire(): void {
    const click = (id: string, act: () => void): void => element(id, HTMLElement).addEventListener('click', act)
    click('first', () => this.#step(-Infinity))
    click('back', () => this.#step(-1))
    click('play', () => this.#togglePlay())
    click('forward', () => this.#step(1))
    click('last', () => this.#step(Infinity))
    click('shortage', () => this.#toShortage())
    click('finer', () => this.#zoom(1 / 2))
    click('coarser', () => this.#zoom(2))
    this.#slider.addEventListener('input', () => this.#step(Number(this.#slider.value) - this.#cursor))
    const axis = element('axis', HTMLSelectElement)
    axis.addEventListener('change', () => {
      this.#axis = axis.value as TimeAxis
      this.#timeline.show(this.#history, this.#axis)
    })
    const still = element('still', HTMLInputElement)
    still.addEventListener('change', () => {
      this.#map.still = still.checked
      this.#drawMap()
    })
    document.addEventListener('keydown', (event) => this.#onKey(event))
    this.#wireMap(element('map', HTMLCanvasElement))
    const redraw = (): void => {
      this.#timeline.resize()
      this.#map.redraw()
    }
    window.addEventListener('resize', redraw)
    window.addEventListener('hashchange', () =>
      this.#step((momentOfHash(this.#history) ?? this.#cursor) - this.#cursor),
    )
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw)
  }

  #wireMap(canvas: HTMLCanvasElement): void {
    const tip = element('tip', HTMLElement)
    canvas.addEventListener('pointermove', ({ offsetX, offsetY, clientX, clientY }) => {
      const found = this.#map.find(offsetX, offsetY)
      tip.hidden = found === undefined
      if (found === undefined) return
      const facts = blockFacts(this.#map.blocks[found]!, this.#history, this.#cursor)
      tip.textContent = facts.map(([name, text]) => `${name}: ${text}`).join('\n')
      tip.style.left = `${Math.min(clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`
      tip.style.top = `${Math.min(clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`
    })
    canvas.addEventListener('pointerleave', () => {
      tip.hidden = true
    })
    canvas.addEventListener('click', ({ offsetX, offsetY }) => this.#select(this.#map.find(offsetX, offsetY)))
    canvas.addEventListener('keydown', (event) => {
      if (!event.key.startsWith('Arrow')) return
      event.preventDefault()
      event.stopPropagation()
      this.#select(this.#map.neighbour(this.#map.selected, event.key))
    })
  }

  #onKey(event: KeyboardEvent): void {
    const on = event.target
    if (event.ctrlKey || event.metaKey || event.altKey || on instanceof HTMLSelectElement) return
    const byItself = on instanceof HTMLButtonElement || on instanceof HTMLInputElement
    if (byItself && (event.key === ' ' || event.key === 'Enter')) return
    const step = event.shiftKey ? 100 : 1
    const acts: Readonly<Record<string, () => void>> = {
      ArrowLeft: () => this.#step(-step),
      ArrowRight: () => this.#step(step),
      Home: () => this.#step(-Infinity),
      End: () => this.#step(Infinity),
      ' ': () => this.#togglePlay(),
      o: () => this.#toShortage(),
      '+': () => this.#zoom(1 / 2),
      '-': () => this.#zoom(2),
    }
    if (!Object.hasOwn(acts, event.key)) return
    event.preventDefault()
    acts[event.key]?.()
  }

  #step(by: number): void {
    this.#stop()
    this.#moveTo(this.#cursor + by)
  }

  #toShortage(): void {
    const shortages = this.#history.outOfMemory
    const next = shortages.find((index) => index + 1 > this.#cursor) ?? shortages[0]
    if (next !== undefined) this.#step(next + 1 - this.#cursor)
  }

  #zoom(factor: number): void {
    this.#map.zoom(factor)
    this.#drawMap()
  }

  #togglePlay(): void {
    if (this.#playing !== undefined) {
      this.#stop()
      return
    }
    const count = this.#history.events.length
    const from = this.#cursor === count ? 0 : this.#cursor
    const start = performance.now()
    this.#showPlaying('pause', 'off')
    const frame = (): void => {
      this.#moveTo(Math.min(count, from + Math.floor(((performance.now() - start) * count) / playMs)))
      if (this.#cursor < count) this.#playing = requestAnimationFrame(frame)
      else this.#stop()
    }
    this.#playing = requestAnimationFrame(frame)
  }

  #stop(): void {
    if (this.#playing !== undefined) cancelAnimationFrame(this.#playing)
    this.#playing = undefined
    this.#showPlaying('▶ play', 'polite')
  }

  /** While it plays, reading every event aloud would not end. */
  #showPlaying(label: string, live: 'off' | 'polite'): void {
    element('play', HTMLElement).textContent = label
    element('event', HTMLElement).ariaLive = live
  }
}

/** As a move left it there. */
function momentOfHash({ events }: MemoryHistory): number | undefined {
  const number = /^#event=(\d+|none)$/.exec(window.location.hash)?.[1]
  if (number === 'none') return 0
  const index = events.findIndex((event) => event.number === Number(number ?? Number.NaN))
  return index < 0 ? undefined : index + 1
}
