import { trainingText } from './book.mjs'

/**
 * The longest stretch of `sample`, in UTF-16 units, that also stands in the training text.
 * White space is compared as one space, so that where a sample breaks its lines does not hide a copy.
 */
export function longestVerbatimSpan(sample) {
  const text = trainingText().replaceAll(/\s+/g, ' ')
  const flat = sample.replaceAll(/\s+/g, ' ')
  // Whatever contains a common stretch of n characters contains one of n - 1: bisection.
  let longest = ''
  let tooLong = flat.length + 1
  while (longest.length + 1 < tooLong) {
    const length = Math.floor((longest.length + tooLong) / 2)
    const found = commonStretch(text, flat, length)
    if (found === undefined) tooLong = length
    else longest = found
  }
  return longest
}

/** Rabin and Karp's search for any of the sample's stretches of one length; a hash that agrees is checked. */
function commonStretch(text, sample, length) {
  const wanted = new Map()
  forEachHash(sample, length, (hash, start) => {
    const starts = wanted.get(hash)
    if (starts === undefined) wanted.set(hash, [start])
    else starts.push(start)
    return false
  })
  let found
  forEachHash(text, length, (hash, start) => {
    const starts = wanted.get(hash)
    if (starts === undefined) return false
    const stretch = text.slice(start, start + length)
    if (!starts.some((at) => sample.startsWith(stretch, at))) return false
    found = stretch
    return true
  })
  return found
}

function forEachHash(text, length, visit) {
  const base = 0x01000193
  let outgoing = 1
  for (let i = 1; i < length; i++) outgoing = Math.imul(outgoing, base)
  let hash = 0
  for (let end = 0; end < text.length; end++) {
    if (end >= length) hash = (hash - Math.imul(text.charCodeAt(end - length), outgoing)) | 0
    hash = (Math.imul(hash, base) + text.charCodeAt(end)) | 0
    if (end >= length - 1 && visit(hash, end - length + 1)) return
  }
}
