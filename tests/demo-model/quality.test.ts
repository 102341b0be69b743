import { type Device, isSpillwayError } from '@spillway/core'
import { type Model, loadModel } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { openDevice } from '@spillway/device'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { heldOut } from '../../packages/demo-model/training/book.mjs'
import { describeSamples, readEvaluation } from '../../packages/demo-model/training/evaluate.mjs'

const evaluation = readEvaluation()
let device: Device
let model: Model

beforeAll(async () => {
  device = await openDevice('host', { memoryLimitBytes: 64 * 2 ** 20 })
  model = await loadModel(modelDirectory(), { device })
})

afterAll(async () => {
  await model?.dispose()
  await device?.dispose()
})

/** Bits that `next` costs after `logits`; the sum is in double precision, as its error would add up over the text. */
function bitsOf(logits: Float32Array, next: number): number {
  const largest = logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY)
  let sum = 0
  for (const value of logits) sum += Math.exp(value - largest)
  return (Math.log(sum) + largest - (logits[next] as number)) / Math.LN2
}

test('held-out text costs our decoder as many bits per byte as it cost in training, less than a trigram of bytes', async () => {
  const text = heldOut()
  const bos = model.tokenizer!.tokenId('<s>')
  const tokens = model.tokenizer!.encode(text, { addSpecialTokens: false })
  expect(isSpillwayError).toBeDefined()
  console.log(bos, model.tokenizer!.bosToken, tokens.length)
  const t = performance.now()
  let bits = 0
  for (let start = 0; start < tokens.length; start += 511) {
    const window = tokens.slice(start, start + 511)
    const logits = await model.logits([0, ...window.slice(0, -1)])
    for (const [i, token] of window.entries()) bits += bitsOf(logits[i]!, token)
  }
  console.log(bits / Buffer.byteLength(text), evaluation.model.bitsPerByte, performance.now() - t)
})

test('words', async () => {
  const t = performance.now()
  const texts: string[] = []
  for (let seed = 0; seed < 5; seed++) {
    let text = ''
    for await (const step of model.generate('', { temperature: 0.8, topK: 0, topP: 1, seed, maxTokens: 400 })) text += step.text
    texts.push(text)
  }
  console.log(describeSamples(texts), performance.now() - t)
})
