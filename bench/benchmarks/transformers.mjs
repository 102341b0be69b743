// @ts-check
import { Decoding } from '../lib/decoding.mjs'
import { checkReplays } from '../lib/decoding-checks.mjs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits, roundsOf } from '../lib/limits.mjs'
import { inModelDirectory, modelShape } from '../lib/model-shape.mjs'
import { Peer } from '../lib/peer.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark } from '../lib/benchmark.ts' */

/** @type {Benchmark} */
export const transformers = {
  summary: 'tokens a second beside Hugging Face transformers on the same device, where it is installed',
  async run(context, recorder) {
    const base = modelShape(context)
    const shape = { ...base, sampleTokens: 4 * base.sampleTokens }
    const { title, contextLength, promptTokens, sampleTokens } = shape
    recorder.parameters({ model: title, contextLength, promptTokens, batch: 1 })
    await inModelDirectory(shape, (directory) =>
      using(async (use) => {
        context.progress('starting transformers')
        const words = [directory, context.device, promptTokens, sampleTokens, contextLength]
        const peer = use(await Peer.startPython('transformers_decode.py', words, context.signal))
        recorder.peer(peer)
        if (peer.subjects.length === 0) return
        const limits = use(await Limits.open(context))
        const decoding = use(await Decoding.open(context, shape, directory))
        const samples = await interleave(
          {
            memory: limits.deviceMemorySampler,
            ...peer.samplers,
            ours: () => decoding.sample(),
          },
          { ...context, rounds: roundsOf(context) },
        )
        const memory = Limits.recordDeviceMemory(recorder, samples('memory'))
        const bound = against('limit', memory, decoding.readBytesPerToken)
        const theirs = peer.subjects.map((name) => recorder.figure(name, 'tokens/s', samples(name), bound))
        // Ours against the fastest of their ways to compute attention.
        const fastest = theirs.reduce((best, one) => (one.median > best.median ? one : best))
        recorder.figure('decode, ours', 'tokens/s', samples('ours'), against('peer', fastest))
        checkReplays(recorder, 'decode, ours', decoding)
        await limits.check(recorder)
      }),
    )
  },
}
