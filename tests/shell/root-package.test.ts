// What meets somebody who types the wrong thing first in a fresh checkout.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** A checkout of the named files alone. */
function checkoutOf(...names: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-checkout-'))
  folders.push(folder)
  for (const name of names) cpSync(join(root, name), join(folder, name), { recursive: true })
  return folder
}

test('npm install is answered in one sentence, at once, and leaves nothing behind', () => {
  const folder = checkoutOf('package.json', 'pnpm-workspace.yaml', 'scripts/install-guard.mjs')
  const before = readdirSync(folder)
  // A registry that nobody serves: the answer must not need one.
  const args = ['install', '--registry=http://127.0.0.1:9/', '--fetch-retries=0']
  const { status, stderr } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8' })
  expect(status).not.toBe(0)
  expect(stderr.match(/npm install does not work here: run `npm test` or `npm run demo`/g)).toHaveLength(1)
  expect(readdirSync(folder)).toEqual(before)
})

test.each([
  [{ npm_config_user_agent: 'npm/11.0.0 node/v22', npm_command: 'install' }, 1],
  [{ npm_config_user_agent: 'yarn/1.22.22 npm/? node/v22' }, 1],
  [{ npm_config_user_agent: 'npm/11.0.0 node/v22', npm_command: 'exec' }, 0],
  [{ npm_config_user_agent: 'pnpm/12.21.0 npm/? node/v22', npm_command: 'install' }, 0],
])('the preinstall guard, %o: exit status %i', (env, expected) => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/install-guard.mjs')], {
    env: { PATH: process.env.PATH, ...env },
    encoding: 'utf8',
  })
  expect(status).toBe(expected)
  expect(stderr.includes('`npm test`')).toBe(expected === 1)
})

test('the spillway command says how to build it, and runs what was built', () => {
  const folder = checkoutOf('bin')
  const run = () => spawnSync(process.execPath, [join(folder, 'bin/spillway.mjs'), 'doctor'], { encoding: 'utf8' })
  const before = run()
  expect(before.status).toBe(1)
  expect(before.stdout).toBe('')
  expect(before.stderr).toMatch(/^spillway is not built yet: run `npm run demo` in .*spillway-checkout-/)

  mkdirSync(join(folder, 'packages/cli/dist'), { recursive: true })
  writeFileSync(join(folder, 'packages/cli/dist/cli.js'), 'console.log(process.argv.slice(2))')
  expect(run()).toMatchObject({ status: 0, stdout: "[ 'doctor' ]\n", stderr: '' })
})

test('the lockfile names no registry, so that everybody’s own is used', () => {
  const lockfile = readFileSync(join(root, 'pnpm-lock.yaml'), 'utf8')
  expect(lockfile.length).toBeGreaterThan(10_000)
  expect(lockfile).not.toMatch(/tarball:|resolution:.*https?:/)
})
