/**
 * Text of a growing sequence of tokens, given out only when it is certain: never half a character, because a token may
 * end within a UTF-8 sequence, and never a part of a stop string, because one may begin in a token and end in another.
 *
 * What was given out so far is always a prefix of what decoding all bytes at once gives. Bytes that are not UTF-8 become
 * U+FFFD as soon as that is certain, as by the WHATWG's decoder.
 */
export class TextStream {
  // ignoreBOM: a U+FEFF at the start is text like any other, not a mark to be dropped.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  readonly #stop: readonly string[]
  #held = ''
  #stopped: string | undefined

  /** Stop strings are well-formed UTF-16. Empty ones are ignored: every text begins with one. */
  constructor(stop: readonly string[] = []) {
    this.#stop = stop.filter((text) => text !== '')
  }

  /** The stop string that ended the text; it is not part of it. */
  get stopped(): string | undefined {
    return this.#stopped
  }

  /** Takes a token's bytes; returns the text that became certain, often ''. After a stop string: always ''. */
  push(bytes: Uint8Array): string {
    return this.#release(this.#utf8.decode(bytes, { stream: true }), false)
  }

  /** The end: returns what was held back. An unfinished character becomes U+FFFD. */
  flush(): string {
    return this.#release(this.#utf8.decode(), true)
  }

  #release(text: string, atEnd: boolean): string {
    if (this.#stopped !== undefined) return ''
    this.#held += text
    const match = firstMatch(this.#held, this.#stop)
    if (match !== undefined) {
      const before = this.#held.slice(0, match.at)
      this.#stopped = match.text
      this.#held = ''
      return before
    }
    const held = atEnd ? 0 : heldLength(this.#held, this.#stop)
    const certain = this.#held.slice(0, this.#held.length - held)
    this.#held = this.#held.slice(this.#held.length - held)
    return certain
  }
}

/** The match that ends first, so that the text does not depend on how it was cut into tokens; of those, the longest. */
function firstMatch(text: string, stop: readonly string[]): { at: number; text: string } | undefined {
  let first: { at: number; text: string } | undefined
  for (const candidate of stop) {
    const at = text.indexOf(candidate)
    if (at < 0) continue
    const later = first === undefined ? -1 : at + candidate.length - (first.at + first.text.length)
    if (first === undefined || later < 0 || (later === 0 && at < first.at)) first = { at, text: candidate }
  }
  return first
}

/** Length of the longest end of `text` with which some stop string begins. */
function heldLength(text: string, stop: readonly string[]): number {
  let longest = 0
  for (const candidate of stop) {
    for (let length = Math.min(candidate.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(candidate.slice(0, length))) longest = length
    }
  }
  return longest
}
