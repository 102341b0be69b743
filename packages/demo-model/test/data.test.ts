import { expect, test } from 'vitest'
import { bookWords, heldOut, heldOutFraction, trainingText, wordsOf } from '../training/book.mjs'
import { byteTrigramBitsPerByte } from '../training/byte-trigram.mjs'
import { committedSamples, describeSamples, readEvaluation } from '../training/evaluate.mjs'
import { checkedBook } from '../training/prepare.mjs'
import { longestVerbatimSpan } from '../training/verbatim.mjs'

const paragraphsOf = (text: string) => text.trimEnd().split('\n\n')

test('the installed package gives the texts the model was trained and is tested on', () => {
  // Throws when a size or a SHA-256 differs from training/data.json.
  const book = checkedBook()
  expect(book.training === trainingText() && book.heldOut === heldOut()).toBe(true)
})

test('the held-out part is the end of the book and shares no paragraph with the rest', () => {
  const training = paragraphsOf(trainingText())
  const held = paragraphsOf(heldOut())
  expect(training.length).toBeGreaterThan(2000)
  expect(held.length).toBeGreaterThan(100)
  // No paragraph twice, in either part or across both: the package holds every chapter two times over.
  expect(new Set([...training, ...held]).size).toBe(training.length + held.length)
  const bytes = Buffer.byteLength(heldOut())
  const share = bytes / (bytes + Buffer.byteLength(trainingText()))
  expect(share).toBeGreaterThan(heldOutFraction - 0.001)
  expect(share).toBeLessThanOrEqual(heldOutFraction)
  expect(training[0]).toBe('CHAPTER 1. Loomings.')
  expect(held.at(-1)).toContain('the great shroud of the sea rolled on')
  // What distributors put around a text; a match, not the whole book, is what a failure then prints.
  expect(/gutenberg|stdlib|creative commons|©|https?:/i.exec(trainingText() + heldOut())).toBeNull()
})

test('the byte trigram is a distribution and knows what it has seen', () => {
  // Of 256 successors of "th" in this text, 128 are ASCII and can be asked for one by one; the others, never seen, are
  // each as likely as the unseen byte \x01.
  const text = 'the thin thing there; that ship then; thus, thrice'
  const bits = (test: string) => byteTrigramBitsPerByte(text, test) * test.length
  const context = bits('th')
  const probability = (next: string) => 2 ** (context - bits(`th${next}`))
  let sum = 128 * probability('\x01')
  for (let code = 0; code < 128; code++) sum += probability(String.fromCharCode(code))
  expect(sum).toBeCloseTo(1, 9)
  expect(probability('e')).toBeGreaterThan(probability('u'))
  expect(probability('u')).toBeGreaterThan(probability('s'))
  expect(probability('s')).toBeGreaterThan(probability('\x01'))
})

test('the longest copied stretch is found, however its lines break', () => {
  const copied = 'having little or no money in my purse, and nothing particular to interest me on shore'
  const found = longestVerbatimSpan(`Zebra qqq ${copied.replaceAll(' ', '\n')} xylophone. It is a way I have.`)
  expect(found.trim()).toBe(copied)
  expect(trainingText().includes(found)).toBe(true)
  expect(longestVerbatimSpan('')).toBe('')
  expect(longestVerbatimSpan('\u0001\u0002')).toBe('')
})

test('words of the book are told from others', () => {
  expect(wordsOf("The whale’s head; don't—Town-Ho 1820.")).toEqual(['the', 'whale’s', 'head', 'don’t', 'town', 'ho'])
  const words = bookWords()
  expect(words.size).toBeGreaterThan(15_000)
  for (const word of ['whale', 'ishmael', 'queequeg', 'etherial']) expect(words).toContain(word)
  for (const word of ['telephone', 'theount', 'congress’s']) expect(words).not.toContain(word)
})

test('the committed results keep the committed bounds', () => {
  const { bounds, model, byteTrigramBitsPerByte: trigram, samples } = readEvaluation()
  expect(model.heldOutBytes).toBe(Buffer.byteLength(heldOut()))
  expect(model.bitsPerByte).toBeLessThanOrEqual(bounds.bitsPerByte)
  expect(byteTrigramBitsPerByte(trainingText(), heldOut())).toBeCloseTo(trigram, 9)
  expect(bounds.bitsPerByte).toBeLessThan(trigram)
  expect(samples.words).toBeGreaterThanOrEqual(2000)
  expect(samples.wordsOfTheBook).toBeGreaterThanOrEqual(bounds.wordsOfTheBook)
  expect(bounds.wordsOfTheBook).toBeGreaterThanOrEqual(0.95)
})

test('the committed samples are what the committed description says', () => {
  const { samples } = readEvaluation()
  const texts = committedSamples()
  expect(texts).toHaveLength(samples.count)
  expect(samples).toMatchObject(describeSamples(texts))
})
