import { flagsOf } from '@spillway/core'
import { expect, test } from 'vitest'
import { givenOf, parseArguments, peekFlag } from '../src/arguments.js'
import { commandOptions } from '../src/command-options.js'

const parse = (...words: string[]): unknown => {
  return givenOf(commandOptions.run, parseArguments(words, flagsOf(commandOptions.run)))
}

test('flags in both forms, switches and their opposites, sizes, repeated texts', () => {
  expect(parse('--max-tokens', '5', '--prompt=a=b', '--device-memory', '4.5MiB', '--json')).toEqual({
    maxTokens: 5,
    prompt: 'a=b',
    deviceMemory: 4718592,
    json: true,
  })
  expect(parse('--no-json', '--stop', 'a', '--stop=--b')).toEqual({ json: false, stop: ['a', '--b'] })
  expect(parse('--prompt', '')).toEqual({ prompt: '' })
})

test.each([
  [['prompt'], 'SPILLWAY_USAGE', /quotes/],
  [['--'], 'SPILLWAY_USAGE', /not an option/],
  [['--promt', 'x'], 'SPILLWAY_USAGE', /no option --promt; did you mean --prompt\? --help/],
  [['--seed', '1', '--seed', '2'], 'SPILLWAY_USAGE', /twice/],
  [['--prompt'], 'SPILLWAY_INVALID_OPTION', /--prompt/],
  [['--max-tokens', '1.5'], 'SPILLWAY_INVALID_OPTION', /max-tokens/],
  [['--max-tokens', '-1'], 'SPILLWAY_INVALID_OPTION', /max-tokens/],
  [['--temperature', '-1'], 'SPILLWAY_INVALID_OPTION', /temperature/],
  [['--temperature', 'NaN'], 'SPILLWAY_INVALID_OPTION', /temperature/],
  [['--device-memory', 'lots'], 'SPILLWAY_INVALID_OPTION', /device-memory/],
  [['--pin-memory', 'maybe'], 'SPILLWAY_INVALID_OPTION', /auto.*on.*off/],
  [['--prompt', '--json'], 'SPILLWAY_USAGE', /--prompt=--json/],
  [['--no-prompt'], 'SPILLWAY_USAGE', /--no-prompt/],
  [['--constructor', '1'], 'SPILLWAY_USAGE', /--constructor/],
])('%j is refused: %s', (words, code, message) => {
  expect(() => parse(...words)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
})

test('a list of names may be several words, where words alone mean nothing else', () => {
  const known = flagsOf({ ...commandOptions.run, params: { type: 'names', default: [], help: 'names' } })
  const params = (...words: string[]): unknown => parseArguments(words, known).get('params')
  expect(params('--params', 'mlp', 'self_attn', '--seed', '1')).toEqual(['mlp', 'self_attn'])
  expect(params('--params', 'mlp,norm', 'self_attn.o_proj')).toEqual(['mlp', 'norm', 'self_attn.o_proj'])
  expect(() => params('--params=mlp', 'self_attn')).toThrow(/'self_attn' is not an option/)
  expect(parseArguments(['--params', 'mlp', 'file'], known, ['FILE'])).toEqual(
    new Map<string, unknown>([
      ['params', ['mlp']],
      ['FILE', 'file'],
    ]),
  )
})

test('one flag can be looked at before the rest is understood; the last one counts', () => {
  expect(peekFlag(['--unknown', '--offload-backend', 'a'], 'offload-backend')).toBe('a')
  expect(peekFlag(['--offload-backend=a', '--offload-backend=b+c'], 'offload-backend')).toBe('b+c')
  expect(peekFlag(['--offload-backends', 'a'], 'offload-backend')).toBeUndefined()
})
