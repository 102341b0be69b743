import { printable, SpillwayError } from '@spillway/core'
import { isJsonObject, type JsonObject, member } from './json-file.js'

/** A larger id is no token of any model; ids become indexes. */
const tokenIdLimit: number = 2 ** 24

/** What each token stands for, in bytes: a character may be cut in two by the end of a token. */
export interface TokenBytes {
  /** Empty for an id the tokenizer does not know: models are often padded to a round vocabulary. */
  bytesOf(token: number): Uint8Array
  isSpecial(token: number): boolean
  /** Characters the decoder drops from the start of a whole text, and how many at most. */
  readonly strip: { readonly content: string; readonly count: number }
  /** Token ids by content, added tokens included. */
  readonly ids: ReadonlyMap<string, number>
}

/** One vocabulary entry's bytes, as the decoder of tokenizer.json defines them. */
type PieceBytes = (piece: string) => Uint8Array

interface PieceDecoder {
  readonly bytes: PieceBytes
  readonly strip: { readonly content: string; readonly count: number }
}

const noBytes = new Uint8Array(0)
const utf8 = new TextEncoder()
const noStrip = Object.freeze({ content: '', count: 0 })
const supported = 'ByteLevel, Metaspace, and Sequence of Replace, ByteFallback, Fuse and Strip'

/**
 * Reads vocabulary, added tokens and decoder out of a tokenizer.json. Throws SPILLWAY_DECODER_TOKENIZER for what is
 * malformed or not supported, naming it.
 */
export function tokenBytesOf(tokenizer: JsonObject): TokenBytes {
  const model = member(tokenizer, 'model')
  const type = isJsonObject(model) ? member(model, 'type') : undefined
  if (!isJsonObject(model) || type !== 'BPE') throw refused(`has a model of type ${printable(type)}; BPE is supported`)
  const decoder = pieceDecoderOf(member(tokenizer, 'decoder'))
  const { pieces, ids } = vocabularyOf(model)
  const added = new Map<number, Uint8Array>()
  const special = new Set<number>()
  for (const token of addedTokensOf(tokenizer)) {
    ids.set(token.content, token.id)
    // An added token is text, never bytes: `é` means itself, not the byte 0xE9 of the byte-level alphabet.
    added.set(token.id, utf8.encode(token.content))
    if (token.special) special.add(token.id)
  }
  return {
    ids,
    strip: decoder.strip,
    isSpecial: (token) => special.has(token),
    bytesOf(token) {
      const bytes = added.get(token)
      if (bytes !== undefined) return bytes
      const piece = pieces.get(token)
      return piece === undefined ? noBytes : decoder.bytes(piece)
    },
  }
}

function vocabularyOf(model: JsonObject): { pieces: Map<number, string>; ids: Map<string, number> } {
  const vocabulary = member(model, 'vocab')
  if (!isJsonObject(vocabulary)) throw refused('has no model.vocab object')
  const pieces = new Map<number, string>()
  const ids = new Map<string, number>()
  for (const [piece, id] of Object.entries(vocabulary)) {
    pieces.set(checkedId(id, piece), piece)
    ids.set(piece, checkedId(id, piece))
  }
  return { pieces, ids }
}

function addedTokensOf(tokenizer: JsonObject): { id: number; content: string; special: boolean }[] {
  const listed = member(tokenizer, 'added_tokens') ?? []
  if (!Array.isArray(listed)) throw refused('has added_tokens that are no list')
  return listed.map((token: unknown) => {
    const content = isJsonObject(token) ? member(token, 'content') : undefined
    if (!isJsonObject(token) || typeof content !== 'string' || content === '') {
      throw refused(`has the added token ${printable(token)}, which has no content`)
    }
    return { id: checkedId(member(token, 'id'), content), content, special: member(token, 'special') === true }
  })
}

function checkedId(id: unknown, content: string): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < tokenIdLimit) return id
  throw refused(`gives the token ${printable(content)} the id ${printable(id)}`)
}

function pieceDecoderOf(decoder: unknown): PieceDecoder {
  const type = isJsonObject(decoder) ? member(decoder, 'type') : undefined
  if (!isJsonObject(decoder)) throw refused(`has the decoder ${printable(decoder)}; supported are ${supported}`)
  if (type === 'ByteLevel') return { bytes: byteLevelBytes, strip: noStrip }
  if (type === 'Metaspace') {
    const mark = text(decoder, 'replacement', '▁')
    const count = member(decoder, 'prepend_scheme') === 'never' ? 0 : 1
    return { bytes: (piece) => utf8.encode(piece.replaceAll(mark, ' ')), strip: { content: ' ', count } }
  }
  if (type === 'Sequence') return sequenceDecoder(member(decoder, 'decoders'))
  throw refused(`has a decoder of type ${printable(type)}; supported are ${supported}`)
}

/** What SentencePiece models become: marks replaced by spaces, bytes written `<0x0A>`, one space stripped in front. */
function sequenceDecoder(decoders: unknown): PieceDecoder {
  if (!Array.isArray(decoders)) throw refused('has a decoder Sequence without decoders')
  // Some models end in a ByteLevel or Metaspace of their own, alone in the sequence.
  if (decoders.length === 1) return pieceDecoderOf(decoders[0])
  const steps: ((piece: string) => string | Uint8Array)[] = []
  let strip: PieceDecoder['strip'] = noStrip
  let fused = false
  for (const decoder of decoders as readonly unknown[]) {
    const type = isJsonObject(decoder) ? member(decoder, 'type') : undefined
    if (!isJsonObject(decoder)) throw refused(`has the decoder ${printable(decoder)}; supported are ${supported}`)
    if (type === 'Replace' && !fused) {
      const pattern = member(decoder, 'pattern')
      const from = isJsonObject(pattern) ? text(pattern, 'String', '') : ''
      if (from === '') throw refused(`replaces ${printable(pattern)} in its decoder; a String pattern is supported`)
      const to = text(decoder, 'content', '')
      // A function: `$&` in the replacement is text, not a group.
      steps.push((piece) => piece.replaceAll(from, () => to))
    } else if (type === 'ByteFallback' && !fused) steps.push(fallbackByte)
    else if (type === 'Fuse') fused = true
    else if (type === 'Strip' && fused && number(decoder, 'stop') === 0) {
      strip = { content: text(decoder, 'content', ' '), count: number(decoder, 'start') }
    } else
      throw refused(
        `has a decoder step of type ${printable(type)} where it is not supported; supported are ${supported}`,
      )
  }
  const bytes: PieceBytes = (piece) => {
    let value: string | Uint8Array = piece
    for (const step of steps) {
      if (typeof value !== 'string') break
      value = step(value)
    }
    return typeof value === 'string' ? utf8.encode(value) : value
  }
  return { bytes, strip }
}

function fallbackByte(piece: string): string | Uint8Array {
  const digits = /^<0x([0-9a-f]{2})>$/i.exec(piece)?.[1]
  return digits === undefined ? piece : Uint8Array.of(Number.parseInt(digits, 16))
}

/**
 * The byte-level alphabet of GPT-2 (`bytes_to_unicode` in its encoder): printable Latin-1 characters stand for their
 * own byte, and the other 68 bytes, in order, for U+0100 and up.
 */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printsItself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    map.set(String.fromCharCode(printsItself ? byte : next++), byte)
  }
  return map
})()

function byteLevelBytes(piece: string): Uint8Array {
  const bytes = new Uint8Array(piece.length)
  for (let i = 0; i < piece.length; i++) {
    const byte = byteOfCharacter.get(piece.charAt(i))
    // Not of the alphabet: then the piece is plain text, as Hugging Face tokenizers takes it.
    if (byte === undefined) return utf8.encode(piece)
    bytes[i] = byte
  }
  return bytes
}

function text(json: JsonObject, key: string, fallback: string): string {
  const value = member(json, key) ?? fallback
  if (typeof value === 'string') return value
  throw refused(`has ${printable(value)} for ${key} in its decoder`)
}

function number(json: JsonObject, key: string): number {
  const value = member(json, key) ?? 0
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 16) return value
  throw refused(`has ${printable(value)} for ${key} in its decoder`)
}

function refused(reason: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_TOKENIZER',
    `tokenizer.json ${reason}; use the file that came with the model`,
  )
}
