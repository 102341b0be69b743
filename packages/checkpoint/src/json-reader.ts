import { quote } from './checkpoint-error.js'

const depthLimit = 64
/**
 * Twice what the largest published models have; without it a header of 100 MB could fill the heap with tiny keys, and
 * nothing catches that.
 */
const keyLimit = 500_000

const space = 0x20
const doubleQuote = 0x22
const comma = 0x2c
const minus = 0x2d
const plus = 0x2b
const dot = 0x2e
const zero = 0x30
const nine = 0x39
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/**
 * Reads JSON of unknown origin where the caller says what it expects: no tree of the document is ever built, a key
 * that is there twice in one object is an error (JSON.parse silently keeps the last one, so two programs could see two
 * different models in one file), nesting is bounded, and `__proto__` is a key like any other.
 *
 * Works on bytes, not on one large string: V8 makes slices of a string keep all of it alive, and names outlive the
 * header. `bytes` must be valid UTF-8 (`isUtf8` of node:buffer).
 */
export class JsonReader {
  readonly #bytes: Buffer
  readonly #fail: (reason: string) => never
  #at = 0
  #depth = 0

  /** `fail` must throw; it gets a clause such as `the JSON is malformed at byte 7`. */
  constructor(bytes: Uint8Array, fail: (reason: string) => never) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#fail = fail
  }

  /** Calls `member` with each key; it must read exactly one value. */
  object(member: (key: string) => void): void {
    this.#open(openBrace, 'an object')
    const keys = new Set<string>()
    if (!this.#closed(closeBrace)) {
      do {
        const key = this.string()
        if (keys.has(key)) this.#fail(`the key ${quote(key)} is there twice in one JSON object`)
        if (keys.size === keyLimit) this.#fail(`one JSON object has more than ${keyLimit} keys`)
        keys.add(key)
        this.#expect(colon, 'a colon')
        member(key)
      } while (this.#more(closeBrace))
    }
    this.#depth--
  }

  /** Calls `element` once for each element; it must read exactly one value. */
  array(element: () => void): void {
    this.#open(openBracket, 'an array')
    if (!this.#closed(closeBracket)) {
      do element()
      while (this.#more(closeBracket))
    }
    this.#depth--
  }

  string(): string {
    this.#expect(doubleQuote, 'a string')
    const start = this.#at
    let escaped = false
    for (;;) {
      const byte = this.#bytes[this.#at++]
      if (byte === doubleQuote) break
      if (byte === undefined || byte < space) this.#malformed('a string that ends, without control characters')
      if (byte === backslash) {
        escaped = true
        this.#at++
      }
    }
    if (!escaped) return this.#bytes.toString('utf8', start, this.#at - 1)
    let text: unknown
    try {
      text = JSON.parse(this.#bytes.toString('utf8', start - 1, this.#at))
    } catch {
      this.#malformed('a known escape in a string')
    }
    // Half a surrogate pair has no UTF-8 form: such a name could not be written to a file or a message again.
    if (typeof text !== 'string' || /\p{Cs}/u.test(text)) this.#malformed('whole characters in a string')
    return text
  }

  /** The literal as written: what is acceptable (sign, fraction, size) is for the caller to say. */
  number(): string {
    this.#skipSpace()
    const start = this.#at
    if (this.#bytes[this.#at] === minus) this.#at++
    if (this.#bytes[this.#at] === zero) this.#at++
    else this.#digits()
    if (this.#bytes[this.#at] === dot) {
      this.#at++
      this.#digits()
    }
    if (((this.#bytes[this.#at] ?? 0) | 0x20) === 0x65) {
      this.#at++
      const sign = this.#bytes[this.#at]
      if (sign === plus || sign === minus) this.#at++
      this.#digits()
    }
    return this.#bytes.toString('latin1', start, this.#at)
  }

  /** Reads any value and drops it. Duplicate keys inside it are errors all the same. */
  skip(): void {
    this.#skipSpace()
    const byte = this.#bytes[this.#at]
    if (byte === openBrace) this.object(() => this.skip())
    else if (byte === openBracket) this.array(() => this.skip())
    else if (byte === doubleQuote) this.string()
    else if (!['true', 'false', 'null'].some((word) => this.#word(word))) this.number()
  }

  /** Nothing but white space may follow. */
  end(): void {
    this.#skipSpace()
    if (this.#at < this.#bytes.length) this.#malformed('nothing more')
  }

  #word(word: string): boolean {
    if (this.#bytes.toString('latin1', this.#at, this.#at + word.length) !== word) return false
    this.#at += word.length
    return true
  }

  #digits(): void {
    const start = this.#at
    for (let byte = this.#bytes[start]; byte !== undefined && byte >= zero && byte <= nine; )
      byte = this.#bytes[++this.#at]
    if (this.#at === start) this.#malformed('a value')
  }

  #open(byte: number, what: string): void {
    this.#expect(byte, what)
    if (++this.#depth > depthLimit) this.#fail(`the JSON is nested more than ${depthLimit} levels deep`)
  }

  #closed(close: number): boolean {
    this.#skipSpace()
    if (this.#bytes[this.#at] !== close) return false
    this.#at++
    return true
  }

  #more(close: number): boolean {
    if (this.#closed(close)) return false
    this.#expect(comma, 'a comma')
    return true
  }

  #expect(byte: number, what: string): void {
    this.#skipSpace()
    if (this.#bytes[this.#at] !== byte) this.#malformed(what)
    this.#at++
  }

  #skipSpace(): void {
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte !== space && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return
      this.#at++
    }
  }

  #malformed(expected: string): never {
    this.#fail(`the JSON is malformed at byte ${Math.min(this.#at, this.#bytes.length)}: expected ${expected}`)
  }
}

/** The number a literal stands for when it is an integer from 0 to 2^53 - 1, written without fraction or exponent. */
export function safeIntegerOf(literal: string): number | undefined {
  if (!/^\d{1,16}$/.test(literal)) return undefined
  const value = Number(literal)
  return Number.isSafeInteger(value) ? value : undefined
}
