import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TextStream } from '../src/text-stream.js'

/** Bytes cut at the given places, as tokens of any sizes would cut them; some pieces are empty. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end))
}

/** Every piece of text that came out, the last one from flush(). */
function stream(
  pieces: readonly Uint8Array[],
  stop: readonly string[] = [],
): { out: string[]; stopped: string | undefined } {
  const text = new TextStream(stop)
  const out = pieces.map((piece) => text.push(piece))
  out.push(text.flush())
  return { out, stopped: text.stopped }
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const wholeText = (bytes: Uint8Array): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
const halfCharacter = /\p{Surrogate}/u
const places = fc.array(fc.nat(10_000), { maxLength: 30 })
const anyText = fc.string({ unit: 'binary', maxLength: 40 })

describe('TextStream', () => {
  test('gives a character when its last byte is there, and not before', () => {
    const text = new TextStream()
    expect([...utf8('é海🚢')].map((byte) => text.push(Uint8Array.of(byte)))).toEqual([
      '',
      'é',
      '',
      '',
      '海',
      '',
      '',
      '',
      '🚢',
    ])
    expect(text.flush()).toBe('')
  })

  test('an unfinished character becomes U+FFFD when the next token shows it, or at the end', () => {
    expect(stream([Uint8Array.of(0xf0, 0x9f), utf8('a')]).out).toEqual(['', '\ufffda', ''])
    expect(stream([Uint8Array.of(0x61, 0xf0, 0x9f)]).out).toEqual(['a', '\ufffd'])
  })

  test('a U+FEFF in front is text', () => {
    expect(stream([Uint8Array.of(0xef), Uint8Array.of(0xbb, 0xbf), utf8('a')]).out).toEqual(['', '\ufeff', 'a', ''])
  })

  test('every way to cut a text gives the same text and no half character', () => {
    fc.assert(
      fc.property(anyText, places, (text, at) => {
        const { out } = stream(cut(utf8(text), at))
        expect(out.join('')).toBe(wholeText(utf8(text)))
        expect(out.some((piece) => halfCharacter.test(piece))).toBe(false)
        expect(out.at(-1)).toBe('')
      }),
    )
  })

  test('every way to cut any bytes gives what decoding them at once gives', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), places, (bytes, at) => {
        const { out } = stream(cut(bytes, at))
        expect(out.join('')).toBe(wholeText(bytes))
        expect(out.some((piece) => halfCharacter.test(piece))).toBe(false)
      }),
    )
  })

  test('a stop string is found across tokens and no part of it comes out', () => {
    expect(stream([utf8('ab<'), utf8('|en'), utf8('d|>c')], ['<|end|>'])).toEqual({
      out: ['ab', '', '', ''],
      stopped: '<|end|>',
    })
    expect(stream([utf8('ab<'), utf8('|e'), utf8('lse'), utf8('d|>')], ['<|end|>'])).toEqual({
      out: ['ab', '', '<|else', 'd|>', ''],
      stopped: undefined,
    })
  })

  test('what only began like a stop string comes out at the end', () => {
    expect(stream([utf8('a\n')], ['\n\n'])).toEqual({ out: ['a', '\n'], stopped: undefined })
  })

  test('a stop string that repeats itself inside is found in a longer repetition', () => {
    expect(stream([...'aaab'].map(utf8), ['aab']).out.join('')).toBe('a')
    expect(stream([...'abababc'].map(utf8), ['ababc']).out.join('')).toBe('ab')
  })

  test('the one that is complete first ends the text, the longest of those', () => {
    expect(stream([utf8('abcdef')], ['bcdef', 'cd'])).toEqual({ out: ['ab', ''], stopped: 'cd' })
    expect(stream([utf8('abcd')], ['d', 'bcd'])).toEqual({ out: ['a', ''], stopped: 'bcd' })
  })

  test('a stop string of characters outside the first plane', () => {
    expect(stream([utf8('a😀').subarray(0, 4), utf8('😀').subarray(3), utf8('😃')], ['😃']).out).toEqual([
      'a',
      '😀',
      '',
      '',
    ])
  })

  test('empty stop strings do nothing', () => {
    expect(stream([utf8('ab')], ['', ''])).toEqual({ out: ['ab', ''], stopped: undefined })
  })

  test('every way to cut a text gives the text before the stop string that is complete first', () => {
    // A tiny alphabet: only then do stop strings overlap each other and themselves.
    const word = (max: number) =>
      fc.string({ unit: fc.constantFrom('a', 'b', 'é', '🚢'), minLength: 1, maxLength: max })
    fc.assert(
      fc.property(word(20), fc.array(word(4), { maxLength: 3 }), places, (text, stop, at) => {
        const { out, stopped } = stream(cut(utf8(text), at), stop)
        const ends = stop.map((candidate) => [text.indexOf(candidate), candidate] as const).filter(([i]) => i >= 0)
        const end = Math.min(...ends.map(([i, candidate]) => i + candidate.length))
        const first = Math.min(...ends.filter(([i, candidate]) => i + candidate.length === end).map(([i]) => i))
        expect(out.join('')).toBe(ends.length === 0 ? text : text.slice(0, first))
        expect(stopped).toBe(ends.length === 0 ? undefined : text.slice(first, end))
        expect(out.some((piece) => halfCharacter.test(piece))).toBe(false)
      }),
      { numRuns: 1000 },
    )
  })
})
