// The facts preflight.mjs judges, asked of this machine.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readIfThere, withoutNpmSettings } from './network-settings.mjs'
import { npmCommand, pnpmVersion } from './package-manager.mjs'
import { OLDEST, systemOf } from './preflight.mjs'

/**
 * `native`: compilers are needed. `needsInstall`, `pnpm`: packages, or pnpm itself when null, must be fetched.
 * @returns {import('./preflight.mjs').Facts}
 */
export function probe({ root, env, native, needsInstall, pnpm }) {
  const facts = {
    platform: process.platform,
    system: systemOf(process.platform, readIfThere('/etc/os-release')),
    superuser: process.getuid?.() === 0,
  }
  if (native) {
    const chosen = chooseCompiler(env)
    facts.namedCompiler = process.env.CXX || null
    facts.compiler = chosen && { ...chosen, ...tryCompiler(chosen.command, env) }
    const cmake = spawnSync('cmake', ['--version'], { env, encoding: 'utf8' })
    facts.cmake = cmake.status === 0 ? (/(\d+\.\d+[.\d]*)/.exec(cmake.stdout)?.[1] ?? null) : null
    const has = (tool) => spawnSync(tool, ['--version'], { env }).status === 0
    facts.buildTool = has('ninja') ? 'ninja' : has('make') ? 'make' : null
  }
  if (needsInstall || !pnpm) {
    const [command, ...npm] = npmCommand()
    facts.npm = pnpm !== null || spawnSync(command, [...npm, '--version'], { env }).status === 0
    if (facts.npm) facts.registry = askRegistry(root, [command, ...npm])
  }
  return facts
}

/**
 * The C++ compiler to build with: CXX, or the first of c++, g++ and clang++ that is new enough, or the first there is.
 * @returns {{ command: string, family: 'gcc' | 'clang' | 'unknown', major: number, isDefault: boolean } | null}
 */
export function chooseCompiler(env) {
  const found = (env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++'])
    .map((command) => identify(command, env))
    .filter(Boolean)
  const chosen = found.find(({ family, major }) => major >= (OLDEST[family] ?? 0)) ?? found[0]
  // CMake by itself takes CXX, else the first of these names that exists.
  return chosen ? { ...chosen, isDefault: chosen === found[0] } : null
}

function identify(command, env) {
  const [name, ...args] = command.split(' ')
  const asked = spawnSync(name, [...args, '-dM', '-E', '-x', 'c++', '/dev/null'], { env, encoding: 'utf8' })
  if (asked.error || asked.status !== 0) return asked.error ? null : { command, family: 'unknown', major: 0 }
  const number = (macro) => Number(new RegExp(`#define ${macro} (\\d+)`).exec(asked.stdout)?.[1] ?? 0)
  // clang defines __GNUC__ too
  if (number('__clang_major__')) return { command, family: 'clang', major: number('__clang_major__') }
  if (number('__GNUC__')) return { command, family: 'gcc', major: number('__GNUC__') }
  return { command, family: 'unknown', major: 0 }
}

/** Builds a small shared library the way the addons are built. */
function tryCompiler(command, env) {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-preflight-'))
  try {
    const source = join(folder, 'probe.cc')
    writeFileSync(
      source,
      '#include <atomic>\n#include <concepts>\n#include <semaphore>\n#include <span>\n#include <string>\n#include <thread>\n' +
        'template <std::integral T> T Sum(std::span<const T> s) { T t{}; for (T v : s) t += v; return t; }\n' +
        'extern "C" int Probe(const int* p, unsigned n) {\n' +
        '  std::atomic<int> sum{0}; std::binary_semaphore done{0};\n' +
        '  std::jthread worker([&] { sum = Sum(std::span<const int>(p, n)); done.release(); });\n' +
        '  done.acquire(); return sum + static_cast<int>(std::to_string(n).size());\n}\n',
    )
    const [name, ...args] = command.split(' ')
    const build = (flags) =>
      spawnSync(
        name,
        [...args, '-std=c++20', '-shared', '-fPIC', '-pthread', ...flags, source, '-o', join(folder, 'probe.so')],
        {
          env,
          encoding: 'utf8',
        },
      )
    const fully = build(process.platform === 'linux' ? ['-static-libstdc++', '-static-libgcc'] : [])
    if (fully.status === 0) return { works: true, worksStatically: true, output: '' }
    const plain = build([])
    return { works: plain.status === 0, worksStatically: false, output: plain.stderr ?? '' }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Asks for pnpm's version the way the install will: with npm, under the user's settings, once. */
function askRegistry(root, [command, ...npm]) {
  const env = withoutNpmSettings(process.env)
  const ask = (args) => spawnSync(command, [...npm, ...args], { cwd: tmpdir(), env, encoding: 'utf8', timeout: 60_000 })
  const view = [
    'view',
    `pnpm@${pnpmVersion(root)}`,
    'version',
    '--prefer-online',
    '--fetch-retries=1',
    '--fetch-retry-mintimeout=500',
    '--fetch-retry-maxtimeout=1000',
    '--fetch-timeout=20000',
  ]
  const answer = ask(view)
  if (answer.status === 0 && answer.stdout.trim()) return { reachable: true, url: '', detail: '' }
  // npm does not tell a URL that holds credentials.
  const url = ask(['config', 'get', 'registry']).stdout?.trim() || env.npm_config_registry || ''
  return { reachable: false, url, detail: /npm err(?:or|!) code (\S+)/i.exec(answer.stderr ?? '')?.[1] ?? '' }
}
