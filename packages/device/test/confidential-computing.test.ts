// How NVML is asked, and what its answers mean, by libraries that pass for it.
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addon } from '../src/addon.js'

/** Results are NVML's: 0 is success, 3 not supported, 999 unknown. Left out: there is no such function. */
interface FakeNvml {
  readonly initialize?: number
  readonly settings?: number
  readonly state?: number
  readonly feature?: number
  readonly multiGpuMode?: number
}

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-nvml-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

// A sanitizer of this process's must not get into the compiler's: it breaks there.
const { LD_PRELOAD: _, ...env } = process.env

/** The compiler that built the addon. */
const [compiler, ...compilerArgs] = (env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++'])
  .map((command) => command.split(' '))
  .find(([command]) => spawnSync(command!, ['--version'], { env }).error === undefined) ?? ['c++']

async function build({ initialize = 0, settings, state, feature = 0, multiGpuMode = 0 }: FakeNvml): Promise<string> {
  const library = join(mkdtempSync(join(folder, 'fake-')), 'libnvidia-ml.so.1')
  const defined = {
    INITIALIZE_RESULT: initialize,
    SETTINGS_RESULT: settings,
    STATE_RESULT: state,
    FEATURE: feature,
    MULTI_GPU_MODE: multiGpuMode,
  }
  const args = [
    ...compilerArgs,
    ...['-std=c++20', '-shared', '-fPIC', '-o', library],
    ...Object.entries(defined).flatMap(([name, value]) => (value === undefined ? [] : [`-D${name}=${value}`])),
    fileURLToPath(new URL('fake-nvml.cc', import.meta.url)),
  ]
  await promisify(execFile)(compiler!, args, { env })
  return library
}

test.each<[string, FakeNvml, boolean]>([
  ['says on', { settings: 0, state: 0, feature: 1 }, true],
  ['says off', { settings: 0, state: 0 }, false],
  ['says off, and protected PCIe among several GPUs', { settings: 0, state: 0, multiGpuMode: 1 }, true],
  ['says off, and encrypted NVLink among several GPUs', { settings: 0, state: 0, multiGpuMode: 2 }, true],
  ['is older, and says on', { state: 0, feature: 1 }, true],
  ['is older, and says off', { state: 0 }, false],
  ['supports only what is older', { settings: 3, state: 0, feature: 1 }, true],
  ['supports neither', { settings: 3, state: 3, feature: 1, multiGpuMode: 1 }, false],
  ['fails', { settings: 999, state: 999, feature: 1 }, false],
  ['knows nothing of it', { feature: 1 }, false],
  ['does not start', { initialize: 999, settings: 0, state: 0, feature: 1 }, false],
])('an NVML that %s', async (_, fake, expected) => {
  const library = await build(fake)
  expect(addon().confidentialComputingBy(library)).toBe(expected)
  // It was shut down: whoever else uses it counts on that.
  expect(addon().confidentialComputingBy(library)).toBe(expected)
})

test('no NVML, and a file that is none', () => {
  expect(addon().confidentialComputingBy(join(folder, 'nowhere.so.1'))).toBe(false)
  const file = join(folder, 'text.so.1')
  writeFileSync(file, 'no library')
  expect(addon().confidentialComputingBy(file)).toBe(false)
  // A library, but another one.
  expect(addon().confidentialComputingBy('libdl.so.2')).toBe(false)
})
