/** A call that the device must refuse. */
export class Illegal extends Error {}

/** A wait for an event, or a record of it, that streams outside of the capture take part in. */
interface External {
  readonly event: number
  readonly use: 'wait' | 'record'
}

/** One recorded operation: a step, or an external wait or record. */
export interface Captured {
  readonly step: number
  readonly external: External | undefined
  /** Which of the graph's operations it comes after: indices. */
  readonly after: readonly number[]
}

interface Capture {
  readonly origin: number
  readonly nodes: Captured[]
  /** By stream: what its next operation comes after. */
  readonly fronts: Map<number, ReadonlySet<number>>
  /** By stream: its last operation. */
  readonly last: Map<number, number>
}

/** Captures as CUDA describes them: each stream in one has a set of operations that its next one comes after. */
export class Captures {
  readonly #open = new Map<number, Capture>()
  readonly #events = new Map<number, { readonly capture: Capture; readonly front: ReadonlySet<number> }>()
  readonly #graphs = new Map<number, readonly Captured[]>()

  capturing(stream: number): boolean {
    return this.#open.has(stream)
  }

  anyOpen(): boolean {
    return this.#open.size > 0
  }

  recordedInCapture(event: number): boolean {
    return this.#events.has(event)
  }

  begin(stream: number): void {
    if (this.#open.has(stream)) throw new Illegal('the stream is captured already')
    this.#open.set(stream, { origin: stream, nodes: [], fronts: new Map([[stream, new Set()]]), last: new Map() })
  }

  add(stream: number, { step, external }: Omit<Captured, 'after'>): void {
    const { nodes, fronts, last } = this.#open.get(stream)!
    if (
      external &&
      nodes.some((node) => node.external?.event === external.event && node.external.use !== external.use)
    ) {
      throw new Illegal('an external record of an event, and a wait for one, in the same capture')
    }
    const node = nodes.push({ step, external, after: [...fronts.get(stream)!] }) - 1
    fronts.set(stream, new Set([node]))
    last.set(stream, node)
  }

  /** Who waits for the event from now on waits for this record. */
  record(stream: number, event: number, external: boolean, step: number): 'by the stream' | 'captured' | 'at replays' {
    const capture = this.#open.get(stream)
    if (!capture) {
      this.#events.delete(event)
      return 'by the stream'
    }
    if (external) {
      this.add(stream, { step, external: { event, use: 'record' } })
      return 'at replays'
    }
    this.#events.set(event, { capture, front: capture.fronts.get(stream)! })
    return 'captured'
  }

  /** A replay records the event. */
  replayed(event: number): void {
    this.#events.delete(event)
  }

  /** false: an ordinary wait, which no capture takes part in. */
  wait(stream: number, event: number, external: boolean, step: number): boolean {
    const capture = this.#open.get(stream)
    if (capture && external) {
      this.add(stream, { step, external: { event, use: 'wait' } })
      return true
    }
    const recorded = this.#events.get(event)
    if (!recorded) {
      if (capture) throw new Illegal('an event from outside, and the wait is not external')
      return false
    }
    if (external || this.#open.get(recorded.capture.origin) !== recorded.capture) {
      throw new Illegal('the event was recorded in a capture that has ended')
    }
    if (capture && capture !== recorded.capture) throw new Illegal('the event was recorded in another capture')
    this.#open.set(stream, recorded.capture)
    const { fronts } = recorded.capture
    fronts.set(stream, new Set([...(fronts.get(stream) ?? []), ...recorded.front]))
    return true
  }

  end(stream: number, graph: number): void {
    const capture = this.#open.get(stream)
    if (capture?.origin !== stream) throw new Illegal('the stream began no capture')
    const reached = new Set<number>()
    const open = [...capture.fronts.get(stream)!]
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (reached.has(node)) continue
      reached.add(node)
      open.push(...capture.nodes[node]!.after)
    }
    for (const [joined, node] of capture.last) {
      if (!reached.has(node)) throw new Illegal(`the work of stream ${joined} is not joined`)
    }
    for (const joined of capture.fronts.keys()) this.#open.delete(joined)
    this.#graphs.set(graph, capture.nodes)
  }

  graph(graph: number): readonly Captured[] {
    const nodes = this.#graphs.get(graph)
    if (!nodes) throw new Illegal('there is no such graph')
    return nodes
  }
}
