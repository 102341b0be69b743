#!/usr/bin/env node
// Completes evaluation.json with what needs no model: node evaluate.mjs, after evaluate.py.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { bookWords, heldOut, trainingText, wordsOf } from './book.mjs'
import { byteTrigramBitsPerByte } from './byte-trigram.mjs'
import { longestVerbatimSpan } from './verbatim.mjs'

const evaluationUrl = new URL('evaluation.json', import.meta.url)

/** What evaluation.json says, bounds and results. */
export function readEvaluation() {
  return JSON.parse(readFileSync(evaluationUrl, 'utf8'))
}

/** The texts that evaluate.py sampled. */
export function committedSamples() {
  return readFileSync(new URL('samples.txt', import.meta.url), 'utf8').split(/\n={72}\n/)
}

/** How many words sampled texts have, how many of them are words of the book, and their longest stretch copied from it. */
export function describeSamples(texts) {
  const known = bookWords()
  const words = texts.flatMap((text) => wordsOf(text))
  const spans = texts.map((text) => longestVerbatimSpan(text))
  const longest = spans.reduce((best, span) => (span.length > best.length ? span : best), '')
  return {
    words: words.length,
    wordsOfTheBook: words.filter((word) => known.has(word)).length / words.length,
    longestVerbatimSpan: longest,
    longestVerbatimSpanCharacters: longest.length,
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const evaluation = readEvaluation()
  evaluation.byteTrigramBitsPerByte = byteTrigramBitsPerByte(trainingText(), heldOut())
  Object.assign(evaluation.samples, describeSamples(committedSamples()))
  writeFileSync(evaluationUrl, `${JSON.stringify(evaluation, null, 2)}\n`)
  console.log(evaluation)
}
