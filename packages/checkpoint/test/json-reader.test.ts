import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { JsonReader, safeIntegerOf } from '../src/json-reader.js'

class Refused extends Error {}

/** Builds what JSON.parse would, so that the two can be compared; Maps, because `__proto__` is a key like any other. */
function readTree(text: string): unknown {
  const reader = new JsonReader(Buffer.from(text), (reason) => {
    throw new Refused(reason)
  })
  const value = (kind: unknown): unknown => {
    if (Array.isArray(kind)) {
      const elements: unknown[] = []
      reader.array(() => elements.push(value(kind[elements.length])))
      return elements
    }
    if (typeof kind === 'object' && kind !== null) {
      const members = new Map<string, unknown>()
      reader.object((key) => members.set(key, value(Object.getOwnPropertyDescriptor(kind, key)?.value)))
      return members
    }
    if (typeof kind === 'string') return reader.string()
    if (typeof kind === 'number') return Number(reader.number())
    reader.skip()
    return kind
  }
  const tree = value(JSON.parse(text))
  reader.end()
  return tree
}

function asMaps(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asMaps)
  if (typeof value !== 'object' || value === null) return value
  return new Map(Object.getOwnPropertyNames(value).map((key) => [key, asMaps((value as Record<string, unknown>)[key])]))
}

function accepts(text: string): boolean {
  const reader = new JsonReader(Buffer.from(text), (reason) => {
    throw new Refused(reason)
  })
  try {
    reader.skip()
    reader.end()
    return true
  } catch (error) {
    if (error instanceof Refused) return false
    throw error
  }
}

/** Of valid JSON: more colons outside strings than keys that JSON.parse kept. */
function hasDuplicateKeys(text: string): boolean {
  const colons = text.replace(/"(?:[^"\\]|\\.)*"/g, '').split(':').length - 1
  const keys = (value: unknown): number => {
    if (typeof value !== 'object' || value === null) return 0
    const members = Object.values(value).reduce<number>((sum, member) => sum + keys(member), 0)
    return Array.isArray(value) ? members : members + Object.keys(value).length
  }
  return colons > keys(JSON.parse(text))
}

function hasHalfPairs(value: unknown): boolean {
  if (typeof value === 'string') return /\p{Cs}/u.test(value)
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(value).some(([key, member]) => hasHalfPairs(key) || hasHalfPairs(member))
}

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('JsonReader', () => {
  it('reads what JSON.parse reads', () => {
    const space = fc.stringMatching(/^[ \t\r\n]{0,3}$/)
    fc.assert(
      fc.property(
        fc.jsonValue({ stringUnit: 'binary' }),
        fc.integer({ min: 0, max: 3 }),
        space,
        (value, indent, around) => {
          const text = `${around}${JSON.stringify(value, null, indent)}${around}`
          expect(readTree(text)).toEqual(asMaps(JSON.parse(text)))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('accepts exactly the texts JSON.parse accepts, when no key is there twice', () => {
    const alphabet = [...'{}[]",:\\/bfnrtu0123456789abcdefE+-. \n\t', 'true', 'false', 'null', '\u0000', '\u00e9', '😀']
    const noise = fc.array(fc.constantFrom(...alphabet), { maxLength: 12 }).map((parts) => parts.join(''))
    const edited = fc
      .tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.nat({ max: 3 }), noise)
      .map(([text, at, cut, insert]) => {
        const start = at % (text.length + 1)
        return text.slice(0, start) + insert + text.slice(start + cut)
      })
    let accepted = 0
    fc.assert(
      fc.property(fc.oneof(noise, edited), (text) => {
        const ours = accepts(text)
        if (ours) accepted++
        expect(ours).toBe(parses(text) && !hasDuplicateKeys(text) && !hasHalfPairs(JSON.parse(text)))
      }),
      { numRuns: 5000 },
    )
    expect(accepted).toBeGreaterThan(100)
  })

  it.each([
    ['{"a":1,"a":1}', 'the key "a" is there twice'],
    ['{"a":1,"\\u0061":1}', 'the key "a" is there twice'],
    ['{"x":{"__proto__":1,"__proto__":2}}', 'the key "__proto__" is there twice'],
    ['[[{"b":[],"b":[]}]]', 'the key "b" is there twice'],
    ['["\\ud800"]', 'whole characters'],
    ['["\\udc00\\ud800"]', 'whole characters'],
    ['['.repeat(65) + ']'.repeat(65), 'nested more than 64 levels'],
    ['{"a":'.repeat(100_000), 'nested more than 64 levels'],
    ['01', 'nothing more'],
    ['{"a":1,}', 'expected a string'],
    ['[1,]', 'expected a value'],
    ['"\n"', 'without control characters'],
    ['"', 'a string that ends'],
    ['"\\', 'a string that ends'],
    ['', 'expected a value'],
    ['\ufeff{}', 'expected a value'],
  ])('refuses %j', (text, reason) => {
    const reader = new JsonReader(Buffer.from(text), (why) => {
      throw new Refused(why)
    })
    expect(() => {
      reader.skip()
      reader.end()
    }).toThrow(reason)
  })

  it('stops at half a million keys in one object', () => {
    const keys = (count: number): string => `{${Array.from({ length: count }, (_, i) => `"${i}":0`).join(',')}}`
    expect(accepts(keys(500_000))).toBe(true)
    expect(accepts(keys(500_001))).toBe(false)
  })

  it.each([
    ['0', 0],
    ['7', 7],
    ['9007199254740991', 2 ** 53 - 1],
    ['9007199254740992', undefined],
    ['18446744073709551616', undefined],
    ['-0', undefined],
    ['-1', undefined],
    ['1.0', undefined],
    ['1e2', undefined],
  ])('takes the literal %s for the integer %s', (literal, value) => {
    expect(safeIntegerOf(literal)).toBe(value)
  })
})
