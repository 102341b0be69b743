import { configure, none } from '@spillway/core'
import { openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { type Advice, type BackendTestOptions, testBackend } from '../src/index.js'
import { Suite } from '../src/suite.js'
import { backendTests, collect } from './collect.js'

const right = { backend: configure(none), openDevice: (options: object) => openDevice('host', options) }

describe('levels', () => {
  /** A suite as a later minor version may have it: two of its tests have come since. */
  const register = (options: { level?: number; onAdvice?: (advice: Advice) => void }) => {
    const ran: string[] = []
    const tests = collect((runner) => {
      const suite = new Suite({ ...runner, ...options }, 3)
      const body = (name: string) => async () => {
        ran.push(name)
        throw new Error(`${name} fails`)
      }
      suite.group('group', () => {
        for (const [name, level] of Object.entries({ old: 1, newer: 2, newest: 3 })) suite.test(name, level, body(name))
      })
    })
    return { tests, ran }
  }

  test('a test that is newer than the level is not there', () => {
    expect(register({}).tests.map(({ path }) => path)).toEqual(['group › old'])
    expect(register({ level: 2 }).tests.map(({ path }) => path)).toEqual(['group › old', 'group › newer'])
    expect(register({ level: 3 }).tests).toHaveLength(3)
  })

  test('with onAdvice it runs, and its failure is advice', async () => {
    const advice: Advice[] = []
    const { tests, ran } = register({ level: 2, onAdvice: (one) => advice.push(one) })
    expect(tests.map(({ path }) => path)).toEqual(['group › old', 'group › newer', 'group › newest (level 3: advice)'])
    const outcomes = await Promise.allSettled(tests.map(({ run }) => run()))
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
    expect(ran).toEqual(['old', 'newer', 'newest'])
    expect(advice).toEqual([{ path: ['group', 'newest'], level: 3, error: new Error('newest fails') }])
  })

  test('groups that a runner opens later have their own path', () => {
    const later: (() => void)[] = []
    const advice: Advice[] = []
    const runs: (() => Promise<void>)[] = []
    const suite = new Suite(
      {
        describe: (_, body) => later.push(body),
        test: (_, body) => runs.push(body),
        onAdvice: (one) => advice.push(one),
      },
      2,
    )
    const fail = async () => {
      throw new Error('no')
    }
    suite.group('a', () => {
      suite.group('inner', () => suite.test('one', 2, fail))
      suite.test('two', 2, fail)
    })
    suite.group('b', () => suite.test('three', 2, fail))
    for (const body of later) body()
    return Promise.all(runs.map((run) => run())).then(() => {
      const paths = advice.map(({ path }) => path.join(' › ')).sort()
      expect(paths).toEqual(['a › inner › one', 'a › two', 'b › three'])
    })
  })

  test.each([0, 2, 1.5, Number.NaN, '1'])('%s is no level of this version', (level) => {
    expect(() => backendTests({ ...right, level: level as never })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT', message: expect.stringMatching(/levels 1 to 1/) }),
    )
  })
})

describe('what a backend takes part in', () => {
  const paths = backendTests(right).map(({ path }) => path)

  test('every test has a path of its own', () => {
    expect(new Set(paths).size).toBe(paths.length)
    expect(paths.length).toBeGreaterThan(100)
  })

  test('nothing is opened before the tests run', () => {
    const open = () => Promise.reject(new Error('opened'))
    expect(backendTests({ ...right, openDevice: open })).toHaveLength(paths.length)
  })

  test('is gated by supports: what is denied is refused', () => {
    const denied = { ...none, supports: { ...none.supports, graphs: false } }
    const of = (backend: typeof none) => backendTests({ ...right, backend: configure(backend) }).map(({ path }) => path)
    const graphs = (list: readonly string[]) => list.filter((path) => /captur|graph|replay/.test(path))
    expect(graphs(of(denied)).filter((path) => !/SPILLWAY_NOT_SUPPORTED/.test(path))).toEqual([])
    expect(graphs(of(none)).some((path) => /SPILLWAY_NOT_SUPPORTED/.test(path))).toBe(false)
  })
})

describe('options that are wrong are refused at once', () => {
  const runner = { describe: () => {}, test: () => {} }
  test.each<[string, object]>([
    ['no describe', { describe: undefined }],
    ['a test that is no function', { test: 'test' }],
    ['an onAdvice that is no function', { onAdvice: console }],
    ['no openDevice', { openDevice: undefined }],
    ['no rows', { rows: [] }],
    ['a checked row without a checker', { rows: [{ check: true }], can: { check: false } }],
    ['an adversarial row without that ability', { rows: [{ adversarialSeed: 1 }], can: { adversarial: false } }],
    ['an ability that does not exist', { can: { fly: true } }],
    ['an ability that is no switch', { can: { check: 1 } }],
    ['too few layers', { layers: 2 }],
    ['half a layer', { layers: 3.5 }],
  ])('%s', (_, change) => {
    const options = { ...runner, ...right, ...change } as unknown as BackendTestOptions
    expect(() => testBackend(options)).toThrow(expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }))
  })

  test.each([undefined, null, {}, { backend: null }, { backend: { name: 'x' } }])('%j is no backend', (backend) => {
    const options = { ...runner, ...right, backend } as unknown as BackendTestOptions
    expect(() => testBackend(options)).toThrow(expect.objectContaining({ code: 'SPILLWAY_BACKEND_INVALID' }))
  })
})
