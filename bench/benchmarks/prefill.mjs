// @ts-check
import { DevicePeak } from '../lib/device-peak.mjs'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { Limits, roundsOf } from '../lib/limits.mjs'
import { inModelDirectory, modelShape } from '../lib/model-shape.mjs'
import { Prefilling } from '../lib/prefilling.mjs'
import { configure, prefetch } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark } from '../lib/benchmark.ts' */

/** @type {Benchmark} */
export const prefill = {
  summary:
    'a prompt of 1024 tokens with all layers offloaded: its share of the link, and memory beside what was planned',
  async run(context, recorder) {
    const small = context.quick || context.device === 'host'
    const rows = small ? 64 : 1024
    const shape = { ...modelShape(context), contextLength: rows + 1 }
    recorder.parameters({ model: shape.title, rows })
    await inModelDirectory(shape, (directory) =>
      using(async (use) => {
        const limits = use(await Limits.open(context))
        const peak = small ? undefined : use(new DevicePeak())
        const offload = configure(prefetch, { groupSize: 1 })
        const prefilling = use(await Prefilling.open(context, shape, directory, { offload }))
        await prefilling.sample({ rows, steps: 1 })
        peak?.stop()
        const steps = context.quick ? 2 : 4
        const samples = await interleave(
          {
            link: limits.linkSampler,
            prefill: async () => rows / (await prefilling.sample({ rows, steps })),
          },
          { ...context, rounds: roundsOf(context) },
        )
        peak?.look()
        const { model, device, sampled } = prefilling
        const link = Limits.recordLink(recorder, samples('link'))
        const bytesPerToken = sampled.onloadedBytes / (sampled.steps * rows)
        recorder.figure('prefill, prefetch', 'tokens/s', samples('prefill'), against('limit', link, bytesPerToken))

        const { memory } = model.explain()
        const { peakDeviceBytes, offloadedBytes, slotBytes } = model.stats()
        const plan = recorder.figure('device memory, planned', 'bytes', [memory.deviceBytes])
        recorder.figure('its peak, by the budget', 'bytes', [peakDeviceBytes], against('prediction', plan))
        if (peak !== undefined) {
          recorder.figure('its peak, by the driver', 'bytes', [peak.bytes], against('prediction', plan))
        }
        const { pinnedBytes, mappedBytes, pageableBytes } = device.counters()
        const host = recorder.figure('weights offloaded', 'bytes', [offloadedBytes])
        recorder.figure(
          'host memory',
          'bytes',
          [pinnedBytes + mappedBytes + pageableBytes],
          against('prediction', host),
        )
        recorder.check({
          name: 'bytes brought in',
          passed: Math.abs(sampled.onloadedBytes - sampled.steps * offloadedBytes) <= sampled.samples * slotBytes,
          detail: `${sampled.onloadedBytes} in ${sampled.steps} steps, ${offloadedBytes} offloaded`,
        })
        await limits.check(recorder)
      }),
    )
  },
}
