import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { filesBelow, findViolations } from './layering.js'

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

test('this checkout keeps the layering', () => {
  // Guards the guard: an empty scan would find no violation either.
  expect(filesBelow(join(root, 'packages/core/src'), /\.ts$/).length).toBeGreaterThan(3)
  expect(filesBelow(join(root, 'packages/device/native'), /\.cc$/).length).toBeGreaterThan(3)
  expect(findViolations(root)).toEqual([])
})

const exported = { '.': './dist/index.js', './package.json': './package.json' }
const PEERS = { '@spillway/core': '>=0.1.0 <1.0.0', '@spillway/device': '>=0.1.0 <1.0.0' }
/** A small checkout without a violation. */
const CLEAN: Readonly<Record<string, string>> = {
  'packages/core/package.json': JSON.stringify({ name: '@spillway/core', exports: exported }),
  'packages/core/src/index.ts': "import { join } from 'node:path'\nexport * from './environment.js'\nexport { join }",
  'packages/core/src/environment.ts': 'export const debug = process.env.SPILLWAY_DEBUG',
  'packages/device/package.json': JSON.stringify({
    name: '@spillway/device',
    exports: exported,
    dependencies: { '@spillway/core': 'workspace:^' },
    devDependencies: { '@spillway/native': 'workspace:^' },
  }),
  'packages/device/src/index.ts': "import type { Device } from '@spillway/core'\nexport type { Device }",
  'packages/device/native/host/stream.h': '#include <thread>\n#include "spillway/abi.h"',
  'packages/device/native/host/stream.cc':
    '#include "stream.h"\n#include "host/stream.h"\nvoid f() { dlopen("libcuda.so.1", 1); }',
  'packages/device/CMakeLists.txt':
    'execute_process(COMMAND node -p "require.resolve(\'@spillway/native/package.json\')")',
  'packages/prefetch/package.json': JSON.stringify({
    name: '@spillway/prefetch',
    exports: exported,
    peerDependencies: PEERS,
  }),
  'packages/prefetch/src/index.ts': "import { openDevice } from '@spillway/device'\nexport default openDevice",
  'packages/prefetch/native/ring.cc': '#include <spillway/napi.hpp>\n// #include "../../device/native/host/stream.h"',
  'packages/cli/package.json': JSON.stringify({
    name: 'spillway',
    dependencies: { '@spillway/core': 'workspace:^', 'import-meta-resolve': '4.2.0' },
    peerDependencies: { '@spillway/prefetch': '>=0.1.0 <1.0.0' },
    peerDependenciesMeta: { '@spillway/prefetch': { optional: true } },
  }),
  'packages/cli/src/cli.ts':
    "import { resolve } from 'import-meta-resolve'\nexport const load = (name: string) => import(resolve(name, import.meta.url))\nexport const prefetch = () => import('@spillway/prefetch')",
  'native/include/spillway/abi.h': '#include <stdint.h>',
  'native/include/spillway/napi.hpp': '#include <napi.h>\n#include "spillway/abi.h"',
}

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function violationsWith(changes: Readonly<Record<string, string>>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-layering-'))
  folders.push(folder)
  for (const [name, text] of Object.entries({ ...CLEAN, ...changes })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return findViolations(folder)
}

test('the clean checkout has no violation', () => {
  expect(violationsWith({})).toEqual([])
})

describe('a planted violation is found', () => {
  const manifest = (folder: string, more: object) => ({
    [`packages/${folder}/package.json`]: JSON.stringify({
      ...(JSON.parse(CLEAN[`packages/${folder}/package.json`] ?? '{}') as object),
      ...more,
    }),
  })
  const source = (folder: string, text: string) => ({ [`packages/${folder}/src/planted.ts`]: text })
  const native = (folder: string, text: string) => ({ [`packages/${folder}/native/planted.cc`]: text })

  test.each<[string, Record<string, string>, RegExp]>([
    ['core depends on a package', manifest('core', { dependencies: { zod: '4.0.0' } }), /core depends on zod/],
    [
      'device depends on a backend',
      manifest('device', { dependencies: { '@spillway/prefetch': '*' } }),
      /may not depend on @spillway\/prefetch/,
    ],
    [
      'a backend depends on core',
      manifest('prefetch', { dependencies: { '@spillway/core': '*' } }),
      /which a backend has as a peer/,
    ],
    [
      'a backend peers on the decoder',
      manifest('prefetch', { peerDependencies: { '@spillway/decoder': '*' } }),
      /may not peer-depend on @spillway\/decoder/,
    ],
    [
      'a peer range of the workspace',
      manifest('prefetch', { peerDependencies: { '@spillway/core': 'workspace:^' } }),
      /must be literal/,
    ],
    [
      'a backend is a hard peer of the command',
      manifest('cli', { peerDependenciesMeta: {} }),
      /may not peer-depend on @spillway\/prefetch/,
    ],
    [
      'device develops against a backend',
      manifest('device', { devDependencies: { '@spillway/prefetch': '*' } }),
      /may not develop against/,
    ],
    [
      'optional dependency',
      manifest('cli', { optionalDependencies: { '@spillway/prefetch': '*' } }),
      /may not optionally depend/,
    ],
    ['unknown package', { 'packages/new/package.json': '{"name":"@spillway/new"}' }, /has no entry/],
    ['core imports device', source('core', "import '@spillway/device'"), /may not import @spillway\/device/],
    ['a type import', source('core', "import type { A } from '@spillway/device'"), /may not import @spillway\/device/],
    [
      'an import type',
      source('core', "export type A = import('@spillway/device').A"),
      /may not import @spillway\/device/,
    ],
    ['a re-export', source('device', "export * from '@spillway/prefetch'"), /may not import @spillway\/prefetch/],
    [
      'import()',
      source('device', "export const a = import('@spillway/prefetch')"),
      /may not import @spillway\/prefetch/,
    ],
    [
      'import() of a template',
      source('device', 'export const a = import(`@spillway/prefetch`)'),
      /may not import @spillway\/prefetch/,
    ],
    [
      'require()',
      source('device', "declare const require: (a: string) => unknown\nrequire('@spillway/prefetch')"),
      /may not import @spillway\/prefetch/,
    ],
    ['import() of a value', source('device', 'export const a = (b: string) => import(b)'), /not a literal/],
    ['a relative escape', source('device', "import '../../core/src/index.js'"), /outside of the package/],
    ['a deep import', source('device', "import '@spillway/core/dist/errors.js'"), /does not export/],
    ['its own name', source('device', "import '@spillway/device'"), /its own package by name/],
    ['native from a script', source('device', "import '@spillway/native/package.json'"), /for building addons only/],
    ['an undeclared package', source('device', "import 'left-pad'"), /not among its dependencies/],
    ['the command imports a backend', source('cli', "import prefetch from '@spillway/prefetch'"), /statically/],
    [
      'the command imports a type of a backend',
      source('cli', "import type { A } from '@spillway/prefetch'"),
      /statically/,
    ],
    ['process.env', source('device', 'export const a = process.env.A'), /reads environment variables/],
    ["process['env']", source('device', "export const a = process['env']"), /reads environment variables/],
    [
      'globalThis.process.env',
      source('device', 'export const a = globalThis.process.env'),
      /reads environment variables/,
    ],
    [
      'const { env } = process',
      source('device', 'const { env } = process\nexport { env }'),
      /reads environment variables/,
    ],
    [
      'import { env }',
      source('device', "import { env as e } from 'node:process'\nexport { e }"),
      /reads environment variables/,
    ],
    ['another package’s header', native('prefetch', '#include "../../device/native/host/stream.h"'), /another package/],
    ['a header by its name only', native('prefetch', '#include "host/stream.h"'), /neither its own/],
    ['an SDK header that is not there', native('prefetch', '#include "spillway/secret.h"'), /not in native\/include/],
    [
      'an escape from the SDK',
      native('prefetch', '#include "spillway/../../../packages/device/native/host/stream.h"'),
      /not in native\/include/,
    ],
    ['a header named by a macro', native('prefetch', '#include HEADER'), /named by a macro/],
    ['napi.h in a package', native('prefetch', '#include <napi.h>'), /the only place/],
    ['napi.h in another SDK header', { 'native/include/spillway/abi.hpp': '#include <napi.h>' }, /the only place/],
    [
      'a loader that pins',
      source('prefetch', "export const a = (b) => b.allocateHost(1, { storage: 'pinned' })"),
      /chooses a kind of host memory/,
    ],
    [
      'const { allocateHost } = device',
      source('prefetch', 'export const a = (b) => { const { allocateHost } = b }'),
      /chooses a kind of host memory/,
    ],
    [
      'beside the file that may',
      { 'packages/core/src/host-arena.ts': '', 'packages/core/src/host-arena.test.ts': 'a.allocateHostParts([1])' },
      /chooses a kind of host memory/,
    ],
    ['memory of a backend’s own', native('prefetch', 'check(api->buffer_create, device, &a, &b);'), /asks the device/],
    ['getenv', native('device', 'auto a = std::getenv("A");'), /reads environment variables/],
    ['dlopen where nothing is opened', native('prefetch', 'auto a = dlopen("libcuda.so.1", 1);'), /opens libraries/],
    [
      'CMake reaching out',
      { 'packages/prefetch/CMakeLists.txt': 'include_directories(../device/native)' },
      /reaches outside/,
    ],
    [
      'CMake finding another package',
      { 'packages/prefetch/CMakeLists.txt': 'node -p "require.resolve(\'@spillway/device/package.json\')"' },
      /reaches outside/,
    ],
  ])('%s', (_name, changes, message) => {
    const found = violationsWith(changes)
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(message)
  })
})
