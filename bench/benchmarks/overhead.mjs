// @ts-check
import { interleave } from '../lib/interleave.mjs'
import { roundsOf } from '../lib/limits.mjs'
import { configure, createOffloader, none, openDevice, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { ConfiguredBackend, Device, ModuleSpec } from '../../packages/core/dist/index.js' */
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
      const samples = await interleave(
        Object.fromEntries(
          Object.entries(subjects).flatMap(([name, subject]) => [
            [`${name}, eager`, () => subject.enqueued()],
            [`${name}, replayed`, () => subject.replayed()],
          ]),
        ),
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
    return this.#timed(() => this.#forward())
  }

  /** The same of a captured forward. */
  replayed() {
    return this.#timed(() => this.#stream.launch(this.#graph))
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

  /** @param {() => void} enqueue */
  async #timed(enqueue) {
    let ms = 0
    for (let i = 0; i < 2 * forwards; i++) {
      const start = performance.now()
      enqueue()
      // The first half warms up.
      if (i >= forwards) ms += performance.now() - start
      await this.#stream.synchronize()
    }
    return ms / 1000 / forwards / layers
  }
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
