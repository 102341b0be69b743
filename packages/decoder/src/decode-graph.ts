import {
  type ConfiguredBackend,
  type Device,
  type Event,
  type Graph,
  type HostBuffer,
  isSpillwayError,
  type Offloader,
  type PinDecision,
  SpillwayError,
  type Stream,
} from '@spillway/core'
import type { Forward, ForwardShape } from './forward.js'

/** How tokens are decoded: from a captured graph, or by enqueueing every kernel anew. */
export interface GraphDecision {
  readonly graph: boolean
  readonly reason: string
}

export interface GraphDecisionOptions {
  readonly device: Device
  readonly pin: PinDecision
  readonly backends: readonly ConfiguredBackend[]
  readonly enforceEager: boolean
}

/** What can be known before the first token. The first line that applies. */
export function decideGraph({ device, pin, backends, enforceEager }: GraphDecisionOptions): GraphDecision {
  const eager = (reason: string): GraphDecision => ({ graph: false, reason })
  if (enforceEager) return eager('enforceEager')
  if (!device.capabilities.graphs) return eager('the device has no graphs')
  const unable = backends.find(({ backend }) => !backend.supports.graphs)
  if (unable !== undefined) return eager(`backend ${unable.backend.name} cannot be captured`)
  // The driver stages copies of unpinned memory through the calling thread, which a replay does not have.
  if (!pin.pin) return eager(`host memory is not pinned: ${pin.reason}`)
  return { graph: true, reason: 'device and backends can' }
}

export interface DecodeGraphOptions {
  readonly forward: Forward
  readonly offloader: Offloader
  readonly stream: Stream
  /** Where the logits of each token go, f32 [vocab]. */
  readonly logits: HostBuffer
  /** Recorded when they are there. */
  readonly ready: Event
  readonly decision: GraphDecision
}

/**
 * The forward of one row, its logits wanted: captured once, then replayed for every token. A replay enters no JavaScript
 * of engine or backend. In traces another graph is replayed, captured in one, which takes times. Addresses stay for as
 * long as the model is loaded, and fences of a sleep are part of the graph, so it is never captured again.
 */
export class DecodeGraph implements AsyncDisposable {
  readonly #options: DecodeGraphOptions
  readonly #shape: ForwardShape
  #decision: GraphDecision
  #graph: Graph | undefined
  #timedGraph: Graph | undefined
  #tracing = false
  /**
   * This forward has run outside of a capture, and none has failed since. Before that a capture could not load kernels;
   * and a replay relies on what forwards leave behind in slots, which a failed one may have failed to put in order.
   */
  #rehearsed = false

  constructor(options: DecodeGraphOptions) {
    this.#options = options
    this.#decision = options.decision
    this.#shape = { rows: 1, logitsFrom: 0, logits: options.logits, ready: options.ready }
  }

  /** `auto` chooses a backend when it places: what that one cannot do shows at the first capture. */
  get decision(): GraphDecision {
    return this.#decision
  }

  /** Enqueues the forward of the token that was written. What is thrown goes to `forwardFailed` too. */
  enqueue(): void {
    const { forward, stream } = this.#options
    const graph = this.#decision.graph && this.#rehearsed ? this.#captured() : undefined
    if (graph === undefined) {
      forward.enqueue(this.#shape)
      this.#rehearsed = true
    } else {
      this.#requireAwake()
      stream.launch(graph)
    }
  }

  /** Until what `body` returns has settled, replays take times; within `Offloader.trace`. One at a time. */
  async traced<T>(body: () => T | Promise<T>): Promise<T> {
    this.#tracing = true
    try {
      return await body()
    } finally {
      this.#tracing = false
    }
  }

  /** A forward of the model has failed, this one or another. */
  forwardFailed(): void {
    this.#rehearsed = false
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#graph?.dispose(), this.#timedGraph?.dispose()])
  }

  /** undefined: the backend cannot be captured. */
  #captured(): Graph | undefined {
    try {
      if (this.#tracing) this.#timedGraph ??= this.#capture()
      else this.#graph ??= this.#capture()
      return this.#tracing ? this.#timedGraph : this.#graph
    } catch (error) {
      if (!isSpillwayError(error) || error.code !== 'SPILLWAY_NOT_SUPPORTED') throw error
      this.#decision = { graph: false, reason: error.message }
      return undefined
    }
  }

  #capture(): Graph {
    const { forward, stream } = this.#options
    stream.beginCapture()
    try {
      forward.enqueue(this.#shape)
    } catch (error) {
      try {
        stream
          .endCapture()
          .dispose()
          .catch(() => {})
      } catch {
        // A capture that went wrong ends without a graph; the first failure is the one to report.
      }
      throw error
    }
    return stream.endCapture()
  }

  /** As core asks before a forward, which a replay does not go through. */
  #requireAwake(): void {
    const states = [...(this.#options.offloader.residency?.state() ?? [])]
    const away = states.filter(([, state]) => state !== 'awake' && state !== 'waking')
    if (away.length === 0) return
    throw new SpillwayError(
      'SPILLWAY_ASLEEP',
      `decoding: ${away.map(([tag, state]) => `${tag} is ${state}`).join(', ')}; call residency.wake() first`,
      { details: { call: 'decode', tags: away.map(([tag]) => tag) } },
    )
  }
}
