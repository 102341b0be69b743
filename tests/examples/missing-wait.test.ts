import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const example = 'examples/missing-wait/missing-wait.mjs'

function run(arguments_: readonly string[]): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, arguments_, { cwd: root, encoding: 'utf8' })
  expect([stderr, status]).toEqual(['', 0])
  return stdout
}

test('the guide to the checker shows the example, and what it really prints', () => {
  const guide = readFileSync(`${root}/docs/CHECKING.md`, 'utf8')
  expect(guide).toContain(readFileSync(`${root}/${example}`, 'utf8'))
  const output = run([example]).replaceAll(/file:\/\/\S*\/missing-wait\/missing-wait/g, 'missing-wait')
  expect(output).toContain('write-after-read')
  expect(guide).toContain(output)
})

test('with the wait that the report asks for, the example prints nothing', () => {
  const code = readFileSync(`${root}/${example}`, 'utf8')
  const mended = code.replace('  copies.copy(slot', '  copies.wait(used)\n  copies.copy(slot')
  expect(mended).not.toBe(code)
  // From the example's folder, where its imports resolve.
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', mended], {
    cwd: `${root}/examples/missing-wait`,
    encoding: 'utf8',
  })
  expect([stdout, stderr, status]).toEqual(['', '', 0])
})
