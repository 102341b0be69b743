import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

const addons = ['tests/abi', ...readdirSync(join(root, 'packages')).map((name) => join('packages', name))]
  .map((folder) => join(folder, 'dist/native'))
  .filter((folder) => existsSync(join(root, folder)))
  .flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(folder, name)))

test('there are addons', () => expect(addons).toContain('packages/device/dist/native/device.node'))

// Node has templates of libstdc++ too. Its std::call_once once ran in place of an exported one of ours, and crashed.
test.each(addons)('%s exports what Node looks up, and nothing else', (addon) => {
  const lines = execFileSync('nm', ['--dynamic', '--defined-only', join(root, addon)], { encoding: 'utf8' })
  const names = lines
    .trim()
    .split('\n')
    .map((line) => line.split(' ').at(-1))
  expect(names.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1'])
})
