import { describe, expect, test } from 'vitest'
import { formatBytes, parseBytes } from '../src/index.js'
import { thrown } from './thrown.js'

describe('parseBytes', () => {
  test.each<[unknown, number]>([
    ['512MiB', 536870912],
    ['6GiB', 6442450944],
    ['4GB', 4000000000],
    ['1.5 GiB', 1610612736],
    ['0.1KiB', 102],
    ['17', 17],
    ['17B', 17],
    [' 2 tb ', 2e12],
    ['0', 0],
    [1048576, 1048576],
    ['8191TiB', 8191 * 2 ** 40],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('%s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes)
  })

  test.each<[unknown]>([
    [''],
    ['MiB'],
    ['-1'],
    ['-1GiB'],
    ['1.5'],
    ['1.5B'],
    ['1.GiB'],
    ['1e9'],
    ['0x10'],
    ['6G'],
    ['6 constructor'],
    ['6GiBs'],
    ['9007199254740992'],
    ['8193TiB'],
    ['9'.repeat(400)],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [-1],
    [1.5],
    [2 ** 53],
    [null],
    [undefined],
    [{}],
    [10n],
    [true],
  ])('%s is refused', (value) => {
    const error = thrown(() => parseBytes(value, '--device-memory'))
    expect(error.code).toBe('SPILLWAY_INVALID_OPTION')
    expect(error.message).toMatch(/^--device-memory /)
    expect(error.message.length).toBeLessThan(250)
  })

  test('G alone is answered with the units there are', () => {
    expect(thrown(() => parseBytes('6G')).message).toContain('GiB')
  })
})

test.each<[number, string]>([
  [0, '0 bytes'],
  [1, '1 byte'],
  [1023, '1023 bytes'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [2 ** 20 - 1, '1 MiB'],
  [536870912, '512 MiB'],
  [6442450944, '6 GiB'],
  [5e15, '4547.5 TiB'],
])('formatBytes(%s) is %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text)
})
