// Makes a checkout ready with nothing but node and npm: preflight, pnpm, install, and the environment for the steps.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { withoutNpmSettings } from './network-settings.mjs'
import {
  fetchPnpm,
  findPnpm,
  installIsCurrent,
  installOffline,
  install as installPackages,
} from './package-manager.mjs'
import { findProblems, formatProblems } from './preflight.mjs'
import { chooseCompiler, probe } from './probes.mjs'

/** The root of the checkout. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Something the person at the keyboard can put right: shown without a stack. */
export class UserError extends Error {}

/**
 * Checks the machine, fetches pnpm and installs, each only when needed.
 * `native`: the steps will compile addons. Returns the environment for the steps. Throws UserError.
 */
export function prepare({ install = true, native = true } = {}) {
  const env = withoutNpmSettings(process.env)
  Object.assign(env, { TURBO_TELEMETRY_DISABLED: '1', TURBO_NO_UPDATE_NOTIFIER: '1', DO_NOT_TRACK: '1' })
  // Not FORCE_COLOR=0: vitest takes any FORCE_COLOR for a yes.
  if (!process.stdout.isTTY && !env.FORCE_COLOR) env.NO_COLOR = '1'
  env.PATH = [join(root, 'node_modules/.bin'), ...nodeFolder(env), process.env.PATH].join(delimiter)
  env.SPILLWAY_NODE_MAJOR = process.versions.node.split('.')[0]

  const compiler = native ? chooseCompiler(env) : null
  if (compiler && !compiler.isDefault) env.CXX = compiler.command
  // turbo cannot see these by itself, but the addons depend on them.
  const toolchain = native ? describeToolchain(env) : ''
  env.SPILLWAY_TOOLCHAIN = createHash('sha256').update(toolchain).digest('hex').slice(0, 16)

  let pnpm = findPnpm(root, env)
  let needsInstall = install && !installIsCurrent(root)
  const stamp = join(root, '.cache/preflight')
  const checked = toolchain !== '' && read(stamp) === toolchain
  if (needsInstall || !pnpm || (native && !checked)) {
    const facts = probe({ root, env, native: native && !checked, needsInstall, pnpm })
    // Without a registry, pnpm's store may still hold everything.
    if (pnpm && facts.registry?.reachable === false && installOffline(root, pnpm, env)) {
      facts.registry = undefined
      needsInstall = false
    }
    const problems = findProblems(facts)
    if (problems.length > 0) throw new UserError(formatProblems(problems))
    if (native) {
      mkdirSync(dirname(stamp), { recursive: true })
      writeFileSync(stamp, toolchain)
    }
  }

  pnpm ??= fetchPnpm(root, run)
  // turbo starts the packages' scripts through the pnpm on PATH.
  if (pnpm !== 'pnpm') env.PATH = dirname(pnpm) + delimiter + env.PATH
  if (needsInstall) installPackages(root, pnpm, env, run)
  return env
}

/** Runs one step in the root with everything inherited; returns its exit status. */
export function runStep([command, ...args], env) {
  const result = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' })
  if (result.error) throw new UserError(`${command} could not be started: ${result.error.message}`)
  // 128 + 2 is what shells report for Ctrl-C; the signal reached the step first.
  return result.status ?? 130
}

function run(command, args, options, advice) {
  const result = spawnSync(command, args, { stdio: 'inherit', ...options })
  if (result.error || result.status !== 0) {
    throw new UserError(
      `\`${[command, ...args].join(' ')}\` failed${result.error ? `: ${result.error.message}` : ''}. ${advice}`,
    )
  }
}

/**
 * A folder to put on PATH where `node` there is another one, or none: turbo and CMake start it by that name.
 * Not node's own folder, which may hold other tools of other versions.
 */
function nodeFolder(env) {
  const ask = ['--print', 'process.execPath']
  if (spawnSync('node', ask, { env, encoding: 'utf8' }).stdout?.trim() === process.execPath) return []
  const folder = join(root, '.cache/node')
  mkdirSync(folder, { recursive: true })
  rmSync(join(folder, 'node'), { force: true })
  symlinkSync(process.execPath, join(folder, 'node'))
  return [folder]
}

function describeToolchain(env) {
  const ask = (command, args) => spawnSync(command, args, { env, encoding: 'utf8' }).stdout?.trim() ?? ''
  const [cxx, ...cxxArgs] = (env.CXX ?? 'c++').split(' ')
  // Where native/cmake/SpillwayKernels.cmake looks.
  const cudaFolders = [env.CUDA_HOME, env.CUDA_PATH, '/usr/local', '/usr/local/cuda'].filter(Boolean)
  const nvcc = ['nvcc', ...cudaFolders.map((folder) => join(folder, 'bin/nvcc'))].map((name) =>
    ask(name, ['--version']),
  )
  return [
    process.platform,
    process.arch,
    env.CXX ?? '',
    ask(cxx, [...cxxArgs, '--version']),
    ask('cmake', ['--version']),
    ask('ninja', ['--version']) || ask('make', ['--version']),
    ask('ldd', ['--version']),
    env.SPILLWAY_CUDA ?? '',
    ...nvcc,
  ].join('\n')
}

function read(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}
