/**
 * Bits per byte that a byte trigram model, trained on one text, spends on another: each byte is predicted from the two
 * before it. The estimate interpolates the orders 2, 1, 0 and the uniform distribution by Witten and Bell's rule ("The
 * zero-frequency problem", 1991, method C): a context seen n times with t different successors keeps n / (n + t) of the
 * weight and hands t / (n + t) to the next shorter context.
 */
export function byteTrigramBitsPerByte(trainingText, testText) {
  const training = Buffer.from(trainingText, 'utf8')
  const test = Buffer.from(testText, 'utf8')
  const unigram = counts(training, 0)
  const bigram = counts(training, 1)
  const trigram = counts(training, 2)
  let bits = 0
  for (let i = 0; i < test.length; i++) {
    const byte = test[i]
    let probability = interpolate(unigram, 0, byte, 1 / 256)
    // The first bytes have the training text's end before them, as the model's windows have theirs.
    const last = i >= 1 ? test[i - 1] : training[training.length - 1]
    const beforeLast = i >= 2 ? test[i - 2] : training[training.length - 2 + i]
    probability = interpolate(bigram, last, byte, probability)
    probability = interpolate(trigram, beforeLast * 256 + last, byte, probability)
    bits -= Math.log2(probability)
  }
  return bits / test.length
}

function counts(bytes, order) {
  const contexts = 256 ** order
  const occurrences = new Uint32Array(contexts * 256)
  const seen = new Uint32Array(contexts)
  const successors = new Uint32Array(contexts)
  for (let i = order; i < bytes.length; i++) {
    let context = 0
    for (let back = order; back >= 1; back--) context = context * 256 + bytes[i - back]
    const entry = context * 256 + bytes[i]
    if (occurrences[entry] === 0) successors[context]++
    occurrences[entry]++
    seen[context]++
  }
  return { occurrences, seen, successors }
}

function interpolate({ occurrences, seen, successors }, context, byte, shorter) {
  const total = seen[context] + successors[context]
  if (total === 0) return shorter
  return (occurrences[context * 256 + byte] + successors[context] * shorter) / total
}
