import { expect, test } from 'vitest'
import { nodeProblem } from '../../scripts/node-version.mjs'
import { findProblems, formatProblems, systemOf } from '../../scripts/preflight.mjs'

type Facts = Parameters<typeof findProblems>[0]
const gcc = { command: 'c++', family: 'gcc', major: 12, works: true, worksStatically: true, output: '' } as const
const READY: Facts = {
  platform: 'linux',
  system: 'debian',
  superuser: false,
  namedCompiler: null,
  compiler: gcc,
  cmake: '3.22.1',
  buildTool: 'make',
  npm: true,
  registry: { reachable: true, url: '', detail: '' },
}
const report = (facts: Partial<Facts>) => formatProblems(findProblems({ ...READY, ...facts }))

test('a machine with everything has no problem, and what is not needed is not asked for', () => {
  expect(findProblems(READY)).toEqual([])
  expect(findProblems({ platform: 'linux', system: null, superuser: true })).toEqual([])
  for (const compiler of [
    { ...gcc, major: 11 },
    { ...gcc, family: 'clang' as const, major: 14 },
    { ...gcc, family: 'unknown' as const, major: 0 },
  ]) {
    expect(findProblems({ ...READY, compiler })).toEqual([])
  }
})

test.each<[string, Partial<Facts>, RegExp, string]>([
  ['no compiler', { compiler: null }, /No C\+\+ compiler was found/, 'sudo apt-get install g++'],
  ['CXX names none', { compiler: null, namedCompiler: 'g++-99' }, /named in CXX, g\+\+-99, was not found/, 'g++'],
  ['g++ 10', { compiler: { ...gcc, major: 10 } }, /is g\+\+ 10; the addons need g\+\+ 11 or clang\+\+ 14/, 'g++'],
  ['clang++ 13', { compiler: { ...gcc, family: 'clang', major: 13 } }, /is clang\+\+ 13/, 'g++'],
  [
    'a compiler that fails',
    { compiler: { ...gcc, works: false, output: 'x\nfatal error: span: No such file\n' } },
    /cannot build a C\+\+20 program: fatal error: span/,
    'g++',
  ],
  [
    'no static library',
    { compiler: { ...gcc, worksStatically: false }, system: 'fedora' },
    /no static C\+\+ library/,
    'sudo dnf install libstdc++-static',
  ],
  ['no cmake', { cmake: null }, /cmake was not found/, 'sudo apt-get install cmake'],
  ['cmake 3.21', { cmake: '3.21.7' }, /cmake 3\.21\.7 is too old/, 'pipx install cmake'],
  ['no make', { buildTool: null }, /Neither make nor ninja/, 'sudo apt-get install make'],
  ['no npm', { npm: false }, /npm was not found/, 'https://nodejs.org'],
  [
    'no registry',
    { registry: { reachable: false, url: 'https://u:secret@mirror.example/npm/', detail: 'ENOTFOUND' } },
    /registry at https:\/\/mirror\.example\/npm\/ could not be reached \(ENOTFOUND\)/,
    'npm config set https-proxy',
  ],
  ['not Linux', { platform: 'darwin', system: 'macos' }, /runs on Linux only today/, ''],
])('%s is named, with the command that helps', (_name, facts, sentence, command) => {
  expect(findProblems({ ...READY, ...facts })).toHaveLength(1)
  expect(report(facts)).toMatch(sentence)
  expect(report(facts)).toContain(command)
  expect(report(facts)).not.toContain('secret')
})

test('all problems are named at once, and one command installs all of it', () => {
  const bare = { compiler: null, cmake: null, buildTool: null }
  expect(findProblems({ ...READY, ...bare })).toHaveLength(3)
  expect(report(bare)).toMatch(/\n {2}All of it at once:\n {6}sudo apt-get install g\+\+ cmake make$/)
  expect(report({ ...bare, system: 'fedora' })).toContain('sudo dnf install gcc-c++ libstdc++-static cmake make')
  expect(report({ ...bare, system: 'arch', superuser: true })).toContain('      pacman -S gcc cmake make')
  expect(report({ ...bare, platform: 'darwin', system: 'macos' })).toContain('      brew install llvm cmake make')
})

test('on an unknown system the commands of the known ones are shown', () => {
  const text = report({ cmake: null, system: null })
  for (const line of [
    'apt-get install cmake   (Debian, Ubuntu)',
    'dnf install cmake   (Fedora)',
    'pacman -S cmake   (Arch)',
  ]) {
    expect(text).toContain(`sudo ${line}`)
  }
})

test('the system is known by /etc/os-release', () => {
  expect(systemOf('linux', 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n')).toBe('debian')
  expect(systemOf('linux', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n')).toBe('debian')
  expect(systemOf('linux', 'ID="rocky"\nID_LIKE="rhel centos fedora"\n')).toBe('fedora')
  expect(systemOf('linux', 'ID=nixos\n')).toBeNull()
  expect(systemOf('linux', '')).toBeNull()
  expect(systemOf('darwin', '')).toBe('macos')
})

test.each([
  ['18.20.8', false],
  ['20.18.3', false],
  ['20.19.0', true],
  ['21.7.3', false],
  ['22.11.0', false],
  ['22.12.0', true],
  ['23.0.0', true],
  ['26.10.0', true],
])('Node %s runs Spillway: %s', (version, runs) => {
  if (runs) expect(nodeProblem(version)).toBeNull()
  else expect(nodeProblem(version)).toContain(`Node ${version} does not run Spillway`)
})
