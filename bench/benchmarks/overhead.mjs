// @ts-check
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { roundsOf } from '../lib/limits.mjs'
import { configure, createOffloader, none, openDevice, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { ConfiguredBackend, Device, DeviceBuffer, Event, Graph, ModuleSpec, Stream } from '../../packages/core/dist/index.js' */
/** @import { Benchmark } from '../lib/benchmark.ts' */
/** @import { Figure } from '../lib/result.ts' */

const layers = 32
/** Small: copies are over soon, and a queue is never full, which would be waited for. */
const layerElements = 16 * 1024
const forwards = 50

/** @type {Benchmark} */
export const overhead = {
  summary: "what a layer costs the host: a forward's scope with prefetch and with none, enqueued and replayed",
  async run(context, recorder) {
    recorder.parameters({ layers, 'bytes of a layer': 2 * layerElements })
    await using(async (use) => {
      const device = use(await openDevice(context.device))
      const subjects = {
        none: use(await EmptyModel.open(device, configure(none, {}))),
        prefetch: use(await EmptyModel.open(device, configure(prefetch, { groupSize: 1, prefetchStep: 2 }))),
      }
      const byHand = use(await CopiesByHand.open(device, context.signal))
      const samples = await interleave(
        {
          ...Object.fromEntries(
            Object.entries(subjects).flatMap(([name, subject]) => [
              [`${name}, eager`, () => subject.enqueued()],
              [`${name}, replayed`, () => subject.replayed()],
            ]),
          ),
          'copies by hand': () => byHand.replayed(),
        },
        { ...context, rounds: roundsOf(context) },
      )
      for (const how of ['eager', 'replayed']) {
        const [least, more] = ['none', 'prefetch'].map((name) =>
          recorder.figure(`${name}, ${how}, a layer`, 's', samples(`${name}, ${how}`)),
        )
        const added = /** @type {Figure} */ (more).median - /** @type {Figure} */ (least).median
        if (added > 0) recorder.figure(`prefetch adds, ${how}, a layer`, 's', [added])
        else recorder.note(`prefetch, ${how}, adds nothing that can be seen`)
      }
      const copies = recorder.figure(
        'the same copies captured by hand, replayed, a layer',
        's',
        samples('copies by hand'),
      )
      const replayed = samples('prefetch, replayed')
      recorder.figure('prefetch beside copies by hand, replayed, a layer', 's', replayed, against('peer', copies))
      const { onloads } = subjects.prefetch.offloader.stats()
      recorder.check({
        name: 'every layer was brought in by every forward',
        passed: onloads !== undefined && onloads.onloads >= (onloads.forwards - 1) * layers && onloads.resets === 0,
        detail: `${onloads?.onloads} onloads, ${onloads?.forwards} forwards, ${onloads?.resets} resets`,
      })
    })
  },
}

/** Layers whose forward enqueues nothing of its own. Dispose it. */
class EmptyModel {
  /** @readonly */ offloader
  #stream
  #names
  #graph

  /**
   * @param {Device} device
   * @param {ConfiguredBackend} backend
   */
  static async open(device, backend) {
    const stream = device.createStream()
    const offloader = await createOffloader({ device, compute: stream, backends: [backend] })
    const specs = Array.from({ length: layers }, (_, order) => spec(order))
    await offloader.wrapModules(specs)
    await offloader.postInit()
    return new EmptyModel(
      offloader,
      stream,
      specs.map(({ name }) => name),
    )
  }

  /**
   * @param {Awaited<ReturnType<typeof createOffloader>>} offloader
   * @param {ReturnType<Device['createStream']>} stream
   * @param {readonly string[]} names
   */
  constructor(offloader, stream, names) {
    this.offloader = offloader
    this.#stream = stream
    this.#names = names
    this.#forward()
    stream.beginCapture()
    this.#forward()
    this.#graph = stream.endCapture()
  }

  /** Seconds of this thread for a layer. */
  enqueued() {
    return secondsALayer(this.#stream, () => this.#forward())
  }

  /** The same of a captured forward. */
  replayed() {
    return secondsALayer(this.#stream, () => this.#stream.launch(this.#graph))
  }

  async dispose() {
    await this.#stream.synchronize()
    await this.#graph.dispose()
    await this.offloader.dispose()
    await this.#stream.dispose()
  }

  #forward() {
    this.offloader.forward(this.#stream, (scope) => {
      for (const name of this.#names) {
        scope.before(name)
        scope.after(name)
      }
    })
  }
}

/**
 * What a replayed forward of `prefetch` cannot do without: a copy for each layer on a second stream, after the layer that
 * had the slot, and the layer after its copy; no backend. Dispose it.
 */
class CopiesByHand {
  #stream
  #graph
  #resources

  /**
   * @param {Device} device
   * @param {AbortSignal} signal
   */
  static async open(device, signal) {
    const bytes = 2 * layerElements
    const [compute, copying] = [device.createStream(), device.createStream()]
    const slots = [0, 1].map(() => device.allocate(bytes, { tag: 'weights' }))
    const slabs = []
    for (let i = 0; i < layers; i++) slabs.push(await device.allocateHost(bytes, { storage: 'pinned', signal }))
    const events = Array.from({ length: 2 * layers }, () => device.createEvent())
    compute.beginCapture()
    for (const [layer, slab] of slabs.entries()) {
      const [free, there] = /** @type {[Event, Event]} */ (events.slice(2 * layer, 2 * layer + 2))
      compute.record(free)
      copying.wait(free)
      copying.copy(/** @type {DeviceBuffer} */ (slots[layer % 2]), slab)
      copying.record(there)
      // One copy is under way while its layer's turn comes.
      if (layer > 0) compute.wait(/** @type {Event} */ (events[2 * layer - 1]))
    }
    compute.wait(/** @type {Event} */ (events.at(-1)))
    const graph = compute.endCapture()
    return new CopiesByHand(compute, graph, [graph, ...slots, ...slabs, ...events, copying, compute])
  }

  /**
   * @param {Stream} stream
   * @param {Graph} graph
   * @param {readonly { dispose(): Promise<void> }[]} resources
   */
  constructor(stream, graph, resources) {
    this.#stream = stream
    this.#graph = graph
    this.#resources = resources
  }

  replayed() {
    return secondsALayer(this.#stream, () => this.#stream.launch(this.#graph))
  }

  async dispose() {
    await this.#stream.synchronize()
    await Promise.all(this.#resources.map((resource) => resource.dispose()))
  }
}

/**
 * Of this thread, for a layer of what `enqueue` enqueues.
 * @param {Stream} stream
 * @param {() => void} enqueue
 */
async function secondsALayer(stream, enqueue) {
  let ms = 0
  for (let i = 0; i < 2 * forwards; i++) {
    const start = performance.now()
    enqueue()
    // The first half warms up.
    if (i >= forwards) ms += performance.now() - start
    await stream.synchronize()
  }
  return ms / 1000 / forwards / layers
}

/**
 * @param {number} order
 * @returns {ModuleSpec}
 */
function spec(order) {
  const weight = /** @type {const} */ ({
    name: 'weight',
    dtype: 'bf16',
    shape: [layerElements],
    stride: [1],
    use: 'other',
  })
  return { name: `layers.${order}`, order, role: 'layer', parameters: [weight] }
}
