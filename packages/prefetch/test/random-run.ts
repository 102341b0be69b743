// Runs the programs of random-model.ts, with an account of its own of what every slot holds.
import type { DeviceBuffer, Event, Graph, Parameter, TensorView } from '@spillway/core'
import type { NativeDevice, NativeStream } from '@spillway/device'
import { expect } from 'vitest'
import { failure, onDevice } from './device-rig.js'
import { contents, type LoadedCase, loadCase } from './random-load.js'
import {
  type Action,
  bytesOf,
  finalParameters,
  offloadedModules,
  type RandomCase,
  type RandomForward,
} from './random-model.js'
import { type Read, SlotModel } from './slot-model.js'

/** How much there was of everything, so that a test can say what it covered. */
export const kinds = [
  'forwards',
  'captures',
  'refused captures',
  'replays',
  'refused replays',
  'failed forwards',
  'rewrites',
  'replacements',
  'reads',
  'onloads',
] as const
export type Sums = Record<(typeof kinds)[number], number>

interface Capture {
  readonly graph: Graph
  /** Where the capture began. */
  readonly origin: NativeStream
  readonly forwards: readonly RandomForward[]
  readonly log: DeviceBuffer
}

/** Runs a case on a device of its own. Rejects when something is not as the rules say. */
export async function runCase(randomCase: RandomCase, sums: Sums): Promise<void> {
  await onDevice({ check: true, adversarialSeed: randomCase.seed }, async (device) => {
    const run = await RandomRun.load(device, randomCase, sums)
    for (const action of randomCase.actions) await run.do(action)
    await run.finish()
  })
}

class RandomRun {
  readonly #device: NativeDevice
  readonly #case: RandomCase
  readonly #sums: Sums
  readonly #streams: readonly NativeStream[]
  readonly #helper: NativeStream
  readonly #loaded: LoadedCase
  readonly #slots: SlotModel
  readonly #events: Event[] = []
  readonly #captures: Capture[] = []
  /** What was read and not looked at yet. */
  #unchecked: { readonly what: string; readonly log: DeviceBuffer; readonly reads: readonly Read[] }[] = []
  /** Of the last forward, captured or not. */
  #last: NativeStream
  /** Where the last thing ran: a forward outside of captures, or a replay. */
  #ran: NativeStream
  /** Whether something was captured since. */
  #capturedSince = false
  /** Of those that the device counts. */
  #replayedBytes = 0
  #version = 1

  static async load(device: NativeDevice, randomCase: RandomCase, sums: Sums): Promise<RandomRun> {
    const priorities = ['normal', 'high', 'low'] as const
    const streams = priorities.slice(0, randomCase.streamCount).map((priority) => device.createStream({ priority }))
    return new RandomRun(device, randomCase, sums, streams, await loadCase(device, streams[0]!, randomCase))
  }

  private constructor(
    device: NativeDevice,
    randomCase: RandomCase,
    sums: Sums,
    streams: readonly NativeStream[],
    loaded: LoadedCase,
  ) {
    this.#device = device
    this.#case = randomCase
    this.#sums = sums
    this.#streams = streams
    this.#last = streams[0]!
    this.#ran = streams[0]!
    this.#helper = device.createStream()
    this.#loaded = loaded
    this.#slots = new SlotModel(offloadedModules(randomCase), randomCase.config.prefetchStep, loaded.versions)
    sums.replacements += randomCase.replacements.length
  }

  async do(action: Action): Promise<void> {
    if (action.do === 'forward') this.#forward(action.forward)
    else if (action.do === 'capture') await this.#capture(action.forwards)
    else if (action.do === 'replay') this.#replay(action)
    else if (action.do === 'replay within') await this.#replayWithin(action)
    else if (action.do === 'rewrite') await this.#rewrite(action.modules)
    else if (action.do === 'wait') await this.#streams[action.stream % this.#streams.length]!.synchronize()
    else await this.#settle()
  }

  /** The last checks; then everything is given back, while one more forward is on its way. */
  async finish(): Promise<void> {
    await this.#settle()
    const visits = [...this.#loaded.offloader.modules.keys()].map((module) => ({ module, reads: 'plain' }) as const)
    this.#forward({ stream: 0, visits })
    const handles = [
      ...this.#captures.flatMap(({ graph, log }) => [graph, log]),
      ...this.#unchecked.map(({ log }) => log),
    ]
    await Promise.all([...handles, ...this.#events].map((handle) => handle.dispose()))
    await this.#loaded.offloader.dispose()
    await Promise.all([...this.#streams, this.#helper].map((stream) => stream.dispose()))
    this.#expectDeviceBytes()
    this.#sums.onloads += this.#slots.copies
    expect(this.#device.checker!.takeViolations().map(({ message }) => message)).toEqual([])
  }

  #readsOf(module: string): (Omit<Read, 'version'> & { readonly tensor: TensorView })[] {
    const reads = Array.from(
      this.#loaded.offloader.modules.get(module)!.parameters.values(),
      (parameter: Parameter) => ({
        name: parameter.tiedTo ?? `${module}.${parameter.name}`,
        bytes: bytesOf(parameter),
        tensor: parameter.tensor,
      }),
    )
    return reads.filter(({ bytes }) => bytes > 0)
  }

  #logFor(forwards: readonly RandomForward[]): DeviceBuffer {
    const visits = forwards.flatMap((forward) => forward.visits).filter(({ reads }) => reads !== 'none')
    const bytes = visits.flatMap(({ module }) => this.#readsOf(module)).reduce((sum, read) => sum + read.bytes, 1)
    return this.#device.allocate(bytes, { tag: 'log' })
  }

  /**
   * Enqueues a forward whose reads go to the log from byte `at` on; returns where they end. `within` comes before one of
   * its visits.
   */
  #enqueue(
    forward: RandomForward,
    log: DeviceBuffer,
    at: number,
    within?: { readonly graph: Graph; readonly at: number },
  ): number {
    const { visits, fails } = forward
    const stream = this.#streams[forward.stream]!
    const broken = new Error('the engine fails')
    try {
      this.#loaded.offloader.forward(stream, (scope) => {
        for (const [i, { module, reads }] of visits.entries()) {
          if (within?.at === i) stream.launch(within.graph)
          scope.before(module)
          const reader = reads === 'fork' ? this.#helper : stream
          if (reads === 'fork') this.#order(stream, reader)
          for (const { tensor, bytes } of reads === 'none' ? [] : this.#readsOf(module)) {
            reader.copy(log, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
            at += bytes
          }
          if (reads === 'fork') this.#order(reader, stream)
          if (fails === 'within' && i === visits.length - 1) throw broken
          scope.after(module)
        }
        if (fails === 'behind') throw broken
      })
    } catch (error) {
      if (error !== broken) throw error
      this.#sums['failed forwards']++
    }
    this.#last = stream
    return at
  }

  /** What is enqueued to `later` from here on comes after what is on `earlier`. */
  #order(earlier: NativeStream, later: NativeStream): void {
    const event = this.#device.createEvent()
    this.#events.push(event)
    earlier.record(event)
    later.wait(event)
  }

  #forward(forward: RandomForward): void {
    const log = this.#logFor([forward])
    this.#enqueue(forward, log, 0)
    this.#ran = this.#last
    this.#capturedSince = false
    this.#expect(`forward ${this.#sums.forwards}`, log, [forward])
    this.#sums.forwards++
  }

  async #capture(forwards: readonly RandomForward[]): Promise<void> {
    const origin = this.#streams[forwards[0]!.stream]!
    const log = this.#logFor(forwards)
    origin.beginCapture()
    if (!this.#case.pin && this.#slots.slotCount < this.#slots.elements.length) {
      await failure('SPILLWAY_CAPTURE', () => this.#enqueue(forwards[0]!, log, 0))
      await Promise.all([origin.endCapture().dispose(), log.dispose()])
      this.#sums['refused captures']++
      return
    }
    let at = 0
    for (const forward of forwards) {
      const stream = this.#streams[forward.stream]!
      if (stream !== origin) this.#order(origin, stream)
      at = this.#enqueue(forward, log, at)
      if (stream !== origin) this.#order(stream, origin)
    }
    this.#capturedSince = true
    this.#captures.push({ graph: origin.endCapture(), origin, forwards, log })
    this.#sums.captures++
  }

  #replay({ graph, stream: chosen, times }: Extract<Action, { do: 'replay' }>): void {
    if (this.#captures.length === 0) return
    const capture = graph === undefined ? this.#captures.at(-1)! : this.#captures[graph % this.#captures.length]!
    const last = this.#last
    const stream = chosen === undefined ? last : this.#streams[chosen]!
    // What was captured since the last thing ran has the order in it, on the stream where that capture began.
    const hasOrder = this.#capturedSince && capture === this.#captures.at(-1) && stream === capture.origin
    if (stream !== this.#ran && !hasOrder) this.#order(this.#ran, stream)
    for (let i = 0; i < times; i++) {
      const before = this.#slots.copiedBytes
      stream.launch(capture.graph)
      const log = this.#device.allocate(capture.log.bytes, { tag: 'log', stream })
      stream.copy(log, capture.log)
      this.#expect(`replay ${this.#sums.replays}`, log, capture.forwards)
      this.#replayedBytes += this.#slots.copiedBytes - before
      this.#sums.replays++
    }
    if (stream !== last) this.#order(stream, last)
    this.#ran = stream
    this.#capturedSince = false
  }

  async #replayWithin({ forward, graph, at }: Extract<Action, { do: 'replay within' }>): Promise<void> {
    const capture = this.#captures[graph % this.#captures.length]
    // Behind the last visit it would be found when the forward cannot be ended, which ends the offloader too.
    const visit = forward.visits.findIndex(({ module }, i) => i >= at && this.#slots.has(module))
    if (capture === undefined || visit < 0) return this.#forward(forward)
    const alone = new SlotModel(this.#slots.elements, this.#case.config.prefetchStep, this.#slots.versions)
    const first = alone.copies
    for (const captured of capture.forwards) alone.forward(captured, () => [])
    const moves = alone.copies > first
    const log = this.#logFor([forward])
    const enqueue = (): number => this.#enqueue(forward, log, 0, { graph: capture.graph, at })
    if (moves) await failure('SPILLWAY_CAPTURE', enqueue)
    else enqueue()
    this.#last = this.#streams[forward.stream]!
    this.#ran = this.#last
    this.#capturedSince = false
    const visits = moves ? forward.visits.slice(0, at) : forward.visits
    this.#expect('a forward with a replay within', log, [{ ...forward, visits }])
    const before = this.#slots.copiedBytes
    for (const captured of capture.forwards) this.#slots.forward(captured, () => [])
    this.#replayedBytes += this.#slots.copiedBytes - before
    if (moves) this.#sums['refused replays']++
  }

  /** Notes down what the forwards must have read into the log; the account of the slots goes on. */
  #expect(what: string, log: DeviceBuffer, forwards: readonly RandomForward[]): void {
    const readsOf = (module: string): Omit<Read, 'version'>[] => this.#readsOf(module)
    const reads = forwards.flatMap((forward) => this.#slots.forward(forward, readsOf))
    this.#unchecked.push({ what, log, reads })
    this.#sums.reads += reads.length
  }

  async #rewrite(modules: readonly string[]): Promise<void> {
    await this.#settle()
    const version = ++this.#version
    for (const module of modules) {
      for (const [name, { buffer, offset, dtype, shape }] of this.#loaded.hostViews) {
        const bytes = bytesOf({ dtype, shape })
        if (!name.startsWith(`${module}.`) || bytes === 0) continue
        buffer.write(contents(name, version, bytes), offset)
        this.#slots.versions.set(name, version)
      }
    }
    this.#sums.rewrites++
  }

  async #settle(): Promise<void> {
    for (const stream of this.#streams) await stream.synchronize()
    const stats = await this.#loaded.offloader.settledStats()
    const { elements, slotBytes, copiedBytes } = this.#slots
    const all = this.#case.calls.flat().flatMap((spec) => finalParameters(spec, this.#case.replacements))
    const sum = (bytes: readonly number[]): number => bytes.reduce((total, one) => total + one, 0)
    const offloadedBytes = sum(elements.flatMap(({ parameters }) => parameters.map(bytesOf)))
    expect(stats).toMatchObject({
      offloadedBytes,
      residentBytes: sum(all.map(bytesOf)) - offloadedBytes,
      slotBytes,
      onloadedBytes: copiedBytes - this.#replayedBytes,
      pinned: { pin: this.#case.pin },
    })
    this.#expectDeviceBytes()
    const { pinnedBytes, pageableBytes } = this.#device.counters()
    const slabBytes = sum(elements.map((element) => element.slabBytes))
    expect({ pinnedBytes, pageableBytes }).toEqual(
      this.#case.pin ? { pinnedBytes: slabBytes, pageableBytes: 0 } : { pinnedBytes: 0, pageableBytes: slabBytes },
    )
    expect(this.#device.checker!.takeViolations().map(({ message }) => message)).toEqual([])
    await this.#checkReads()
  }

  #expectDeviceBytes(): void {
    const { weights = 0 } = this.#device.counters().hostToDeviceBytesByTag
    expect(weights).toBe(this.#loaded.loadedBytes + this.#slots.copiedBytes)
  }

  async #checkReads(): Promise<void> {
    const unchecked = this.#unchecked
    this.#unchecked = []
    const stream = this.#streams.at(-1)!
    const bytes = unchecked.reduce((sum, { log }) => sum + log.bytes, 1)
    const host = await this.#device.allocateHost(bytes, { storage: 'pinned' })
    let used = 0
    for (const { log } of unchecked) {
      stream.copy(host, log, { toOffset: used, bytes: log.bytes })
      used += log.bytes
    }
    await stream.synchronize()
    const seen = host.read()
    used = 0
    for (const { what, log, reads } of unchecked) {
      let at = used
      for (const { name, version, bytes } of reads) {
        if (Buffer.compare(seen.subarray(at, at + bytes), contents(name, version, bytes)) !== 0) {
          expect.fail(`${what} read other bytes than version ${version} of ${name} (${bytes} bytes)`)
        }
        at += bytes
      }
      used += log.bytes
    }
    const kept = new Set(this.#captures.map(({ log }) => log))
    await Promise.all(
      [host, ...unchecked.map(({ log }) => log).filter((log) => !kept.has(log))].map((one) => one.dispose()),
    )
  }
}
