// pnpm in the version that package.json's packageManager names, and `pnpm install`.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pnpmNetworkEnvironment, readIfThere, saveCertificatesTo, withoutNpmSettings } from './network-settings.mjs'

const REGISTRY_ADVICE =
  'Registry, proxy and certificates are npm’s own: see `npm config list`, and run the same command again.'
const LOCKFILE_ADVICE =
  'If it was about the lockfile, `npm run pnpm -- install --no-frozen-lockfile` brings it up to date. If it was about the network: '

/** `12.21.0` */
export function pnpmVersion(root) {
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return packageManager.split('@')[1].split('+')[0]
}

/** The command: our own copy in .cache, or the one on PATH if it is the right version; else null. */
export function findPnpm(root, env) {
  const version = pnpmVersion(root)
  const own = join(root, '.cache/pnpm', version, 'node_modules/.bin/pnpm')
  if (existsSync(own)) return own
  // A corepack shim would go to the network, and may ask a question there.
  const quiet = { ...env, COREPACK_ENABLE_NETWORK: '0', COREPACK_ENABLE_DOWNLOAD_PROMPT: '0' }
  const found = spawnSync('pnpm', ['--version'], { cwd: '/', env: quiet, encoding: 'utf8', stdio: 'pipe' })
  return found.stdout?.trim() === version ? 'pnpm' : null
}

/** How to start npm: the one that started us, else the one on PATH. */
export function npmCommand() {
  const cli = process.env.npm_execpath
  return cli && /npm-cli\.[cm]?js$/.test(cli) && existsSync(cli) ? [process.execPath, cli] : ['npm']
}

/** Fetches pnpm with npm, under the user's npm settings; returns the command. */
export function fetchPnpm(root, run) {
  const version = pnpmVersion(root)
  const own = join(root, '.cache/pnpm', version)
  const partial = `${own}.${process.pid}`
  console.log(`setup: fetching pnpm ${version} into .cache/pnpm`)
  mkdirSync(partial, { recursive: true })
  // A package of its own: with --prefix alone npm would still walk up to this workspace.
  writeFileSync(join(partial, 'package.json'), '{"private":true}')
  const [command, ...npm] = npmCommand()
  const args = [...npm, 'install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error', '--global=false']
  // The binary is an optional dependency, put in place by an install script.
  args.push('--include=optional', '--ignore-scripts=false', '--dry-run=false', `pnpm@${version}`)
  const env = withoutNpmSettings(process.env)
  try {
    run(command, args, { cwd: partial, env }, REGISTRY_ADVICE)
    // In one step, so that a run that is broken off, or another one beside it, never sees half a pnpm.
    if (!existsSync(own)) renameSync(partial, own)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return join(own, 'node_modules/.bin/pnpm')
}

/** What node_modules was made from. */
function installKey(root) {
  const hash = createHash('sha256').update(process.version)
  const manifests = readdirSync(join(root, 'packages')).map((name) => `packages/${name}/package.json`)
  manifests.push(
    'package.json',
    'native/package.json',
    'tests/abi/package.json',
    'tests/allocator/package.json',
    'examples/generate/package.json',
  )
  for (const file of ['pnpm-lock.yaml', 'pnpm-workspace.yaml', ...manifests]) {
    hash.update(`\0${file}\0`).update(readIfThere(join(root, file)))
  }
  return hash.digest('hex')
}

const stampOf = (root) => join(root, 'node_modules/.spillway-install')

/** Whether node_modules holds what the lockfile says. */
export function installIsCurrent(root) {
  return readIfThere(stampOf(root)) === installKey(root)
}

/** `pnpm install`, under the user's npm settings. */
export function install(root, pnpm, env, run) {
  const args = ['install', '--frozen-lockfile', '--prefer-offline']
  run(pnpm, args, { cwd: root, env: { ...env, ...installEnvironment(root, env) } }, LOCKFILE_ADVICE + REGISTRY_ADVICE)
  stampInstall(root)
}

/** `pnpm install` from pnpm's store alone: true when everything was there. */
export function installOffline(root, pnpm, env) {
  const args = ['install', '--frozen-lockfile', '--offline']
  const done = spawnSync(pnpm, args, { cwd: root, env: { ...env, ...installEnvironment(root, env) }, stdio: 'ignore' })
  if (done.status === 0) stampInstall(root)
  return done.status === 0
}

function stampInstall(root) {
  writeFileSync(stampOf(root), installKey(root))
}

/** What pnpm needs besides `env` to reach the registry as npm does. */
export function installEnvironment(root, env) {
  const [command, ...npm] = npmCommand()
  // Outside the checkout's settings there is nothing to lose: a failing npm means pnpm's own defaults.
  const asked = spawnSync(command, [...npm, 'config', 'list', '--json'], { cwd: root, env, encoding: 'utf8' })
  let settings = {}
  try {
    settings = JSON.parse(asked.stdout)
  } catch {}
  const certificates = join(root, '.cache/registry-certificates.pem')
  mkdirSync(dirname(certificates), { recursive: true })
  return {
    // An install that must replace node_modules would stop to ask, or fail where there is no terminal.
    pnpm_config_confirm_modules_purge: 'false',
    ...pnpmNetworkEnvironment({
      settings,
      env,
      globalConfig: settings.globalconfig ? readIfThere(settings.globalconfig) : '',
      saveCertificates: saveCertificatesTo(certificates),
    }),
  }
}
