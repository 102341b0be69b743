// @ts-check
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits, roundsOf } from '../lib/limits.mjs'
import { inModelDirectory, modelShape, withLayers } from '../lib/model-shape.mjs'
import { moduleTimes } from '../lib/module-times.mjs'
import { Prefilling } from '../lib/prefilling.mjs'
import { configure, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { TraceEvent } from '../../packages/core/dist/index.js' */
/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { ModelShape } from '../lib/model-shape.mjs' */
/** @import { Recorder } from '../lib/recorder.mjs' */

const layers = 16
/** Half of the layers each, so the same bytes. */
const placements = {
  'every second layer': { groupSize: 2, numInGroup: 1, prefetchStep: 2 },
  'last 4 of 8': { groupSize: 8, numInGroup: 4, prefetchStep: 2 },
  'last 4 of 8, 4 slots': { groupSize: 8, numInGroup: 4, prefetchStep: 4 },
}

/** @type {Benchmark} */
export const schedule = {
  summary: 'half of the layers offloaded, at a batch that computes as long as it copies: what is hidden, and predicted',
  async run(context, recorder) {
    const small = context.quick || context.device === 'host'
    const shape = { ...withLayers(modelShape(context), layers), contextLength: small ? 256 : 4096 }
    await inModelDirectory(shape, (directory) =>
      using(async (use) => {
        const limits = use(await Limits.open(context))
        const resident = use(await Prefilling.open(context, shape, directory))
        /** @type {Map<string, Prefilling>} */
        const offloaded = new Map()
        for (const [name, options] of Object.entries(placements)) {
          const offload = configure(prefetch, options)
          offloaded.set(name, use(await Prefilling.open(context, shape, directory, { offload })))
        }
        const [first] = offloaded.values()
        const { offloadedBytes } = /** @type {Prefilling} */ (first).model.stats()
        const copySeconds = offloadedBytes / (await limits.linkSampler())
        const rows = await balancedRows(context, resident, shape, copySeconds)
        recorder.parameters({ model: shape.title, rows, 'offloaded bytes': offloadedBytes })
        await measure(context, recorder, { limits, resident, offloaded, rows, offloadedBytes })
      }),
    )
  },
}

/**
 * So many rows that a step of them computes as long as copies take.
 * @param {Context} context
 * @param {Prefilling} resident
 * @param {ModelShape} shape
 * @param {number} copySeconds
 */
async function balancedRows({ progress }, resident, { contextLength }, copySeconds) {
  const step = contextLength / 32
  let [low, high] = [1, 31]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    progress(`looking for a balanced batch: ${middle * step} rows`)
    if ((await resident.sample({ rows: middle * step, steps: 2 })) < copySeconds) low = middle + 1
    else high = middle
  }
  return low * step
}

/**
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {{ limits: Limits, resident: Prefilling, offloaded: ReadonlyMap<string, Prefilling>, rows: number, offloadedBytes: number }} subjects
 */
async function measure(context, recorder, { limits, resident, offloaded, rows, offloadedBytes }) {
  const steps = context.quick ? 2 : 8
  /** @type {Map<string, TraceEvent[][]>} */
  const traces = new Map([...offloaded.keys()].map((name) => [name, []]))
  const samples = await interleave(
    {
      link: limits.linkSampler,
      resident: () => resident.sample({ rows, steps }),
      ...Object.fromEntries(
        [...offloaded].map(([name, prefilling]) => [
          name,
          async () => {
            const { seconds, events } = await prefilling.tracedSample({ rows, steps })
            traces.get(name)?.push([...events])
            return seconds
          },
        ]),
      ),
    },
    { ...context, rounds: roundsOf(context) },
  )
  const link = Limits.recordLink(recorder, samples('link'))
  recorder.figure('copying alone, a step', 's', [offloadedBytes / link.median])
  const alone = recorder.figure('resident, a step', 's', samples('resident'))
  for (const [name, prefilling] of offloaded) {
    // Of the very steps that were timed: what they computed, not how long they took.
    const times = moduleTimes(traces.get(name) ?? [])
    const { modules } = prefilling.model.explain()
    const last = modules.at(-1)?.module
    // Time between steps is the host's: nothing is computed, and copies go on.
    const computeMs = (/** @type {string} */ module) => times.computeMs(module) + (module === last ? times.gapMs : 0)
    const { predictedStepMs = 0 } = prefilling.model.explain({ rates: { linkBytesPerSecond: link.median, computeMs } })
    const predicted = recorder.figure(`${name}, predicted`, 's', [predictedStepMs / 1000])
    recorder.figure(`${name}, a step`, 's', samples(name), against('prediction', predicted))
    if (times.hiddenFraction > 0) recorder.figure(`${name}, share of copies hidden`, 'times', [times.hiddenFraction])
    else recorder.note(`${name}: waits took as long as copies; nothing was hidden`)
    recorder.figure(`${name}, beside resident`, 's', samples(name), against('peer', alone))

    const { sampled, model } = prefilling
    const { slotBytes, offloadedBytes: own } = model.stats()
    recorder.checkEqual(`${name}: bytes offloaded`, own, offloadedBytes)
    recorder.check({
      name: `${name}: bytes brought in`,
      passed: Math.abs(sampled.onloadedBytes - sampled.steps * own) <= sampled.samples * slotBytes,
      detail: `${sampled.onloadedBytes} in ${sampled.steps} steps, ${own} offloaded`,
    })
    recorder.check({
      name: `${name}: same token as resident`,
      passed: prefilling.tokens.length === 1 && prefilling.tokens[0] === resident.tokens[0],
      detail: `${prefilling.tokens} and ${resident.tokens}`,
    })
  }
  await limits.check(recorder)
}
