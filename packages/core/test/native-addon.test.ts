import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { loadNative } from '../src/index.js'
import { thrown } from './thrown.js'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-addon-'))
  mkdirSync(join(folder, 'src/deep'), { recursive: true })
  mkdirSync(join(folder, 'dist/native'), { recursive: true })
  mkdirSync(join(folder, 'dist/native-address'), { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{}')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))
const from = (name: string): string => pathToFileURL(join(folder, name)).href

test.each(['src/index.ts', 'src/deep/thing.ts', 'dist/index.js'])('no addon, asked for from %s', (file) => {
  const error = thrown(() => loadNative({ from: from(file), name: 'device' }))
  expect(error.code).toBe('SPILLWAY_ADDON_NOT_FOUND')
  expect(error.message).toContain(join(folder, 'dist/native/device.node'))
  expect(error.message).toContain('npm run build')
  expect(error.message).toContain(process.platform)
})

test('a file that is in no package at all', () => {
  const error = thrown(() => loadNative({ from: 'file:///no-such-folder/here/index.js', name: 'device' }))
  expect(error.code).toBe('SPILLWAY_ADDON_NOT_FOUND')
})

test('a sanitizer build has its own folder and its own command', () => {
  writeFileSync(join(folder, 'dist/native/device.node'), '')
  const error = thrown(() => loadNative({ from: from('src/index.ts'), name: 'device', variant: 'address' }))
  expect(error.code).toBe('SPILLWAY_ADDON_NOT_FOUND')
  expect(error.message).toContain(join(folder, 'dist/native-address/device.node'))
  expect(error.message).toContain('npm run test:asan')
})

test('an addon that is there and does not load is another failure, with its reason', () => {
  writeFileSync(join(folder, 'dist/native/device.node'), 'not an ELF file')
  const error = thrown(() => loadNative({ from: from('src/index.ts'), name: 'device' }))
  expect(error.code).toBe('SPILLWAY_ADDON_FAILED')
  expect(error.message).toContain('npm run build')
  expect(error.cause).toBeInstanceOf(Error)
})
