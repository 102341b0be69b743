// A step of an engine in pieces: some modules eager, others replayed from graphs, each piece a forward of its own. What
// every module reads, and what crosses the link, is held to the rules in README.md. Any device.
import {
  configure,
  createOffloader,
  type DeviceBuffer,
  extentBytes,
  type Graph,
  type HostBuffer,
  type Offloader,
  type Stream,
  slabLayout,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import prefetch from '../src/index.js'
import { pattern } from './device-rig.js'
import { load, model, seedOf, stagingOn } from './model-rig.js'
import { SlotModel } from './slot-model.js'

export interface PiecesCase {
  readonly layers: number
  readonly prefetchStep: number
  /** Of a step, in order: embed, the layers, norm and head are modules 0 … layers + 2. */
  readonly pieces: readonly { readonly modules: number; readonly captured: boolean }[]
}

/** Ways to cut ten modules, seven of them layers. */
const cuts: Readonly<Record<string, PiecesCase['pieces']>> = {
  'one graph': [{ modules: 10, captured: true }],
  'a captured piece in the middle': [
    { modules: 3, captured: false },
    { modules: 4, captured: true },
    { modules: 3, captured: false },
  ],
  'captured pieces around an eager one': [
    { modules: 4, captured: true },
    { modules: 3, captured: false },
    { modules: 3, captured: true },
  ],
  'three graphs': [
    { modules: 2, captured: true },
    { modules: 5, captured: true },
    { modules: 3, captured: true },
  ],
  'every module by itself, every other one captured': Array.from({ length: 10 }, (_, i) => {
    return { modules: 1, captured: i % 2 === 1 }
  }),
}

/** With layers that share one slot, or more; and with a slot for each, which moves nothing. */
export const piecesCases: readonly (readonly [string, PiecesCase])[] = Object.entries(cuts).flatMap(([name, pieces]) =>
  (name.includes('middle') ? [1, 2, 3, 8] : [1, 3]).map(
    (prefetchStep) => [`${name}, ${prefetchStep} slots`, { layers: 7, prefetchStep, pieces }] as const,
  ),
)

/** Leaves nothing on the device. */
export async function runPieces(device: NativeDevice, given: PiecesCase): Promise<void> {
  await using streams = new Streams(device)
  const backends = [configure(prefetch, { groupSize: 1, prefetchStep: given.prefetchStep })]
  await using offloader = await createOffloader({ device, compute: streams.all[0]!, backends, pin: 'on' })
  await offloader.wrapModules(model(given.layers))
  await load(device, offloader.modules.values(), streams.all[0]!)
  await streams.settle()
  const loadedBytes = arrived(device)
  await offloader.postInit()
  await using run = await PiecesRun.create(device, offloader, given, loadedBytes)
  const [first, second] = streams.all as [Stream, Stream]

  // Eager, then captured, then replayed with other inputs, each step twice in a row and with nobody waiting between its
  // pieces.
  await run.step(first, { eager: true })
  await run.step(first)
  await run.step(first)
  await run.step(first)
  await run.step(first, { eager: true })
  await run.step(first)
  // On another stream: the same graphs, the last eager forward being there too; and back.
  await run.step(second, { eager: true })
  await run.step(second)
  await run.step(first, { eager: true })
  await run.step(first)
  // Two steps at once: the second one's first piece comes right behind the first one's last.
  await run.step(first, { times: 2 })
  // A captured piece that throws; then its graph disposed, and captured again.
  await run.breakOff(first)
  await run.step(first)
  await run.drop()
  await run.step(first)
  await run.step(first, { eager: true })
  await run.settled()
}

class Streams implements AsyncDisposable {
  readonly all: readonly Stream[]
  constructor(device: NativeDevice) {
    this.all = [device.createStream(), device.createStream()]
  }
  async settle(): Promise<void> {
    for (const stream of this.all) await stream.synchronize()
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const stream of this.all) await stream.dispose()
  }
}

const inputBytes = 64

function arrived(device: NativeDevice): number {
  return device.counters().hostToDeviceBytesByTag.weights ?? 0
}

class PiecesRun implements AsyncDisposable {
  readonly #device: NativeDevice
  readonly #offloader: Offloader
  readonly #pieces: readonly { readonly modules: readonly string[]; readonly captured: boolean }[]
  readonly #slots: SlotModel
  readonly #loadedBytes: number
  readonly #input: HostBuffer
  readonly #hidden: DeviceBuffer
  /** What each module saw: the input, and its weights. */
  readonly #log: DeviceBuffer
  readonly #seen: HostBuffer
  readonly #graphs = new Map<number, Graph>()
  #steps = 0
  #replayedBytes = 0

  static async create(
    device: NativeDevice,
    offloader: Offloader,
    given: PiecesCase,
    loadedBytes: number,
  ): Promise<PiecesRun> {
    return new PiecesRun(device, offloader, given, loadedBytes, [
      await stagingOn(device, inputBytes),
      await stagingOn(device, 16 * 1024),
    ])
  }

  private constructor(
    device: NativeDevice,
    offloader: Offloader,
    { layers, prefetchStep, pieces }: PiecesCase,
    loadedBytes: number,
    [input, seen]: readonly [HostBuffer, HostBuffer],
  ) {
    this.#device = device
    this.#offloader = offloader
    this.#loadedBytes = loadedBytes
    this.#input = input
    this.#seen = seen
    this.#hidden = device.allocate(inputBytes, { tag: 'hidden' })
    this.#log = device.allocate(seen.bytes, { tag: 'log' })
    const order = [...offloader.modules.keys()]
    let from = 0
    this.#pieces = pieces.map(({ modules, captured }) => {
      from += modules
      return { modules: order.slice(from - modules, from), captured }
    })
    expect(from).toBe(order.length)
    const elements = model(layers)
      .filter(({ role }) => role === 'layer')
      .map(({ name, parameters }) => ({ name, parameters, slabBytes: slabLayout(parameters).bytes }))
    this.#slots = new SlotModel(elements, prefetchStep, new Map())
  }

  /** All pieces, from graphs where there are such; what every module saw is compared. */
  async step(stream: Stream, { eager = false, times = 1 } = {}): Promise<void> {
    const what = `step ${++this.#steps} (${eager ? 'eager' : 'in pieces'})`
    const input = pattern(this.#steps, inputBytes)
    this.#input.write(input)
    stream.fill(this.#log, 0)
    for (let i = 0; i < times; i++) {
      if (eager) {
        this.#forward(
          stream,
          this.#pieces.flatMap(({ modules }) => modules),
          0,
        )
      } else {
        this.#enqueuePieces(stream)
      }
    }
    await stream.synchronize()
    await this.#offloader.settledStats()
    expect(arrived(this.#device) - this.#loadedBytes, `${what}: bytes over the link`).toBe(this.#slots.copiedBytes)
    stream.copy(this.#seen, this.#log)
    await stream.synchronize()
    this.#check(what, input)
  }

  /** A captured piece in whose middle the engine throws leaves forwards and graphs right. */
  async breakOff(stream: Stream): Promise<void> {
    const { modules } = this.#pieces.find(({ captured }) => captured)!
    const failed = new Error('the engine fails')
    stream.beginCapture()
    expect(() =>
      this.#offloader.forward(stream, (scope) => {
        for (const module of modules.slice(0, Math.ceil(modules.length / 2))) {
          scope.before(module)
          scope.after(module)
        }
        throw failed
      }),
    ).toThrow(failed)
    await stream.endCapture().dispose()
    // Nothing of it was done.
    expect(arrived(this.#device) - this.#loadedBytes).toBe(this.#slots.copiedBytes)
  }

  async drop(): Promise<void> {
    const graphs = [...this.#graphs.values()]
    this.#graphs.clear()
    await Promise.all(graphs.map((graph) => graph.dispose()))
  }

  /** What the backend counted is all but what graphs copied. */
  async settled(): Promise<void> {
    const { onloadedBytes, onloads } = await this.#offloader.settledStats()
    expect(onloadedBytes).toBe(this.#slots.copiedBytes - this.#replayedBytes)
    expect(onloads!.failedForwards).toBe(1)
    expect(this.#device.counters().graphLaunches).toBeGreaterThan(0)
  }

  #enqueuePieces(stream: Stream): void {
    let at = 0
    for (const [i, { modules, captured }] of this.#pieces.entries()) {
      if (!captured) {
        this.#forward(stream, modules, at)
      } else {
        let graph = this.#graphs.get(i)
        if (graph === undefined) {
          stream.beginCapture()
          this.#enqueue(stream, modules, at)
          graph = stream.endCapture()
          this.#graphs.set(i, graph)
        }
        stream.launch(graph)
        this.#replayedBytes -= this.#slots.copiedBytes
        this.#account(modules)
        this.#replayedBytes += this.#slots.copiedBytes
      }
      at += this.#bytesOf(modules)
    }
  }

  #forward(stream: Stream, modules: readonly string[], at: number): void {
    this.#enqueue(stream, modules, at)
    this.#account(modules)
  }

  #account(modules: readonly string[]): void {
    this.#slots.forward({ stream: 0, visits: modules.map((module) => ({ module, reads: 'none' })) }, () => [])
  }

  #enqueue(stream: Stream, modules: readonly string[], at: number): void {
    let to = at
    if (at === 0) stream.copy(this.#hidden, this.#input)
    this.#offloader.forward(stream, (scope) => {
      for (const module of modules) {
        scope.before(module)
        stream.copy(this.#log, this.#hidden, { toOffset: to, bytes: inputBytes })
        to += inputBytes
        for (const { tensor } of this.#offloader.modules.get(module)!.parameters.values()) {
          const bytes = extentBytes(tensor)
          stream.copy(this.#log, tensor.buffer, { toOffset: to, fromOffset: tensor.offset, bytes })
          to += bytes
        }
        scope.after(module)
      }
    })
  }

  #bytesOf(modules: readonly string[]): number {
    const parameters = modules.flatMap((module) => [...this.#offloader.modules.get(module)!.parameters.values()])
    return parameters.reduce((sum, { tensor }) => sum + extentBytes(tensor), modules.length * inputBytes)
  }

  #check(what: string, input: Uint8Array): void {
    let at = 0
    const next = (bytes: number): Uint8Array => {
      at += bytes
      return this.#seen.read(at - bytes, bytes)
    }
    for (const module of this.#pieces.flatMap(({ modules }) => modules)) {
      expect(next(inputBytes), `${what}: the input, as ${module} saw it`).toEqual(input)
      for (const { name, tensor, tiedTo } of this.#offloader.modules.get(module)!.parameters.values()) {
        const seed = tiedTo === undefined ? seedOf(module, name) : seedOf('embed', 'weight')
        const bytes = extentBytes(tensor)
        expect(next(bytes), `${what}: ${module}.${name}`).toEqual(pattern(seed, bytes))
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const handles = [...this.#graphs.values(), this.#input, this.#seen, this.#hidden, this.#log]
    await Promise.all(handles.map((handle) => handle.dispose()))
  }
}
