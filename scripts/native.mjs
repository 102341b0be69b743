// Builds the addon of the package in the current folder. Called by turbo (build:native, build:sanitize).
//   SPILLWAY_SANITIZE=address|undefined|thread  for build:sanitize: a build of its own beside the normal one
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const sanitizer =
  process.env.npm_lifecycle_event === 'build:sanitize' ? (process.env.SPILLWAY_SANITIZE ?? 'address') : ''
const out = sanitizer ? `build-${sanitizer}` : 'build'
const has = (command) => spawnSync(command, ['--version']).error === undefined
// Ninja where there is one: it prints less and rebuilds less. make works too.
const generator = has('ninja') ? 'Ninja' : 'Unix Makefiles'
// cmake-js stops where neither of the two is on PATH, even if CXX names a compiler; unless it is told one.
const named = has('g++') || has('clang++') ? [] : ['--cxx', process.env.CXX ?? 'c++', '--cc', process.env.CC ?? 'cc']
const args = (command) => [
  require.resolve('cmake-js/bin/cmake-js'),
  command,
  '--log-level',
  'warn',
  '--out',
  out,
  '--config',
  sanitizer ? 'RelWithDebInfo' : 'Release',
  '--parallel',
  String(availableParallelism()),
  '--generator',
  generator,
  ...named,
  // An empty --CD option is dropped by cmake-js; each build folder has one sanitizer for good, so nothing is lost.
  ...(sanitizer ? [`--CDSPILLWAY_SANITIZE=${sanitizer}`] : []),
]
// A build folder made by another generator, another compiler or in another checkout can't be reused: CMake keeps what it
// found first. (scripts/run.mjs knows the compilers; started by hand, this script takes them to be the same.)
const cache = join(out, 'CMakeCache.txt')
const stamp = join(out, 'toolchain.txt')
const toolchain = [process.env.SPILLWAY_TOOLCHAIN, process.env.CXX, process.env.CXXFLAGS].join('\n')
if (existsSync(cache)) {
  const text = readFileSync(cache, 'utf8')
  const made = /CMAKE_GENERATOR:INTERNAL=(.*)/.exec(text)?.[1]
  const home = /CMAKE_HOME_DIRECTORY:INTERNAL=(.*)/.exec(text)?.[1]
  const same = !process.env.SPILLWAY_TOOLCHAIN || !existsSync(stamp) || readFileSync(stamp, 'utf8') === toolchain
  if (made !== generator || home !== process.cwd() || !same) rmSync(out, { recursive: true, force: true })
}
mkdirSync(out, { recursive: true })
if (process.env.SPILLWAY_TOOLCHAIN) writeFileSync(stamp, toolchain)
// Not `cmake-js compile`: on a compile error it wipes the build folder and tries all over again.
// configure is cheap when nothing changed, and makes option changes take effect.
for (const command of ['configure', 'build']) {
  const result = spawnSync(process.execPath, args(command), { stdio: 'inherit' })
  if (result.status !== 0) process.exit(result.status ?? 1)
}
