import type { DeviceBuffer, HostBuffer } from '@spillway/core'
import {
  type AddressRange,
  type CheckedOperation,
  type NativeDevice,
  type NativeEvent,
  type NativeGraph,
  type NativeHostBuffer,
  type NativeStream,
  type OpenDeviceOptions,
  type OrderViolation,
  openDevice,
  type PhysicalMemory,
} from '@spillway/device'
import { launchTouch, type TouchBuffer } from '../abi/abi-probe.js'
import type { Contents } from './contents.js'
import { granuleBytes, type Program, type Span, type Step, writtenBytes } from './program.js'

/** What the checker said, with steps of the program instead of places in this file. */
export interface Accusation {
  readonly kind: OrderViolation['kind']
  readonly message: string
  readonly earlier: Accused | undefined
  readonly later: Accused
  readonly offset: number
  readonly bytes: number
}

export interface Accused {
  readonly step: number
  /** Of an operation in a graph: the step that launched the graph. */
  readonly launch: number | undefined
}

export interface Outcome {
  readonly accusations: readonly Accusation[]
  /** A step that the device did not take; the steps after it were not run. */
  readonly refused: { readonly step: number; readonly error: unknown } | undefined
  /** Bytes that are not what they should be; empty without expectations. */
  readonly differences: readonly string[]
}

/** Runs programs, one after another, on one device. */
export class ProgramRunner {
  readonly device: NativeDevice
  readonly #back: NativeHostBuffer

  private constructor(device: NativeDevice, back: NativeHostBuffer) {
    this.device = device
    this.#back = back
  }

  static async open(options: OpenDeviceOptions): Promise<ProgramRunner> {
    const device = await openDevice('host', { threads: 2, memoryLimitBytes: 64 * 2 ** 20, ...options })
    return new ProgramRunner(device, await device.allocateHost(4096, { storage: 'pinned' }))
  }

  async close(): Promise<void> {
    await this.#back.dispose()
    await this.device.dispose()
  }

  /** After an outcome with a refusal, close the device: a capture may be left open. */
  async run(program: Program, expected?: Contents): Promise<Outcome> {
    const run = new Run(this.device, program)
    const outcome = await run.run(this.#back, expected)
    await run.disposeAll()
    return outcome
  }
}

class Run {
  readonly #device: NativeDevice
  readonly #program: Program
  readonly #streams = new Map<number, NativeStream>()
  readonly #events = new Map<number, NativeEvent>()
  readonly #buffers = new Map<number, TouchBuffer>()
  readonly #graphs = new Map<number, NativeGraph>()
  readonly #promises = new Map<number, Promise<void>>()
  readonly #ranges: AddressRange[]
  readonly #physicals: PhysicalMemory[]
  /** The end of each stream that is gone: no part of the program, only for who waits for its end. */
  readonly #ends: NativeEvent[] = []
  readonly #differences: string[] = []

  constructor(device: NativeDevice, program: Program) {
    this.#device = device
    this.#program = program
    const { virtualMemory } = device
    this.#ranges = program.ranges.map((granules) => virtualMemory.reserve(granules * granuleBytes))
    this.#physicals = program.physicals.map((granules) => virtualMemory.createPhysical(granules * granuleBytes, 'pool'))
  }

  async run(back: NativeHostBuffer, expected: Contents | undefined): Promise<Outcome> {
    await Promise.all(
      this.#program.buffers.map(async (spec, i) => {
        if (spec.kind === 'host') {
          this.#buffers.set(i, await this.#device.allocateHost(spec.bytes, { storage: spec.storage }))
        }
      }),
    )
    let refused: Outcome['refused']
    for (const [at, step] of this.#program.steps.entries()) {
      try {
        if (step.do === 'await') {
          await this.#promises.get(step.promise)
        } else if (step.do === 'pause') {
          await new Promise((resolve) => setTimeout(resolve, 1))
        } else {
          const seen = this.#enqueue(step, at)
          if (seen && expected) this.#compare(`step ${at}`, seen, expected.seen.get(at)!)
        }
      } catch (error) {
        refused = { step: at, error }
        break
      }
    }
    // What kernels touch is found when they run.
    if (!refused) await this.#finish(back, expected)
    return { accusations: this.#accusations(), refused, differences: this.#differences }
  }

  /** A frame named after the step, for the checker to find in the stack. */
  #enqueue(step: Step, at: number): Uint8Array | undefined {
    const frame = { [`step_${at}`]: () => this.#call(step) }
    return frame[`step_${at}`]!()
  }

  #accusations(): Accusation[] {
    const step = (site: string) => Number(/\bstep_(\d+)\b/.exec(site)?.[1])
    const accused = ({ site, launchSite }: CheckedOperation): Accused => ({
      step: step(site),
      launch: launchSite === undefined ? undefined : step(launchSite),
    })
    return (this.#device.checker?.takeViolations() ?? []).map(({ kind, message, earlier, later, offset, bytes }) => ({
      kind,
      message,
      earlier: earlier && accused(earlier),
      later: accused(later),
      offset,
      bytes,
    }))
  }

  #call(step: Step): Uint8Array | undefined {
    switch (step.do) {
      case 'copy':
        this.#stream(step.stream).copy(this.#buffer(step.to), this.#buffer(step.from), {
          toOffset: step.to.offset,
          fromOffset: step.from.offset,
          bytes: step.to.bytes,
        })
        return
      case 'fill':
        this.#stream(step.stream).fill(this.#buffer(step.to), step.value, step.to)
        return
      case 'touch':
        launchTouch(this.#stream(step.stream), {
          touch: step.spans.map(({ mode, ...span }) => ({ ...span, mode, buffer: this.#buffer(span) })),
          seed: step.seed,
        })
        return
      case 'record':
        this.#stream(step.stream).record(this.#event(step.event), { external: step.external === true })
        return
      case 'wait':
        this.#stream(step.stream).wait(this.#event(step.event), { external: step.external === true })
        return
      case 'synchronize':
        this.#promises.set(step.promise, this.#stream(step.stream).synchronize())
        return
      case 'await':
      case 'pause':
        return
      case 'read':
        return (this.#buffer(step.from) as HostBuffer).read(step.from.offset, step.from.bytes)
      case 'write':
        ;(this.#buffer(step.to) as HostBuffer).write(writtenBytes(step.value, step.to.bytes), step.to.offset)
        return
      case 'beginCapture':
        this.#stream(step.stream).beginCapture()
        return
      case 'endCapture':
        this.#graphs.set(step.graph, this.#stream(step.stream).endCapture())
        return
      case 'launch':
        this.#stream(step.stream).launch(this.#graphs.get(step.graph)!)
        return
      case 'map':
        this.#ranges[step.range]!.map(step.offset, this.#physicals[step.physical]!)
        return
      case 'unmap':
        this.#ranges[step.range]!.unmap(step.offset, step.bytes)
        return
      case 'dispose':
        return this.#dispose(step)
    }
  }

  #dispose({ kind, id }: Step & { readonly do: 'dispose' }): undefined {
    if (kind === 'stream') {
      const end = this.#device.createEvent()
      this.#streams.get(id)?.record(end)
      this.#ends.push(end)
    }
    const objects = { stream: this.#streams, event: this.#events, buffer: this.#buffers, graph: this.#graphs }
    if (kind === 'range') this.#ranges[id]!.dispose()
    else if (kind === 'physical') this.#physicals[id]!.dispose()
    else objects[kind].get(id)?.dispose()
  }

  #stream(id: number): NativeStream {
    const priority = this.#program.priorities[id % this.#program.priorities.length]!
    return existing(this.#streams, id, () => this.#device.createStream({ priority }))
  }

  #event(id: number): NativeEvent {
    return existing(this.#events, id, () => this.#device.createEvent())
  }

  #buffer({ buffer }: Pick<Span, 'buffer'>): TouchBuffer {
    return existing(this.#buffers, buffer, () => {
      const spec = this.#program.buffers[buffer]!
      if (spec.kind === 'host') throw new Error('host buffers are there from the beginning')
      return spec.kind === 'range'
        ? this.#ranges[spec.range]!.buffer(spec.offset, spec.bytes)
        : this.#device.allocate(spec.bytes, { tag: `buffer ${buffer}` })
    })
  }

  /** Waits for everything, and compares what all buffers hold. */
  async #finish(back: NativeHostBuffer, expected: Contents | undefined): Promise<void> {
    for (const stream of this.#streams.values()) {
      if (stream.disposed) continue
      const end = this.#device.createEvent()
      stream.record(end)
      this.#ends.push(end)
    }
    const last = this.#device.createStream()
    for (const end of this.#ends) last.wait(end)
    const compared: { name: string; from: number; bytes: Int16Array }[] = []
    let from = 0
    for (const [id, buffer] of expected ? this.#buffers : []) {
      const bytes = buffer.disposed ? undefined : expected?.buffer(id)
      if (!bytes) continue
      last.copy(back, buffer as DeviceBuffer | HostBuffer, { toOffset: from })
      compared.push({ name: `buffer ${id}`, from, bytes })
      from += bytes.length
    }
    await last.synchronize()
    await Promise.all([last, ...this.#ends].map((object) => object.dispose()))
    for (const { name, from, bytes } of compared) this.#compare(name, back.read(from, bytes.length), bytes)
  }

  #compare(name: string, actual: Uint8Array, expected: Int16Array): void {
    const at = expected.findIndex((byte, i) => byte >= 0 && byte !== actual[i])
    if (at >= 0) this.#differences.push(`${name}: byte ${at} is ${actual[at]}, and should be ${expected[at]}`)
  }

  async disposeAll(): Promise<void> {
    const objects = [this.#streams, this.#events, this.#buffers, this.#graphs].flatMap((map) => [...map.values()])
    await Promise.all([...objects, ...this.#ranges, ...this.#physicals].map((object) => object.dispose()))
  }
}

function existing<T>(objects: Map<number, T>, id: number, make: () => T): T {
  let object = objects.get(id)
  if (object === undefined) {
    object = make()
    objects.set(id, object)
  }
  return object
}
