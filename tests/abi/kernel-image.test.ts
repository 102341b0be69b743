// spillway_kernels() as a package elsewhere uses it, with and without nvcc.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'

const sdk = fileURLToPath(new URL('../../native', import.meta.url))
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** What configuring says, and how to build and run a program that prints an image's first bytes and its size. */
function project(...options: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-kernels-'))
  folders.push(folder)
  mkdirSync(join(folder, 'native'))
  writeFileSync(join(folder, 'native/set.cu'), 'extern "C" __global__ void set(int* to) { *to = VALUE; }\n')
  writeFileSync(
    join(folder, 'native/main.cc'),
    `#include <spillway/kernel_image.hpp>
#include <cstdio>
namespace spillway::images { KernelImage set(); }
int main() {
  auto [data, bytes] = spillway::images::set();
  printf("%x %d", data ? *static_cast<const unsigned*>(data) : 0, static_cast<int>(bytes));
}
`,
  )
  writeFileSync(
    join(folder, 'CMakeLists.txt'),
    `cmake_minimum_required(VERSION 3.22)
project(elsewhere LANGUAGES CXX)
include(${sdk}/cmake/SpillwayAddon.cmake)
add_executable(main native/main.cc)
target_include_directories(main PRIVATE ${sdk}/include)
spillway_kernels(main native/set.cu OPTIONS -DVALUE=3)
`,
  )
  const run = (...[command, ...args]: [string, ...string[]]) => {
    const { stdout, stderr } = spawnSync(command, args, {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, SPILLWAY_CUDA: '' },
    })
    return stdout + stderr.replace(/\s+/g, ' ')
  }
  const configured = run('cmake', '-B', 'build', ...options, '.')
  return { configured, build: () => run('cmake', '--build', 'build'), print: () => run('build/main') }
}

test('an image where there is nvcc, none where there is not', () => {
  const { configured, build, print } = project()
  build()
  const [magic, bytes] = print().split(' ')
  if (/main: device code by/.test(configured)) {
    expect(magic).toBe('ba55ed50') // a fatbin's
    expect(Number(bytes)).toBeGreaterThan(1000)
  } else {
    expect(configured).toMatch(/main: no device code: (nvcc was not found|.* needs 12\.8)/)
    expect([magic, bytes]).toEqual(['0', '0'])
  }
})

test.each([
  ['off', /main: no device code: SPILLWAY_CUDA is off/, '-DSPILLWAY_CUDA=off'],
  ['something that is no nvcc', /main: no device code: .*false --version did not tell/, '-DSPILLWAY_NVCC=/bin/false'],
])('%s: it builds without', (_, why, option) => {
  const { configured, build, print } = project(option)
  expect(configured).toMatch(why)
  build()
  expect(print()).toBe('0 0')
})

test.each<[RegExp, string[]]>([
  [/SPILLWAY_CUDA is required, but .*false --version/, ['-DSPILLWAY_CUDA=required', '-DSPILLWAY_NVCC=/bin/false']],
  [/SPILLWAY_CUDA is 'of'; it may be auto, off or required/, ['-DSPILLWAY_CUDA=of']],
])('refused: %s', (error, options) => expect(project(...options).configured).toMatch(error))
