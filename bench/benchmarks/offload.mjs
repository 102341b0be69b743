// @ts-check
import { Decoding } from '../lib/decoding.mjs'
import { checkOnloads, checkReplays } from '../lib/decoding-checks.mjs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits, roundsOf } from '../lib/limits.mjs'
import { inModelDirectory, modelShape, withLayers } from '../lib/model-shape.mjs'
import { Peer } from '../lib/peer.mjs'
import { configure, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */

const steps = [1, 2, 4]
/** What bench/peers/torch_offload.py measures besides decoding. */
const peerLink = 'PyTorch, link'

/** @type {Benchmark} */
export const offload = {
  summary: "prefetch's share of the link, all layers offloaded, by the number of slots; PyTorch's beside it",
  async run(context, recorder) {
    // So many layers that they pass through the slots, so few that several models fit beside each other.
    const shape = withLayers(modelShape(context), 8)
    const { title, contextLength, promptTokens, sampleTokens } = shape
    recorder.parameters({ model: title, contextLength, promptTokens })
    await inModelDirectory(shape, (directory) =>
      using(async (use) => {
        const limits = use(await Limits.open(context))
        /** @type {Map<string, Decoding>} */
        const decodings = new Map()
        for (const prefetchStep of steps) {
          const configured = configure(prefetch, { groupSize: 1, prefetchStep })
          const decoding = use(await Decoding.open(context, shape, directory, { offload: configured }))
          decodings.set(`prefetch, step ${prefetchStep}`, decoding)
        }
        context.progress('starting PyTorch')
        const words = [directory, context.device, sampleTokens]
        const peer = use(await Peer.startPython('torch_offload.py', words, context.signal))
        recorder.peer(peer)
        const samples = await interleave(
          {
            link: limits.linkSampler,
            ...Object.fromEntries([...decodings].map(([name, decoding]) => [name, () => decoding.sample()])),
            ...peer.samplers,
          },
          { ...context, rounds: roundsOf(context) },
        )
        const link = Limits.recordLink(recorder, samples('link'))
        let layerBytes = 0
        for (const [name, decoding] of decodings) {
          layerBytes = decoding.model.stats().offloadedBytes
          const bound = against('limit', link, decoding.onloadedBytesPerToken)
          recorder.figure(name, 'tokens/s', samples(name), bound)
          checkReplays(recorder, name, decoding)
          checkOnloads(recorder, name, decoding)
        }
        for (const name of peer.subjects) {
          const isLink = name === peerLink
          // They move the same weights as we do.
          const bound = against('limit', link, isLink ? 1 : layerBytes)
          recorder.figure(name, isLink ? 'bytes/s' : 'tokens/s', samples(name), bound)
        }
        await limits.check(recorder)
      }),
    )
  },
}
