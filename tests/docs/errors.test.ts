import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { codesInUse, computedCodes, pageProblems, shippedSources } from './error-codes.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const sources = shippedSources(root)
const codes = codesInUse(sources)
const page = readFileSync(join(root, 'docs/ERRORS.md'), 'utf8')

test('docs/ERRORS.md has a section for every code in the sources, and for nothing else', () => {
  expect(pageProblems(page, codes)).toEqual([])
})

test('no code is put together at run time', () => {
  expect(computedCodes(sources)).toEqual([])
})

test('codes of every package are found, in both languages', () => {
  const known = ['SPILLWAY_ABORTED', 'SPILLWAY_CHECKPOINT_LAYOUT', 'SPILLWAY_DECODER_LOGITS', 'SPILLWAY_FOREIGN_HANDLE']
  const native = ['SPILLWAY_ABI_MISMATCH', 'SPILLWAY_WRONG_DEVICE']
  expect([...codes.keys()]).toEqual(expect.arrayContaining([...known, ...native]))
  expect(codes.size).toBeGreaterThan(50)
})

describe('the checker', () => {
  const source = (text: string, path = 'packages/a/src/a.ts') => [{ path, text }]
  const section = (code: string) => `## ${code}\n\nIt failed.\n\n**What to do:** Stop.\n\n**Details:** none.\n`
  const used = new Map([['SPILLWAY_A', 'a.ts']])

  test('finds codes in TypeScript and in C++', () => {
    expect([...codesInUse(source("throw new SpillwayError('SPILLWAY_A', `text`)")).keys()]).toEqual(['SPILLWAY_A'])
    expect([...codesInUse(source('return "SPILLWAY_B2_C";', 'a.hpp'))]).toEqual([['SPILLWAY_B2_C', 'a.hpp']])
    expect(codesInUse(source('throw coded_error(env, "SPILLWAY_C")', 'a.cc')).size).toBe(1)
  })

  test('takes neither macros nor comments nor environment variables for codes', () => {
    expect(codesInUse(source('#ifndef SPILLWAY_ABI_H\ncase SPILLWAY_STATUS_OK: return "SPILLWAY_OK";')).size).toBe(0)
    expect(codesInUse(source('/** `SPILLWAY_A`: throws SPILLWAY_B. */')).size).toBe(0)
    expect(codesInUse(source("read(env, 'SPILLWAY_SWITCH') ? 'SPILLWAY_SWITCH' : env.SPILLWAY_OTHER")).size).toBe(0)
    const apart = [...source("invalid('SPILLWAY_VARIANT', value)"), ...source('env.SPILLWAY_VARIANT')]
    expect(codesInUse(apart).size).toBe(0)
    expect(codesInUse(source('getenv("SPILLWAY_VARIANT")', 'a.cc')).size).toBe(0)
  })

  test('sees a code that is put together', () => {
    expect(computedCodes(source('const code = `SPILLWAY_CHECKPOINT_$' + '{kind}`'))).toHaveLength(1)
    expect(computedCodes(source("const code = 'SPILLWAY_' + kind"))).toHaveLength(1)
    expect(computedCodes(source("const code = 'SPILLWAY_A'"))).toEqual([])
  })

  test('accepts a page that is complete', () => {
    expect(pageProblems(`# Codes\n\n${section('SPILLWAY_A')}\n# More\n\nText.\n`, used)).toEqual([])
  })

  test.each([
    ['a code without a section', '# Codes\n', 'SPILLWAY_A (a.ts) has no heading in docs/ERRORS.md'],
    ['a code that is only mentioned', '# Codes\n\nSPILLWAY_A\n', 'SPILLWAY_A (a.ts) has no heading in docs/ERRORS.md'],
    [
      'a section of no code',
      section('SPILLWAY_A') + section('SPILLWAY_B'),
      'SPILLWAY_B has a heading, but no source uses it',
    ],
    ['a section twice', section('SPILLWAY_A') + section('SPILLWAY_A'), 'SPILLWAY_A has two headings'],
    ['no meaning', section('SPILLWAY_A').replace('It failed.', ''), 'SPILLWAY_A does not say what it means'],
    [
      'no advice',
      section('SPILLWAY_A').replace('Stop.', ''),
      'SPILLWAY_A does not say what to do and what the details are',
    ],
    [
      'no details',
      section('SPILLWAY_A').replace('**Details:** none.', ''),
      'SPILLWAY_A does not say what to do and what the details are',
    ],
  ])('refuses %s', (_, page, problem) => {
    expect(pageProblems(page, used)).toContain(problem)
  })
})
