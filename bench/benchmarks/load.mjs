// @ts-check
import { writeCheckpoint } from '../lib/checkpoint-file.mjs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits } from '../lib/limits.mjs'
import { inModelDirectory, modelShape, withLayers } from '../lib/model-shape.mjs'
import { Peer } from '../lib/peer.mjs'
import { loadModel, openDevice } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */

/** @type {Benchmark} */
export const load = {
  summary: 'a checkpoint in the page cache, loaded to the device; transformers and safetensors beside it',
  async run(context, recorder) {
    const shape = withLayers(modelShape(context), 8)
    await inModelDirectory(shape, (directory) =>
      using(async (use) => {
        context.progress('writing a checkpoint')
        const weightBytes = await writeCheckpoint(directory, context.signal)
        recorder.parameters({ model: shape.title, weightBytes })
        const limits = use(await Limits.open(context))
        const peer = use(await Peer.startPython('torch_load.py', [directory, context.device], context.signal))
        recorder.peer(peer)
        const loading = new Loading(context, directory, weightBytes)
        await loading.sample()
        const samples = await interleave(
          {
            link: limits.linkSampler,
            ours: () => loading.sample(),
            ...peer.samplers,
          },
          // A load takes seconds.
          { ...context, rounds: context.quick ? 1 : 2 },
        )
        const link = Limits.recordLink(recorder, samples('link'))
        recorder.figure('load, ours', 'bytes/s', samples('ours'), against('limit', link))
        for (const name of peer.subjects) recorder.figure(name, 'bytes/s', samples(name), against('limit', link))
        loading.check(recorder)
        await limits.check(recorder)
      }),
    )
  },
}

/** Our own subject: from the files to a model that is ready, the device open before. */
class Loading {
  #context
  #directory
  #weightBytes
  #loads = 0
  #bytesToDevice = 0
  #finiteLogits = 0

  /**
   * @param {Context} context
   * @param {string} directory
   * @param {number} weightBytes
   */
  constructor(context, directory, weightBytes) {
    this.#context = context
    this.#directory = directory
    this.#weightBytes = weightBytes
  }

  /** Bytes a second. */
  sample() {
    const { signal, device: name } = this.#context
    return using(async (use) => {
      const device = use(await openDevice(name))
      const start = performance.now()
      const model = use(await loadModel(this.#directory, { device, contextLength: 64, signal }))
      const seconds = (performance.now() - start) / 1000
      this.#loads++
      this.#bytesToDevice += device.counters().hostToDeviceBytesByTag.weights ?? 0
      const [logits] = await model.logits([1], { signal })
      if (logits?.every(Number.isFinite) && new Set(logits).size > 1) this.#finiteLogits++
      return this.#weightBytes / seconds
    })
  }

  /** @param {Recorder} recorder */
  check(recorder) {
    recorder.checkEqual('bytes of weights to the device', this.#bytesToDevice, this.#loads * this.#weightBytes)
    recorder.checkEqual('models that give numbers', this.#finiteLogits, this.#loads)
  }
}
