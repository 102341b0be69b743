// `npm test` must not read as passed when something failed: the counting is tried on runs that fail in every way.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { total } from '../../scripts/test-run.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** Runs vitest over `files` as `npm test` does; `broken` stands for checks that failed before. */
function outcomeOf(files: Readonly<Record<string, string>>, broken = 0): { passed: number; failed: number } {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-counts-'))
  folders.push(folder)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  writeFileSync(
    join(folder, 'vitest.config.mjs'),
    "export default { test: { include: ['*.test.ts'], pool: 'forks', globals: true, maxWorkers: 2, teardownTimeout: 1000 } }",
  )
  const counts = join(folder, 'counts.json')
  const args = ['run', '--root', folder, '--reporter', join(root, 'scripts/count-reporter.mjs')]
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...args], {
    cwd: root,
    env: { ...process.env, SPILLWAY_TEST_COUNTS: counts },
  })
  let read = null
  try {
    read = JSON.parse(readFileSync(counts, 'utf8')) as { passed: number; failed: number; skipped: number; cuda: number }
  } catch {}
  return total({ counts: read, status: status ?? 1, broken })
}

const good = "test('a', () => {}); test('b', () => {})"

test('tests that pass, in one file and in several', () => {
  expect(outcomeOf({ 'a.test.ts': good, 'b.test.ts': good })).toEqual({ passed: 4, failed: 0 })
})

test('tests that fail, and checks that failed before', () => {
  expect(outcomeOf({ 'a.test.ts': `${good}; test('c', () => { throw new Error('c') })` })).toEqual({
    passed: 2,
    failed: 1,
  })
  expect(outcomeOf({ 'a.test.ts': good }, 1)).toEqual({ passed: 2, failed: 1 })
})

test('files that do not load, do not parse, hold no test, or fail in a hook', () => {
  expect(outcomeOf({ 'a.test.ts': good, 'b.test.ts': "import './missing.js'" })).toEqual({ passed: 2, failed: 1 })
  expect(outcomeOf({ 'a.test.ts': good, 'b.test.ts': 'const' })).toEqual({ passed: 2, failed: 1 })
  expect(outcomeOf({ 'a.test.ts': good, 'b.test.ts': 'export {}' })).toEqual({ passed: 2, failed: 1 })
  const hook = `${good}; afterAll(() => { throw new Error('hook') })`
  expect(outcomeOf({ 'a.test.ts': hook })).toEqual({ passed: 2, failed: 1 })
})

test('a process that dies, an error nobody awaited', () => {
  const died = outcomeOf({
    'a.test.ts': good,
    'b.test.ts': `${good}; test('c', () => process.kill(process.pid, 'SIGSEGV'))`,
  })
  expect(died.failed).toBeGreaterThan(0)
  const stray =
    "test('a', async () => { Promise.reject(new Error('stray')); await new Promise((r) => setTimeout(r, 20)) })"
  expect(outcomeOf({ 'a.test.ts': stray })).toEqual({ passed: 1, failed: 1 })
})

test('no test at all is a failure', () => {
  expect(outcomeOf({})).toEqual({ passed: 0, failed: 1 })
  expect(outcomeOf({ 'a.test.ts': "test.skip('a', () => {})" })).toEqual({ passed: 0, failed: 1 })
})
