// npm run lint:native: clang-format's opinion on every C and C++ file of ours. --fix rewrites them.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const folders = [
  'native/include',
  'tests/abi/native',
  ...readdirSync('packages').map((name) => join('packages', name, 'native')),
]
const files = folders.flatMap((folder) => {
  try {
    return readdirSync(folder, { recursive: true }).map((name) => join(folder, name))
  } catch (error) {
    if (error.code === 'ENOENT') return [] // a package without native code
    throw error
  }
})
const sources = files.filter((file) => /\.(h|hpp|cc)$/.test(file))
const mode = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '--Werror']
const result = spawnSync('clang-format', [...mode, ...sources], { stdio: 'inherit' })
if (result.error) {
  console.error(
    'clang-format was not found: install it with `sudo apt-get install clang-format`, or your system’s command.',
  )
  process.exit(1)
}
if (result.status === 0) console.log(`${sources.length} files are formatted`)
process.exit(result.status ?? 1)
