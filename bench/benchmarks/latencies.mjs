// @ts-check
import { measure } from '../lib/measure.mjs'
import { duration } from '../lib/samplers.mjs'
import { Kernels } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Context } from '../lib/benchmark.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */
/** @import { Device, DeviceBuffer, TensorView } from '../../packages/core/dist/index.js' */

/** Fewer than a driver's queue holds, so that enqueueing never waits. */
const count = 256
const elements = 64

/**
 * Seconds that one launch, wait, event or replay takes when there is nothing else: what a step costs that moves no bytes.
 * The kernel is the decoder's smallest.
 * @param {Device} device
 * @param {Context} context
 * @param {Recorder} recorder
 */
export function measureLatencies(device, context, recorder) {
  const { signal } = context
  return using(async (use) => {
    const kernels = new Kernels()
    const stream = use(device.createStream())
    const other = use(device.createStream())
    const there = use(device.createEvent())
    const back = use(device.createEvent())
    const input = use(device.allocate(8 * elements, { tag: 'workspace' }))
    const output = use(device.allocate(4 * elements, { tag: 'workspace' }))
    const values = use(await device.allocateHost(8 * elements, { storage: 'pinned', signal }))
    const settle = () => stream.synchronize({ signal })
    const launch = () => kernels.siluMul(stream, { gateUp: row(input, 2 * elements), y: row(output, elements) })
    /** @param {number} times */
    const launchMany = (times) => {
      for (let i = 0; i < times; i++) launch()
    }
    /** @param {number} times */
    const capture = (times) => {
      stream.beginCapture()
      launchMany(times)
      return use(stream.endCapture())
    }

    values.write(new Uint8Array(Float32Array.from({ length: 2 * elements }, (_, i) => (i - elements) / 16).buffer))
    stream.copy(input, values)
    // A kernel is loaded by its first launch, which must not be one in a capture.
    launch()
    const graphOfOne = capture(1)
    const graphOfMany = capture(count)
    // NaN in every element.
    stream.fill(output, 0xff)
    await settle()
    const before = device.counters()

    const samples = await measure(recorder, context, 's', {
      'wait for an idle stream': { sample: duration({ count, run: repeat(settle) }) },
      'launch, enqueued': { sample: duration({ count, run: launchMany, settle }) },
      [`launch, one of ${count}`]: {
        sample: duration({
          count,
          async run(times) {
            launchMany(times)
            await settle()
          },
        }),
      },
      'launch and wait': {
        sample: duration({
          count,
          run: repeat(() => {
            launch()
            return settle()
          }),
        }),
      },
      'event from stream to stream': {
        sample: duration({
          count,
          async run(times) {
            for (let i = 0; i < times; i += 2) {
              stream.record(there)
              other.wait(there)
              other.record(back)
              stream.wait(back)
            }
            await settle()
          },
        }),
      },
      'graph of one kernel, launch and wait': {
        sample: duration({
          count,
          run: repeat(() => {
            stream.launch(graphOfOne)
            return settle()
          }),
        }),
      },
      [`kernel in a graph of ${count}`]: {
        sample: duration({
          count,
          run() {
            stream.launch(graphOfMany)
            return settle()
          },
        }),
      },
    })

    const now = device.counters()
    // Every sample is run twice, once to warm up.
    const runs = 2 * samples('launch and wait').length
    recorder.checkEqual('graphs launched', now.graphLaunches - before.graphLaunches, runs * (count + 1))
    recorder.checkEqual('kernels launched', now.launches - before.launches, runs * 5 * count)
    stream.copy(values, output)
    await settle()
    const found = new Float32Array(values.read(0, 4 * elements).slice().buffer)
    const right = found.filter((value, i) => {
      const [gate, up] = [(i - elements) / 16, i / 16]
      return Math.abs(value - (gate / (1 + Math.exp(-gate))) * up) < 1e-4
    })
    const detail = `${right.length} of ${elements} numbers are right`
    recorder.check({ name: 'result of the launches', passed: right.length === elements, detail })
  })
}

/** @param {() => Promise<void>} step */
function repeat(step) {
  /** @param {number} times */
  return async (times) => {
    for (let i = 0; i < times; i++) await step()
  }
}

/**
 * @param {DeviceBuffer} buffer
 * @param {number} columns
 * @returns {TensorView}
 */
function row(buffer, columns) {
  return { buffer, offset: 0, dtype: 'f32', shape: [1, columns], stride: [columns, 1] }
}
