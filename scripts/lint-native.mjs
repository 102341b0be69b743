// npm run lint:native: what clang-format and, after a build, clang-tidy think of our C and C++. --fix rewrites the format.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const folders = [
  'native/include',
  'tests/abi/native',
  'tests/allocator/native',
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

// clang-tidy needs to know how each file is compiled: the build folders say so. A kernel's file is compiled once for
// each instruction set, and the first is enough.
let tidy = 0
for (const name of readdirSync('packages')) {
  const build = join('packages', name, 'build')
  if (!existsSync(join(build, 'compile_commands.json'))) continue
  const own = sources.filter((file) => file.startsWith(join('packages', name)) && file.endsWith('.cc'))
  const { status, error } = spawnSync('clang-tidy', ['-p', build, '--quiet', ...own], { stdio: 'inherit' })
  if (error) {
    console.error('clang-tidy was not found: install it with `sudo apt-get install clang-tidy`.')
    tidy = 1
    break
  }
  tidy ||= status ?? 1
}
process.exit(result.status || tidy)
