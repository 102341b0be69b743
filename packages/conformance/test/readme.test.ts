import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
// Package names are resolved from here, and mean what was built.
const cwd = fileURLToPath(new URL('..', import.meta.url))

function example(backend: string): string {
  const code = /```js\n([\s\S]*?)```/.exec(readme)![1]!
  expect(code.split('\n').filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(11)
  const own = "import backend from './index.js'"
  expect(code).toContain(own)
  return code.replace(own, backend)
}

async function run(code: string): Promise<{ code: number; output: string }> {
  // node:test, told apart from the runner that this is in.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const args = ['--test-reporter=tap', '--input-type=module', '--eval', code]
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, env, maxBuffer: 2 ** 28 })
    return { code: 0, output: stdout }
  } catch (error) {
    const { code, stdout } = error as { code: number; stdout: string }
    return { code, output: stdout }
  }
}

const counted = (output: string, what: 'pass' | 'fail'): number =>
  Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(output)?.[1])

test('the example of the README is all it takes to join, with node:test', async () => {
  // By default it offloads nothing that fits, and everything of the suite does.
  const backend = `
    import prefetch from '@spillway/prefetch'
    const groupSize = { ...prefetch.options.groupSize, default: 1 }
    const backend = { ...prefetch, options: { ...prefetch.options, groupSize } }`
  const { code, output } = await run(example(backend))
  expect(code, output).toBe(0)
  expect(counted(output, 'fail')).toBe(0)
  expect(counted(output, 'pass')).toBeGreaterThan(100)
}, 180_000)

test('and it fails for a backend that is wrong', async () => {
  const backend = `
    import { none } from '@spillway/core'
    const backend = { ...none, name: 'broken', supports: { ...none.supports, offloads: true } }`
  const { code, output } = await run(example(backend))
  expect(code).toBe(1)
  expect(output).toContain('SPILLWAY_NOTHING_OFFLOADED')
  expect(counted(output, 'fail')).toBeGreaterThan(50)
}, 180_000)
