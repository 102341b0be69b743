// @ts-check
import { Copy } from '../lib/copy.mjs'
import { deviceMemoryName, limitSizes, linkName, sampleSeconds } from '../lib/limits.mjs'
import { measure } from '../lib/measure.mjs'
import { Reading } from '../lib/reading.mjs'
import { throughput } from '../lib/samplers.mjs'
import { formatBytes, openDevice } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'
import { measureLatencies } from './latencies.mjs'

/** @import { Device } from '../../packages/core/dist/index.js' */
/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { Subject } from '../lib/measure.mjs' */
/** @import { Recorder } from '../lib/recorder.mjs' */

/** @type {Benchmark} */
export const device = {
  summary: 'the limits themselves: link, device memory, small copies, latencies of launches, events and graphs',
  run: (context, recorder) =>
    using(async (use) => {
      const opened = use(await openDevice(context.device))
      await measureBandwidths(opened, context, recorder)
      await measureLatencies(opened, context, recorder)
    }),
}

/**
 * @param {Device} opened
 * @param {Context} context
 * @param {Recorder} recorder
 */
function measureBandwidths(opened, context, recorder) {
  const { signal } = context
  const { linkBytes, copyBytes, readBytes } = limitSizes(context, opened.budget.limitBytes)
  recorder.parameters({ linkBytes, copyBytes, readBytes })
  return using(async (use) => {
    const link = { bytes: linkBytes, signal }
    const up = use(await Copy.create(opened, { ...link, from: 'pinned', to: 'device' }))
    const down = use(await Copy.create(opened, { ...link, from: 'device', to: 'pinned' }))
    const pageable = use(await Copy.create(opened, { ...link, from: 'pageable', to: 'device' }))
    const within = use(await Copy.create(opened, { bytes: copyBytes, signal, from: 'device', to: 'device' }))
    const mapped = use(await Reading.create(opened, { ...link, from: 'mapped' }))
    const resident = use(await Reading.create(opened, { bytes: readBytes, signal, from: 'device' }))
    const before = opened.counters()

    const options = { seconds: sampleSeconds(context), signal }
    const bothWays = throughput({
      enqueue() {
        up.enqueue()
        down.enqueue()
      },
      work: linkBytes,
      streams: [up.stream, down.stream],
      ...options,
    })
    /** @type {Record<string, Subject>} */
    const subjects = {
      [linkName]: { sample: up.sampler(options) },
      'link, device to pinned host': { sample: down.sampler(options) },
      'link, both ways at once, each': { sample: bothWays, limit: linkName },
      'link, pageable host to device': { sample: pageable.sampler(options), limit: linkName },
      'link, mapped memory read by a kernel': { sample: mapped.sampler(options), limit: linkName },
      [deviceMemoryName]: { sample: resident.sampler(options) },
      'device memory, copy within it': { sample: within.sampler(options), limit: deviceMemoryName },
    }
    for (const pieceBytes of [2 ** 16, 2 ** 19, 2 ** 22].filter((bytes) => bytes < linkBytes)) {
      const pieces = { ...options, pieceBytes }
      const batch = Math.min(64, linkBytes / pieceBytes)
      const name = `copies of ${formatBytes(pieceBytes)}`
      subjects[`${name}, in batches of ${batch}`] = { sample: up.batchSampler({ ...pieces, batch }), limit: linkName }
      subjects[`${name}, one after another`] = { sample: up.sampler(pieces), limit: linkName }
      const sample = up.sampler({ ...pieces, waitForEach: true })
      subjects[`${name}, each waited for`] = { sample, limit: linkName }
    }
    await measure(recorder, context, 'bytes/s', subjects)

    const now = opened.counters()
    const counted = {
      'bytes to the device': [
        now.hostToDeviceBytes - before.hostToDeviceBytes,
        up.enqueuedBytes + pageable.enqueuedBytes,
      ],
      'bytes to the host': [now.deviceToHostBytes - before.deviceToHostBytes, down.enqueuedBytes],
      'bytes within the device': [now.deviceToDeviceBytes - before.deviceToDeviceBytes, within.enqueuedBytes],
      'reading kernels': [now.launches - before.launches, mapped.launches + resident.launches],
    }
    for (const [name, [found = 0, enqueued = 0]] of Object.entries(counted)) recorder.checkEqual(name, found, enqueued)
    for (const [name, subject] of Object.entries({ up, down, pageable, within, mapped, resident })) {
      recorder.check(await subject.check(`result of ${name}`))
    }
  })
}
