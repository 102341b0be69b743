import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

test('the demo shows what it says', () => {
  const run = spawnSync(process.execPath, ['scripts/demo.mjs'], { cwd: root, encoding: 'utf8' })
  expect(run.stderr).toBe('')
  expect(run.stdout).toMatch(/tokens identical to an unlimited run: +yes/)
  expect(run.stdout).not.toMatch(/<- wrong|Not as it should be/)
  expect(run.status).toBe(0)
})
