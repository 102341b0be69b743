import { expect, test } from 'vitest'
import {
  didYouMean,
  isSpillwayError,
  messageOf,
  nearestName,
  printable,
  printableName,
  SpillwayError,
  throwIfAborted,
  toSpillwayError,
} from '../src/index.js'
import { thrown } from './thrown.js'

const hostile = new Proxy(new Error('x'), {
  get() {
    throw new Error('no')
  },
})

test('errors are recognised by code, from whichever copy of the package', () => {
  const foreign = Object.assign(new Error('x'), { code: 'SPILLWAY_OUT_OF_MEMORY' })
  expect(isSpillwayError(foreign)).toBe(true)
  expect(isSpillwayError(foreign, 'SPILLWAY_OUT_OF_MEMORY')).toBe(true)
  expect(isSpillwayError(foreign, 'SPILLWAY_ASLEEP')).toBe(false)
  for (const value of [null, undefined, 'SPILLWAY_X', new Error('x'), { code: 3 }, { code: 'ENOENT' }, hostile]) {
    expect(isSpillwayError(value)).toBe(false)
  }
})

test('wrapping keeps coded errors and survives anything thrown', () => {
  const coded = new SpillwayError('SPILLWAY_ASLEEP', 'x')
  expect(toSpillwayError(coded, 'SPILLWAY_OTHER', 'y')).toBe(coded)
  for (const value of [hostile, Object.create(null), undefined, null, Symbol('x'), { toString: null }]) {
    const wrapped = toSpillwayError(value, 'SPILLWAY_OTHER', 'doing it failed')
    expect(wrapped.code).toBe('SPILLWAY_OTHER')
    expect(wrapped.message).toMatch(/^doing it failed: ./)
    if (value !== undefined) expect(wrapped.cause).toBe(value)
    expect(typeof messageOf(value)).toBe('string')
  }
})

test('details are frozen and the cause is kept', () => {
  const error = new SpillwayError('SPILLWAY_X', 'x', { details: { bytes: 3 }, cause: 'y' })
  expect(Object.isFrozen(error.details)).toBe(true)
  expect(error.cause).toBe('y')
})

test('an abort carries the reason', () => {
  expect(() => throwIfAborted(undefined, 'loading')).not.toThrow()
  expect(() => throwIfAborted(new AbortController().signal, 'loading')).not.toThrow()
  expect(thrown(() => throwIfAborted(AbortSignal.abort('enough'), 'loading'))).toMatchObject({
    code: 'SPILLWAY_ABORTED',
    cause: 'enough',
  })
})

test('values in error sentences are short, on one line, and never throw', () => {
  const loop: unknown[] = []
  loop.push(loop)
  for (const value of [
    1n,
    Symbol('x'),
    () => 0,
    loop,
    hostile,
    { toJSON: () => undefined },
    'x\n\u001b[31m'.repeat(50),
  ]) {
    const text = printable(value)
    expect(text.length).toBeLessThan(200)
    expect(text).not.toContain('\n')
    expect(text).not.toContain('\u001b')
  }
  expect(['x', 3, null, undefined, 1n, () => 0, [1], 'x'.repeat(200)].map(printable)).toEqual([
    '"x"',
    '3',
    'null',
    'undefined',
    '1n',
    'a function',
    '[1]',
    `"${'x'.repeat(77)}…"`,
  ])
  expect(printableName('prefetch')).toBe('prefetch')
  expect(printableName('a b')).toBe('"a b"')
})

test('the nearest name', () => {
  const names = ['prefetch', 'none', 'auto', 'cumem-pool']
  expect(nearestName('prefecth', names)).toBe('prefetch')
  expect(nearestName('cumempool', names)).toBe('cumem-pool')
  expect(nearestName('atuo', names)).toBe('auto')
  expect(nearestName('uva', names)).toBeUndefined()
  expect(nearestName('x'.repeat(1e6), names)).toBeUndefined()
  expect(didYouMean('NONE', names)).toBe('; did you mean none?')
  expect(didYouMean('zzz', names)).toBe('')
})
