import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

test("README's program is the example, and the example writes text with offloaded weights", () => {
  const code = readFileSync(`${root}/examples/generate/generate.mjs`, 'utf8')
  expect(readFileSync(`${root}/README.md`, 'utf8')).toContain(code)
  const run = spawnSync(process.execPath, ['examples/generate/generate.mjs'], { cwd: root, encoding: 'utf8' })
  expect(run.stderr).toBe('')
  expect(run.status).toBe(0)
  const offloaded = /offloadedBytes: (\d+)/.exec(run.stdout)?.[1]
  expect(Number(offloaded)).toBeGreaterThan(5 * 2 ** 20)
  // Another device, other roundings, another text, which may end sooner.
  expect(run.stdout.slice(0, run.stdout.indexOf('{')).trim().split(/\s+/).length).toBeGreaterThan(8)
})
