// What a program means, from its data alone: every access it will make, what comes before what, and which conflicting
// accesses have no order. Explicit graph, explicit transitive closure, all pairs: nothing here is clever, and nothing is
// taken from the checker that it judges.
import type { TouchMode } from '../abi/abi-probe.js'
import { type Captured, Captures, Illegal } from './captures.js'
import { type Conflict, inCommon, type Operation } from './conflict.js'
import { MemoryLayout, overlap } from './memory-layout.js'
import { Precedence } from './precedence.js'
import type { Program, Span, Step } from './program.js'

export interface Judgement {
  /** A call that the device must refuse; nothing after it was judged. */
  readonly illegal: Illegal | undefined
  readonly operations: readonly Operation[]
  readonly conflicts: readonly Conflict[]
  /** Work on a range that may still run when part of the range is unmapped: the device may refuse the unmapping. */
  readonly busy: readonly Conflict[]
  /** How many conflicting pairs have an order. */
  readonly ordered: number
}

/**
 * settled: when a promise of `synchronize` orders the host: where it is awaited, or already (which a program cannot
 * rely on, but may get) at the first await of any promise after it was asked for.
 */
export function judge(program: Program, settled: 'awaited' | 'at any await' = 'awaited'): Judgement {
  return new Judge(program, settled === 'at any await').judge()
}

class Judge {
  readonly #program: Program
  readonly #eager: boolean
  readonly #order = new Precedence()
  readonly #layout: MemoryLayout
  readonly #captures: Captures
  readonly #operations: Operation[] = []
  readonly #conflicts: Conflict[] = []
  readonly #busy: Conflict[] = []
  #ordered = 0
  /** The last thing the host did or waited for. */
  #host: number | undefined
  /** The last work of each stream. */
  readonly #tails = new Map<number, number>()
  readonly #promises = new Map<number, number | undefined>()
  readonly #records = new Map<number, number>()
  readonly #replayed = new Map<number, number>()
  readonly #disposed = new Set<string>()
  readonly #used = new Set<string>()

  constructor(program: Program, eager: boolean) {
    this.#program = program
    this.#eager = eager
    this.#layout = new MemoryLayout(program)
    this.#captures = new Captures()
  }

  judge(): Judgement {
    let illegal: Illegal | undefined
    let at = 0
    try {
      for (; at < this.#program.steps.length; at++) this.#apply(this.#program.steps[at]!, at)
      if (this.#captures.anyOpen()) throw new Illegal('a capture is never ended')
    } catch (error) {
      if (!(error instanceof Illegal)) throw error
      illegal = new Illegal(`step ${at}: ${error.message}`)
    }
    return {
      illegal,
      operations: this.#operations,
      conflicts: this.#conflicts,
      busy: this.#busy,
      ordered: this.#ordered,
    }
  }

  #apply(step: Step, at: number): void {
    switch (step.do) {
      case 'copy':
      case 'fill':
      case 'touch':
        this.#enqueue(step, at)
        return
      case 'record':
        this.#use('stream', step.stream)
        this.#use('event', step.event)
        this.#record(this.#captures.record(step.stream, step.event, step.external === true, at), step)
        return
      case 'wait':
        this.#use('stream', step.stream)
        this.#use('event', step.event)
        if (this.#captures.wait(step.stream, step.event, step.external === true, at)) return
        this.#onStream(step.stream, this.#records.get(step.event))
        return
      case 'synchronize':
        this.#use('stream', step.stream)
        if (this.#captures.capturing(step.stream)) throw new Illegal('waiting for a stream that is captured')
        this.#promises.set(step.promise, this.#tails.get(step.stream))
        return
      case 'await': {
        if (!this.#promises.has(step.promise)) throw new Illegal('nobody asked for this promise')
        const reached = this.#eager ? [...this.#promises.values()] : [this.#promises.get(step.promise)]
        this.#host = this.#order.add([this.#host, ...reached])
        return
      }
      case 'pause':
        if (this.#eager) this.#host = this.#order.add([this.#host, ...this.#promises.values()])
        return
      case 'read':
      case 'write': {
        const span = step.do === 'read' ? step.from : step.to
        this.#use('buffer', span.buffer)
        if (this.#layout.buffer(span).kind !== 'host') throw new Illegal('the host has no access to device memory')
        this.#host = this.#order.add([this.#host])
        this.#access({ node: this.#host, step: at, launch: undefined, ...this.#resolve([{ ...span, mode: step.do }]) })
        return
      }
      case 'beginCapture':
        this.#use('stream', step.stream)
        this.#captures.begin(step.stream)
        return
      case 'endCapture':
        this.#use('stream', step.stream)
        this.#use('graph', step.graph)
        this.#captures.end(step.stream, step.graph)
        return
      case 'launch':
        this.#launch(step, at)
        return
      case 'map':
        this.#use('range', step.range)
        this.#use('physical', step.physical)
        if (!this.#layout.map(step.range, step.offset, step.physical)) throw new Illegal('it cannot be mapped there')
        return
      case 'unmap': {
        this.#use('range', step.range)
        if (!this.#layout.unmap(step.range, step.offset, step.bytes)) throw new Illegal('not mapped as it is unmapped')
        this.#host = this.#order.add([this.#host])
        const takes = { range: step.range, from: step.offset, to: step.offset + step.bytes }
        this.#access({ node: this.#host, step: at, launch: undefined, accesses: [], relies: [], takes })
        return
      }
      case 'dispose':
        if (step.kind === 'stream' && this.#captures.capturing(step.id)) throw new Illegal('the stream is captured')
        if (!this.#used.has(`${step.kind} ${step.id}`)) throw new Illegal('disposed before its first use')
        this.#use(step.kind, step.id)
        this.#disposed.add(`${step.kind} ${step.id}`)
        return
    }
  }

  #use(kind: string, id: number): void {
    const name = `${kind} ${id}`
    if (this.#disposed.has(name)) throw new Illegal(`${name} is disposed`)
    if (this.#used.has(name)) return
    this.#used.add(name)
    const spec = kind === 'buffer' ? this.#program.buffers[id] : undefined
    if (spec?.kind === 'range') this.#use('range', spec.range)
  }

  #record(made: ReturnType<Captures['record']>, { stream, event }: { stream: number; event: number }): void {
    if (made === 'by the stream') this.#records.set(event, this.#onStream(stream))
    else if (made === 'captured') this.#records.delete(event)
  }

  /** A place in the stream, after everything enqueued to it, all the host knows of, and `other`. */
  #onStream(stream: number, other?: number): number {
    const node = this.#order.add([this.#tails.get(stream), this.#host, other])
    this.#tails.set(stream, node)
    return node
  }

  #enqueue(step: Step & { readonly do: 'copy' | 'fill' | 'touch' }, at: number): void {
    this.#use('stream', step.stream)
    const spans = spansOf(step)
    const inCapture = this.#captures.capturing(step.stream)
    for (const span of spans) {
      this.#use('buffer', span.buffer)
      const spec = this.#layout.buffer(span)
      if (span.offset + span.bytes > spec.bytes) throw new Illegal('outside of the buffer')
      if (spec.kind !== 'host') continue
      if (step.do === 'copy' && inCapture && spec.storage === 'pageable') throw new Illegal('pageable in a capture')
      if (step.do === 'touch' && spec.storage !== 'mapped') throw new Illegal('no address that kernels can use')
    }
    const resolved = this.#resolve(spans)
    refuseOverlap(step, resolved.accesses)
    if (inCapture) {
      this.#captures.add(step.stream, { step: at, external: undefined })
    } else {
      this.#access({ node: this.#onStream(step.stream), step: at, launch: undefined, ...resolved })
    }
  }

  #resolve(spans: readonly (Span & { mode: TouchMode })[]): Pick<Operation, 'accesses' | 'relies'> {
    const accesses = spans.map((span) => {
      const pieces = this.#layout.pieces(span)
      if (!pieces) throw new Illegal('no memory is mapped at the addresses of the buffer')
      return { mode: span.mode, pieces }
    })
    return { accesses, relies: spans.flatMap((span) => this.#layout.addresses(span) ?? []) }
  }

  /** The graph's beginning, its operations as its edges order them, and its end, which the stream goes on after. */
  #launch({ stream, graph }: { readonly stream: number; readonly graph: number }, at: number): void {
    this.#use('stream', stream)
    this.#use('graph', graph)
    if (this.#captures.capturing(stream)) throw new Illegal('a graph is launched in a capture')
    const captured: readonly Captured[] = this.#captures.graph(graph)
    const begin = this.#onStream(stream, this.#replayed.get(graph))
    const nodes: number[] = []
    for (const { step: from, external, after } of captured) {
      let record: number | undefined
      if (external?.use === 'wait') {
        const { event } = external
        if (this.#captures.recordedInCapture(event)) throw new Illegal('the event was recorded in a capture since')
        record = this.#records.get(event)
      }
      const node = this.#order.add([begin, record, ...after.map((other) => nodes[other]!)])
      nodes.push(node)
      if (external?.use === 'record') {
        this.#captures.replayed(external.event)
        this.#records.set(external.event, node)
      }
      if (external !== undefined) continue
      const step = this.#program.steps[from] as Step & { readonly do: 'copy' | 'fill' | 'touch' }
      const resolved = this.#resolve(spansOf(step))
      refuseOverlap(step, resolved.accesses)
      this.#access({ node, step: from, launch: at, ...resolved })
    }
    const end = this.#order.add([begin, ...nodes])
    this.#tails.set(stream, end)
    this.#replayed.set(graph, end)
  }

  #access(later: Operation): void {
    for (const earlier of this.#operations) {
      const before = this.#order.comesBefore(earlier.node, later.node)
      for (const common of inCommon(earlier, later)) {
        if (before) this.#ordered++
        else this.#conflicts.push({ earlier, later, ...common })
      }
      if (before || !later.takes) continue
      const relied = earlier.relies.find(({ range }) => range === later.takes?.range)
      if (relied) this.#busy.push({ earlier, later, kinds: [], buffer: undefined, from: relied.from, to: relied.to })
    }
    this.#operations.push(later)
  }
}

function spansOf(step: Step & { readonly do: 'copy' | 'fill' | 'touch' }): readonly (Span & { mode: TouchMode })[] {
  if (step.do === 'touch') return step.spans
  const to = { ...step.to, mode: 'write' } as const
  return step.do === 'copy' ? [to, { ...step.from, bytes: step.to.bytes, mode: 'read' }] : [to]
}

/** What a copy does whose source and target share bytes, no device says. */
function refuseOverlap(step: Step, accesses: Operation['accesses']): void {
  if (step.do === 'copy' && overlap(accesses[0]!.pieces, accesses[1]!.pieces)) throw new Illegal('the copy overlaps')
}
