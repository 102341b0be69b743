// @ts-check
import { against } from '../lib/figure.mjs'
import { deviceMemoryName, limitSizes, sampleSeconds } from '../lib/limits.mjs'
import { measure } from '../lib/measure.mjs'
import { modelShape } from '../lib/model-shape.mjs'
import { productForms } from '../lib/product-forms.mjs'
import { Reading } from '../lib/reading.mjs'
import { openDevice } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { Benchmark } from '../lib/benchmark.ts' */
/** @import { Subject } from '../lib/measure.mjs' */

const MiB = 2 ** 20

/** @type {Benchmark} */
export const products = {
  summary: 'the matrix products of one decoded token, each by its own, with and without the small kernels beside them',
  run: (context, recorder) =>
    using(async (use) => {
      const device = use(await openDevice(context.device))
      const { config, title } = modelShape(context)
      recorder.parameters({ model: title })
      const { readBytes } = limitSizes(context, device.budget.limitBytes)
      const options = { seconds: sampleSeconds(context), signal: context.signal }
      const before = device.counters()
      const limit = use(await Reading.create(device, { from: 'device', bytes: readBytes, signal: context.signal }))
      /** @type {Record<string, Subject>} */
      const subjects = { [deviceMemoryName]: { sample: limit.sampler(options) } }
      const readings = [limit]
      /** Bytes of a token, by the subject that reads them. @type {Map<string, number>} */
      const tokenBytes = new Map()
      for (const { name, outputs, inputs, form, perToken } of productsOf(config)) {
        const bytes = wholeMatrices(2 * outputs * inputs, readBytes)
        const shape = { bytes, inputs, outputs, form }
        const reading = use(await Reading.create(device, { from: 'device', ...shape, signal: context.signal }))
        readings.push(reading)
        const subject = `${name}, ${outputs} × ${inputs}`
        subjects[subject] = { sample: reading.sampler(options), limit: deviceMemoryName }
        if (perToken > 0) tokenBytes.set(subject, 2 * outputs * inputs * perToken)
      }
      const prepared = device.counters().launches - before.launches
      const samples = await measure(recorder, context, 'bytes/s', subjects)
      const rates = together(tokenBytes, samples)
      const bound = against('limit', recorder.recorded(deviceMemoryName))
      recorder.figure('all of one token, one after another', 'bytes/s', rates, bound)
      const launched = device.counters().launches - before.launches - prepared
      recorder.checkEqual(
        'products',
        launched,
        readings.reduce((sum, { launches }) => sum + launches, 0),
      )
      for (const [i, name] of Object.keys(subjects).entries()) {
        const reading = readings[i]
        if (reading) recorder.check(await reading.check(`result of ${name}`))
      }
    }),
}

/**
 * Bytes a second over all of them, by the sum of their times; a sample for each of theirs.
 * @param {ReadonlyMap<string, number>} bytes
 * @param {(name: string) => readonly number[]} samples
 */
function together(bytes, samples) {
  const [first = ''] = bytes.keys()
  const total = [...bytes.values()].reduce((sum, one) => sum + one, 0)
  return samples(first).map((_, i) => {
    const seconds = [...bytes].reduce((sum, [name, one]) => sum + one / Number(samples(name)[i]), 0)
    return total / seconds
  })
}

/**
 * A layer's products, as the decoder fuses them, and the head; those with small kernels beside them also with these
 * launched by themselves.
 * @param {Readonly<Record<string, unknown>>} config
 */
function productsOf(config) {
  const size = /** @param {string} key */ (key) => Number(config[key])
  const hidden = size('hidden_size')
  const headDim = hidden / size('num_attention_heads')
  const qkv = (size('num_attention_heads') + 2 * size('num_key_value_heads')) * headDim
  const ffn = size('intermediate_size')
  const perToken = size('num_hidden_layers')
  const { linear, normLinear, normSwiglu } = productForms
  return [
    { name: 'norm and qkv', outputs: qkv, inputs: hidden, form: normLinear, perToken },
    { name: 'norm, then qkv', outputs: qkv, inputs: hidden, form: productForms['norm, linear'], perToken: 0 },
    { name: 'o', outputs: hidden, inputs: hidden, form: linear, perToken },
    { name: 'norm, gate, up and activation', outputs: 2 * ffn, inputs: hidden, form: normSwiglu, perToken },
    {
      name: 'norm, then gate and up, then activation',
      outputs: 2 * ffn,
      inputs: hidden,
      form: productForms['norm, linear, siluMul'],
      perToken: 0,
    },
    { name: 'down', outputs: hidden, inputs: ffn, form: linear, perToken },
    { name: 'head', outputs: size('vocab_size'), inputs: hidden, form: linear, perToken: 1 },
  ]
}

/**
 * So many matrices that no cache holds a part of them worth mentioning; whole MiB.
 * @param {number} matrixBytes
 * @param {number} atLeast
 */
function wholeMatrices(matrixBytes, atLeast) {
  let bytes = matrixBytes * Math.max(2, Math.ceil(atLeast / 4 / matrixBytes))
  while (bytes % MiB !== 0) bytes += matrixBytes
  return bytes
}
