// npm run gpu-bundle: one folder that runs the tests on a Linux machine with a GPU and nothing else: no Node, no npm, no
// compiler, no network. docs/GPU-TESTING.md says how it is used.
//   node.xz     Node, from its npm package
//   app.tar.xz  this checkout as built: sources, tests, dist, and the packages that running them needs
//   run.sh      unpacks both, once, and runs
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { withoutNpmSettings } from './network-settings.mjs'
import { npmCommand } from './package-manager.mjs'
import { root, UserError } from './workspace.mjs'

const NODE = '24.21.0'
const LIMIT_BYTES = 64 * 2 ** 20
const bundle = join(root, 'gpu-bundle')
const scratch = join(root, '.cache/gpu-bundle')
const app = join(scratch, 'app')

// Tests of the checkout itself, and what only compilers read. Prose is needed: tests hold it to what programs do.
const STAYS =
  /^\.changeset\/|^native\/(?!include\/)|^tests\/(shell|layering|docs)\/|^packages\/[^/]+\/native\/|^packages\/device\/test\/(confidential-computing|fake-nvml)|^tests\/abi\/(native\/|exports|kernel-image)|^pnpm-lock\.yaml$/
// Besides the packages' own dependencies.
const TOOLS = ['vitest', 'fast-check']
// Machine code compresses by a tenth better when its jumps are seen as what they are.
const COMPRESSION = [...(process.arch === 'x64' ? ['--x86'] : []), '--lzma2=preset=9']

try {
  main()
} catch (error) {
  if (!(error instanceof UserError)) throw error
  console.error(error.message)
  process.exitCode = 1
}

function main() {
  for (const tool of ['xz', 'tar', 'strip', 'git']) {
    if (tryRun(tool, ['--version']) === null) {
      throw new UserError(`${tool} was not found: install it (Debian: apt-get install xz-utils tar binutils git).`)
    }
  }
  rmSync(app, { recursive: true, force: true })
  rmSync(bundle, { recursive: true, force: true })
  mkdirSync(bundle, { recursive: true })
  copyCheckout()
  copyDependencies()
  // Sorted, of one date and owner: the same files make the same archive.
  const flags = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner']
  run('tar', [...flags, '-cJf', join(bundle, 'app.tar.xz'), '-C', app, '.'], {
    env: { ...process.env, XZ_OPT: COMPRESSION.join(' ') },
  })
  copyFileSync(compressedNode(), join(bundle, 'node.xz'))
  const names = ['node.xz', 'app.tar.xz']
  const hash = createHash('sha256')
  for (const name of names) hash.update(readFileSync(join(bundle, name)))
  writeFileSync(join(bundle, 'run.sh'), runScript(hash.digest('hex').slice(0, 16)), { mode: 0o755 })

  let total = 0
  for (const name of [...names, 'run.sh']) {
    const { size } = statSync(join(bundle, name))
    total += size
    console.log(`${name.padEnd(12)} ${mebibytes(size)}`)
  }
  console.log(`gpu-bundle/  ${mebibytes(total)}`)
  if (total > LIMIT_BYTES) throw new UserError(`The bundle is larger than ${mebibytes(LIMIT_BYTES)}.`)
}

/** Every file git knows or could know, and what was built from them. */
function copyCheckout() {
  const files = run('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: root })
    .split('\0')
    .filter((file) => file && !STAYS.test(file) && existsSync(join(root, file)))
  const built = [...below('packages'), ...below('tests')].flatMap((folder) => {
    const dist = join(folder, 'dist')
    if (!existsSync(join(root, dist))) return []
    return readdirSync(join(root, dist), { recursive: true })
      .filter((name) => /\.(js|css)$|^native\/[^/]+\.node$/.test(name))
      .map((name) => join(dist, name))
  })
  if (!built.some((file) => file.endsWith('device.node'))) throw new UserError('Nothing is built: npm run gpu-bundle.')
  for (const file of [...files, ...built]) {
    mkdirSync(dirname(join(app, file)), { recursive: true })
    copyFileSync(join(root, file), join(app, file))
    if (file.endsWith('.node')) run('strip', [join(app, file)])
  }
}

/** The part of node_modules that is needed, links and all, so that the versions are those of the lockfile. */
function copyDependencies() {
  const store = join(root, 'node_modules/.pnpm') + sep
  const links = new Set()
  const copied = new Set()
  const optional = []
  const follow = (link) => {
    if (links.has(link) || !existsSync(link)) return
    links.add(link)
    const to = join(app, relative(root, link))
    mkdirSync(dirname(to), { recursive: true })
    symlinkSync(readlinkSync(link), to)
    const target = realpathSync(link)
    if (!target.startsWith(store) || copied.has(target)) return
    copied.add(target)
    const types = /\.d\.[cm]?ts$|\.map$|\.md$/
    cpSync(target, join(app, relative(root, target)), { recursive: true, filter: (file) => !types.test(file) })
    // <store>/<package>@<version>/node_modules holds the package, and links to what it depends on.
    const neighbours = join(store, target.slice(store.length).split(sep)[0], 'node_modules')
    const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = readPackage(target)
    for (const name of Object.keys({ ...peerDependencies, ...optionalDependencies, ...dependencies })) {
      if (peerDependenciesMeta?.[name]?.optional && !dependencies?.[name]) optional.push(join(neighbours, name))
      else follow(join(neighbours, name))
    }
  }
  for (const tool of TOOLS) follow(join(root, 'node_modules', tool))
  for (const folder of [...below('packages'), ...below('examples')]) {
    // What tests of a package need as well: texts, and packages of this workspace.
    const { dependencies, devDependencies } = readPackage(join(root, folder))
    for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
      follow(join(root, folder, 'node_modules', name))
    }
  }
  // An optional peer is not wanted for its own sake: vite is one of @vitest/mocker, and so are compilers and coverage.
  for (const link of optional) if (existsSync(link) && copied.has(realpathSync(link))) follow(link)
}

function readPackage(folder) {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
}

/** Folders of packages, relative to the root. */
function below(folder) {
  return readdirSync(join(root, folder))
    .map((name) => join(folder, name))
    .filter((path) => existsSync(join(root, path, 'package.json')))
}

/** Compressing takes half a minute, so the result is kept. */
function compressedNode() {
  const name = `node-linux-${process.arch}`
  const file = join(scratch, `${name}-${NODE}-${COMPRESSION.join('')}.xz`)
  if (existsSync(file)) return file
  const folder = join(scratch, 'node')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{"private":true}')
  const [npm, ...args] = npmCommand()
  const options = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', `${name}@${NODE}`]
  run(npm, [...args, ...options], { cwd: folder, env: withoutNpmSettings(process.env) })
  run('strip', ['-o', 'node', `node_modules/${name}/bin/node`], { cwd: folder })
  run('xz', [...COMPRESSION, '-k', '-f', 'node'], { cwd: folder })
  copyFileSync(join(folder, 'node.xz'), file)
  rmSync(folder, { recursive: true })
  return file
}

function runScript(id) {
  return `#!/bin/sh
# sh run.sh [--out FOLDER] [vitest arguments]   the tests; --out leaves their results there, as JSON
# sh run.sh node FILE [arguments]               a script of the checkout
# sh run.sh exec COMMAND [arguments]            any command, in the checkout, with this Node on PATH
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dest=\${SPILLWAY_BUNDLE_FOLDER:-\${TMPDIR:-/var/tmp}/spillway-gpu-bundle-$(id -u)}/${id}
if [ ! -d "$dest" ]; then
  new=$dest.$$
  mkdir -p "$new/app" "$new/bin"
  if command -v xz >/dev/null; then unpack() { xz -dc "$1"; }
  else unpack() { python3 -c 'import lzma,shutil,sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"; }
  fi
  unpack "$here/app.tar.xz" > "$new/app.tar"
  tar -xf "$new/app.tar" -C "$new/app"
  rm "$new/app.tar"
  unpack "$here/node.xz" > "$new/bin/node"
  chmod +x "$new/bin/node"
  # Whoever comes second finds it there.
  mv -T "$new" "$dest" 2>/dev/null || rm -rf "$new"
fi
if [ "\${1:-}" = --out ]; then
  mkdir -p "$2"
  out=$(cd "$2" && pwd)
  shift 2
  set -- --reporter=json --outputFile.json="$out/tests.json" "$@"
fi
PATH=$dest/bin:$dest/app/node_modules/.bin:$PATH
export PATH
cd "$dest/app"
case \${1:-} in
  node) exec "$@" ;;
  exec) shift; exec "$@" ;;
  *) exec node scripts/test.mjs --no-build "$@" ;;
esac
`
}

function run(command, args, options = {}) {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
    ...options,
  })
}

function tryRun(command, args) {
  try {
    return execFileSync(command, args, { stdio: 'ignore' }) ?? ''
  } catch {
    return null
  }
}

function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
