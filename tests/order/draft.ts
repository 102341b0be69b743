import type { HostStorage, StreamPriority } from '@spillway/core'
import type { TouchMode } from '../abi/abi-probe.js'
import { type BufferSpec, granuleBytes, type Program, type Span, type Step } from './program.js'
import type { Random } from './random.js'

const priorities: readonly StreamPriority[] = ['low', 'normal', 'high']
const storages: readonly HostStorage[] = ['pinned', 'mapped', 'pinned', 'mapped', 'pageable']
const modes: readonly TouchMode[] = ['read', 'write', 'read-write']

interface Capture {
  readonly origin: number
  readonly joined: Set<number>
  /** How many more steps are recorded. */
  left: number
}

/** A program without regard to order: calls that a device takes, mostly, with few waits. */
export class Draft {
  readonly #random: Random
  readonly #buffers: BufferSpec[] = []
  readonly #ranges: number[] = []
  readonly #physicals: number[] = []
  readonly #steps: Step[] = []
  #streams: number[]
  #nextStream: number
  /** Buffers, events and graphs that are not disposed. */
  #live: number[] = []
  #events: number[] = []
  #graphs: number[] = []
  #nextEvent = 0
  #nextGraph = 0
  #nextPromise = 0
  #unawaited: number[] = []
  readonly #mapped = new Map<number, { offset: number; physical: number }[]>()
  #captures: Capture[] = []
  /** A quarter of the programs is about what happens inside of graphs. */
  readonly #captureLengths: readonly [number, number]

  constructor(random: Random) {
    this.#random = random
    this.#streams = Array.from({ length: random.from(2, 4) }, (_, i) => i)
    this.#nextStream = this.#streams.length
    this.#captureLengths = random.chance(25) ? [10, 20] : [3, 9]
  }

  static make(random: Random): Program {
    return new Draft(random).#make()
  }

  #make(): Program {
    const random = this.#random
    for (let i = random.from(1, 3); i > 0; i--) {
      this.#addBuffer({ kind: 'host', bytes: random.from(4, 16) * 4, storage: random.pick(storages) })
    }
    if (random.chance(45)) this.#reserve()
    for (let i = random.from(1, 3); i > 0; i--) this.#addBuffer({ kind: 'device', bytes: random.from(4, 24) * 4 })
    for (let left = random.from(8, 38); left > 0; left--) this.#step()
    for (const capture of this.#captures) this.#endCapture(capture)
    for (const promise of this.#unawaited) this.#steps.push({ do: 'await', promise })
    return {
      buffers: this.#buffers,
      ranges: this.#ranges,
      physicals: this.#physicals,
      priorities: Array.from({ length: 16 }, () => random.pick(priorities)),
      steps: this.#steps,
    }
  }

  #addBuffer(spec: BufferSpec): void {
    const buffer = this.#buffers.push(spec) - 1
    this.#live.push(buffer)
    const { bytes } = spec
    if (spec.kind === 'host' || !this.#random.chance(85)) return
    // Kernels may only read what was written.
    const stream = this.#freeStream()
    if (stream !== undefined) {
      this.#steps.push({ do: 'fill', stream, to: { buffer, offset: 0, bytes }, value: this.#random.below(256) })
    }
  }

  /** Address ranges, memory mapped there (some of it twice), and buffers whose addresses and memory overlap. */
  #reserve(): void {
    const random = this.#random
    for (let i = random.from(1, 3); i > 0; i--) this.#physicals.push(random.from(1, 2))
    for (let i = random.from(1, 2); i > 0; i--) {
      const granules = random.from(1, 3)
      const range = this.#ranges.push(granules) - 1
      this.#mapped.set(range, [])
      for (let at = 0; at < granules; ) at += this.#map(range, at) ?? 1
      for (let j = random.from(1, 3); j > 0; j--) {
        const edge = random.below(granules + 1) * granuleBytes
        const offset = Math.min(Math.max(0, edge - random.from(0, 12) * 4), granules * granuleBytes - 64)
        this.#addBuffer({ kind: 'range', range, offset, bytes: random.from(4, 16) * 4 })
      }
    }
  }

  /** How many granules were mapped there. */
  #map(range: number, at: number): number | undefined {
    const taken = this.#mapped.get(range)!
    const next = Math.min(this.#ranges[range]!, ...taken.map(({ offset }) => offset).filter((offset) => offset >= at))
    const fitting = this.#physicals.flatMap((granules, physical) => (granules <= next - at ? [physical] : []))
    if (fitting.length === 0) return undefined
    const physical = this.#random.pick(fitting)
    taken.push({ offset: at, physical })
    this.#steps.push({ do: 'map', range, offset: at * granuleBytes, physical })
    return this.#physicals[physical]
  }

  #freeStream(): number | undefined {
    const free = this.#streams.filter((stream) => !this.#captures.some(({ joined }) => joined.has(stream)))
    return free.length > 0 ? this.#random.pick(free) : undefined
  }

  #step(): void {
    const random = this.#random
    const capture = this.#captures.length > 0 && random.chance(75) ? random.pick(this.#captures) : undefined
    if (capture) {
      if (--capture.left < 0) this.#endCapture(capture)
      else this.#captured(random.pick([...capture.joined]), capture)
      return
    }
    const stream = this.#freeStream()
    if (stream === undefined) return
    if (this.#captureLengths[0] >= 10 && this.#captures.length + this.#graphs.length === 0) this.#graphStep(stream)
    const kind = random.below(100)
    if (kind < 43) this.#work(stream, false)
    else if (kind < 55) this.#hostAccess()
    else if (kind < 61) this.#steps.push({ do: 'record', stream, event: this.#event(40) })
    else if (kind < 66) this.#steps.push({ do: 'wait', stream, event: this.#event(10) })
    else if (kind < 80) this.#graphStep(stream)
    else if (kind < 83) this.#synchronize(stream)
    else if (kind < 90) this.#remap()
    else this.#dispose()
  }

  #event(percentNew: number): number {
    if (this.#events.length > 0 && !this.#random.chance(percentNew)) return this.#random.pick(this.#events)
    this.#events.push(this.#nextEvent)
    return this.#nextEvent++
  }

  #span(kinds: (spec: BufferSpec) => boolean): Span | undefined {
    const random = this.#random
    const buffers = this.#live.filter((buffer) => kinds(this.#buffers[buffer]!))
    if (buffers.length === 0) return undefined
    const buffer = random.pick(buffers)
    const size = this.#buffers[buffer]!.bytes
    if (random.chance(30)) return { buffer, offset: 0, bytes: size }
    const offset = random.below(size / 4) * 4
    return { buffer, offset, bytes: random.from(1, size - offset) }
  }

  #work(stream: number, captured: boolean): void {
    const random = this.#random
    const usable = (spec: BufferSpec) => !(captured && spec.kind === 'host' && spec.storage === 'pageable')
    const kind = random.below(10)
    const to = this.#span(usable)!
    if (kind < 3) {
      if (to) this.#steps.push({ do: 'fill', stream, to, value: random.below(256) })
    } else if (kind < 7) {
      const from = this.#span(usable)
      if (!to || !from) return
      const bytes = Math.min(to.bytes, from.bytes)
      this.#steps.push({ do: 'copy', stream, to: { ...to, bytes }, from: { ...from, bytes } })
    } else {
      const spans = Array.from({ length: random.from(1, 3) }, () =>
        this.#span((spec) => spec.kind !== 'host' || spec.storage === 'mapped'),
      ).flatMap((span) => (span ? [{ ...span, mode: random.pick(modes) }] : []))
      if (spans.length > 0) this.#steps.push({ do: 'touch', stream, spans, seed: random.below(1000) })
    }
  }

  #hostAccess(): void {
    const span = this.#span((spec) => spec.kind === 'host')
    if (!span) return
    if (this.#random.chance(50)) this.#steps.push({ do: 'read', from: span })
    else this.#steps.push({ do: 'write', to: span, value: this.#random.below(256) })
  }

  #graphStep(stream: number): void {
    if (this.#graphs.length > 0 && this.#random.chance(60)) {
      this.#steps.push({ do: 'launch', stream, graph: this.#random.pick(this.#graphs) })
    } else if (this.#captures.length < 2) {
      this.#steps.push({ do: 'beginCapture', stream })
      this.#captures.push({
        origin: stream,
        joined: new Set([stream]),
        left: this.#random.from(...this.#captureLengths),
      })
    }
  }

  #captured(stream: number, { joined }: Capture): void {
    const kind = this.#random.below(10)
    const other = this.#freeStream()
    if (kind < (joined.size < 2 ? 4 : 2) && other !== undefined) {
      const event = this.#event(70)
      this.#steps.push({ do: 'record', stream, event }, { do: 'wait', stream: other, event })
      joined.add(other)
    } else if (kind === 2) {
      const event = this.#event(70)
      this.#steps.push({ do: 'record', stream, event }, { do: 'wait', stream: this.#random.pick([...joined]), event })
    } else if (kind === 3) {
      const use = this.#random.pick(['wait', 'record'] as const)
      this.#steps.push({ do: use, stream, event: this.#event(50), external: true })
    } else {
      this.#work(stream, true)
    }
  }

  #endCapture(capture: Capture): void {
    const random = this.#random
    const { origin, joined } = capture
    // Each side branch joins the one before it or the origin.
    const open = [origin, ...random.shuffled([...joined].filter((stream) => stream !== origin))]
    for (let stream = open.pop()!; stream !== origin; stream = open.pop()!) {
      const event = this.#event(70)
      this.#steps.push({ do: 'record', stream, event }, { do: 'wait', stream: random.pick(open), event })
    }
    const graph = this.#nextGraph++
    this.#steps.push({ do: 'endCapture', stream: origin, graph })
    this.#captures = this.#captures.filter((other) => other !== capture)
    this.#graphs.push(graph)
    if (random.chance(80)) this.#steps.push({ do: 'launch', stream: random.pick(this.#streams), graph })
  }

  #synchronize(stream: number): void {
    const promise = this.#nextPromise++
    this.#steps.push({ do: 'synchronize', stream, promise })
    if (this.#random.chance(60)) this.#steps.push({ do: 'await', promise })
    else this.#unawaited.push(promise)
    if (this.#unawaited.length > 1) this.#steps.push({ do: 'await', promise: this.#unawaited.shift()! })
  }

  #remap(): void {
    if (this.#ranges.length === 0) return
    const random = this.#random
    const range = random.below(this.#ranges.length)
    const mapped = this.#mapped.get(range)!
    if (mapped.length === 0) return
    const index = random.below(mapped.length)
    const { offset, physical } = mapped[index]!
    mapped.splice(index, 1)
    const bytes = this.#physicals[physical]! * granuleBytes
    this.#steps.push({ do: 'unmap', range, offset: offset * granuleBytes, bytes })
    if (random.chance(85)) this.#map(range, offset)
  }

  #dispose(): void {
    const random = this.#random
    const drop = (list: number[]) => list.splice(random.below(list.length), 1)[0]!
    const kind = random.below(10)
    if (kind < 5 && this.#live.length > 2) {
      const id = drop(this.#live)
      this.#steps.push({ do: 'dispose', kind: 'buffer', id })
      const spec = this.#buffers[id]!
      // New memory of the same size is what a freed block is likeliest to be handed out as.
      if (spec.kind === 'device') this.#addBuffer({ ...spec })
    } else if (kind < 8) {
      const stream = this.#freeStream()
      if (stream === undefined) return
      this.#steps.push({ do: 'dispose', kind: 'stream', id: stream })
      const next = this.#nextStream++
      this.#streams = this.#streams.map((other) => (other === stream ? next : other))
      // Time for the old stream to end, so that the new one may take what it leaves.
      if (random.chance(40)) {
        this.#steps.push({ do: 'pause' })
        this.#work(next, false)
      }
    } else if (kind === 8 && this.#events.length > 0) {
      this.#steps.push({ do: 'dispose', kind: 'event', id: drop(this.#events) })
    } else if (this.#graphs.length > 0) {
      this.#steps.push({ do: 'dispose', kind: 'graph', id: drop(this.#graphs) })
    }
  }
}
