// @ts-check
import { Decoding } from '../lib/decoding.mjs'
import { checkOnloads, checkReplays, checkTokens } from '../lib/decoding-checks.mjs'
import { DevicePeak } from '../lib/device-peak.mjs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits, roundsOf } from '../lib/limits.mjs'
import { inModelDirectory, modelShape } from '../lib/model-shape.mjs'
import { configure, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { ModelShape } from '../lib/model-shape.mjs' */
/** @import { Recorder } from '../lib/recorder.mjs' */
/** @import { Figure } from '../lib/result.ts' */

/** @type {Benchmark} */
export const decode = {
  summary: 'tokens a second with all weights on the device, with all layers offloaded, and with as few as must be',
  async run(context, recorder) {
    const shape = modelShape(context)
    const { title, contextLength, promptTokens, memoryLimitBytes, fitLimitBytes } = shape
    recorder.parameters({ model: title, contextLength, promptTokens, memoryLimitBytes, fitLimitBytes })
    await using(async (use) => {
      const limits = use(await Limits.open(context))
      await inModelDirectory(shape, async (directory) => {
        const tokens = await measureResident(context, recorder, { limits, shape, directory })
        await measureOffloaded(context, recorder, { limits, shape, directory, tokens })
        await measureFitted(context, recorder, { limits, shape, directory, tokens })
      })
      await limits.check(recorder)
    })
  },
}

/**
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {{ limits: Limits, shape: ModelShape, directory: string }} options
 */
function measureResident(context, recorder, { limits, shape, directory }) {
  return using(async (use) => {
    // A token takes milliseconds here.
    const resident = { ...shape, sampleTokens: 8 * shape.sampleTokens }
    const decoding = use(await Decoding.open(context, resident, directory))
    const samples = await interleave(
      { memory: limits.deviceMemorySampler, resident: () => decoding.sample() },
      { ...context, rounds: roundsOf(context) },
    )
    const memory = Limits.recordDeviceMemory(recorder, samples('memory'))
    const bound = against('limit', memory, decoding.readBytesPerToken)
    recorder.figure('decode, resident', 'tokens/s', samples('resident'), bound)
    checkReplays(recorder, 'decode, resident', decoding)
    return decoding.tokens
  })
}

/**
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {{ limits: Limits, shape: ModelShape, directory: string, tokens: readonly number[] }} options
 */
function measureOffloaded(context, recorder, { limits, shape, directory, tokens }) {
  const name = 'decode, prefetch'
  const { memoryLimitBytes } = shape
  return using(async (use) => {
    // A driver gives memory in pieces of megabytes: under a small cap it would be these that are seen.
    const peak = context.device === 'cuda' && !context.quick ? use(new DevicePeak()) : undefined
    const offload = configure(prefetch, { groupSize: 1 })
    const decoding = use(await Decoding.open(context, shape, directory, { offload, memoryLimitBytes }))
    await decoding.start()
    peak?.stop()
    const samples = await interleave(
      { link: limits.linkSampler, prefetch: () => decoding.sample() },
      { ...context, rounds: roundsOf(context) },
    )
    peak?.look()
    const link = Limits.recordLink(recorder, samples('link'))
    recorder.figure(name, 'tokens/s', samples('prefetch'), against('limit', link, decoding.onloadedBytesPerToken))

    const cap = recorder.figure('cap on device memory', 'bytes', [memoryLimitBytes])
    const { peakDeviceBytes } = decoding.model.stats()
    const peaks = [{ by: "the device's budget", bytes: peakDeviceBytes, allowed: memoryLimitBytes }]
    // The driver's figure has what no budget sees: code, and the driver's own tables.
    if (peak !== undefined) peaks.push({ by: 'the driver', bytes: peak.bytes, allowed: 1.03 * memoryLimitBytes })
    for (const { by, bytes, allowed } of peaks) {
      recorder.figure(`peak device memory, by ${by}`, 'bytes', [bytes], against('cap', cap))
      const detail = `${bytes} bytes, ${allowed} allowed`
      recorder.check({ name: `peak within the cap, by ${by}`, passed: bytes > 0 && bytes <= allowed, detail })
    }
    checkReplays(recorder, name, decoding)
    checkOnloads(recorder, name, decoding)
    checkTokens(recorder, name, decoding.tokens, tokens)

    await measureSampled(context, recorder, { name, decoding, link })
  })
}

/**
 * As few layers offloaded as make the model fit.
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {{ limits: Limits, shape: ModelShape, directory: string, tokens: readonly number[] }} options
 */
function measureFitted(context, recorder, { limits, shape, directory, tokens }) {
  const name = 'decode, prefetch to fit'
  const memoryLimitBytes = shape.fitLimitBytes
  return using(async (use) => {
    const decoding = use(
      await Decoding.open(context, shape, directory, { offload: configure(prefetch), memoryLimitBytes }),
    )
    await decoding.start()
    const samples = await interleave(
      { link: limits.linkSampler, prefetch: () => decoding.sample() },
      { ...context, rounds: roundsOf(context) },
    )
    const link = recorder.figure('link, beside the fitted model', 'bytes/s', samples('link'))
    recorder.figure(name, 'tokens/s', samples('prefetch'), against('limit', link, decoding.onloadedBytesPerToken))
    const { peakDeviceBytes, offloadedBytes } = decoding.model.stats()
    const cap = recorder.figure(`${name}: cap on device memory`, 'bytes', [memoryLimitBytes])
    recorder.figure(`${name}: peak device memory`, 'bytes', [peakDeviceBytes], against('cap', cap))
    const fits = peakDeviceBytes <= memoryLimitBytes && offloadedBytes < decoding.model.plan.weightBytes
    const detail = `${peakDeviceBytes} bytes at most of ${memoryLimitBytes}, ${offloadedBytes} offloaded`
    recorder.check({ name: `${name}: within the cap, offloaded in part`, passed: fits, detail })
    checkReplays(recorder, name, decoding)
    checkOnloads(recorder, name, decoding)
    checkTokens(recorder, name, decoding.tokens, tokens)
    await measureSampled(context, recorder, { name, decoding, link })
  })
}

/**
 * Choosing a token takes the host a while; the link should not stand still meanwhile.
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {{ name: string, decoding: Decoding, link: Figure }} options
 */
async function measureSampled(context, recorder, { name, decoding, link }) {
  await decoding.start(0.7)
  const samples = await interleave({ sampled: () => decoding.sample() }, { ...context, rounds: roundsOf(context) })
  const bound = against('limit', link, decoding.onloadedBytesPerToken)
  recorder.figure(`${name}, temperature 0.7`, 'tokens/s', samples('sampled'), bound)
}
