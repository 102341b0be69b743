import type { Device } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { openDevice } from '@spillway/device'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { heldOut, trainingText } from '../../packages/demo-model/training/book.mjs'
import { byteTrigramBitsPerByte } from '../../packages/demo-model/training/byte-trigram.mjs'
import { describeSamples, readEvaluation } from '../../packages/demo-model/training/evaluate.mjs'

// What packages/demo-model/training/README.md says of the model, measured again with our own tokenizer and decoder.
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

/** What `next` costs after `logits`. In double precision: the sum over a whole text would add up the errors. */
function bitsOf(logits: Float32Array, next: number): number {
  let largest = Number.NEGATIVE_INFINITY
  for (const value of logits) if (value > largest) largest = value
  let sum = 0
  for (const value of logits) sum += Math.exp(value - largest)
  return (Math.log(sum) + largest - logits[next]!) / Math.LN2
}

/** The text as one piece, in windows that do not overlap, each after BOS; over the text's UTF-8 bytes. */
async function bitsPerByte(text: string): Promise<number> {
  const tokenizer = model.tokenizer!
  const bos = tokenizer.tokenId(tokenizer.bosToken!)!
  const tokens = tokenizer.encode(text, { addSpecialTokens: false })
  expect(tokens).toHaveLength(evaluation.model.heldOutTokens)
  const step = evaluation.model.windowTokens - 1
  let bits = 0
  for (let start = 0; start < tokens.length; start += step) {
    const window = tokens.slice(start, start + step)
    const logits = await model.logits([bos, ...window.slice(0, -1)])
    for (const [i, token] of window.entries()) bits += bitsOf(logits[i]!, token)
  }
  return bits / Buffer.byteLength(text)
}

test('held-out text costs as few bits per byte as promised, in our decoder as in the one it was measured with', async () => {
  const ours = await bitsPerByte(heldOut())
  const trigram = byteTrigramBitsPerByte(trainingText(), heldOut())
  console.log(`bits per byte: ${ours.toFixed(4)}; of a byte trigram: ${trigram.toFixed(4)}`)
  expect(ours).toBeLessThanOrEqual(evaluation.bounds.bitsPerByte)
  expect(ours).toBeLessThan(trigram)
  // Weights as stored, fp32 arithmetic in both: only the order of additions differs.
  expect(Math.abs(ours - evaluation.model.bitsPerByte)).toBeLessThan(1e-4)
})

test('text sampled from nothing is made of words of the book, and is not the book', async () => {
  const texts: string[] = []
  for (let seed = 0; seed < 6; seed++) {
    const sampling = { temperature: evaluation.samples.temperature, topK: 0, topP: 1, seed }
    let text = ''
    for await (const step of model.generate('', { ...sampling, maxTokens: 400 })) text += step.text
    texts.push(text)
  }
  const described = describeSamples(texts)
  const percent = (100 * described.wordsOfTheBook).toFixed(1)
  console.log(
    `${percent} % of ${described.words} sampled words are words of the book; longest copied stretch: ` +
      `${described.longestVerbatimSpanCharacters} characters, "${described.longestVerbatimSpan}"`,
  )
  expect(described.words).toBeGreaterThanOrEqual(1000)
  expect(described.wordsOfTheBook).toBeGreaterThanOrEqual(evaluation.bounds.wordsOfTheBook)
  // A model that knew the book by heart would pass both tests. Two parts of the book share stretches of 33.
  expect(described.longestVerbatimSpanCharacters).toBeLessThan(100)
})
