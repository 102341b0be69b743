import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { checkWritable, writeWhole } from '../src/whole-file.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-whole-file-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

test('a file is there whole, and nothing beside it', async () => {
  await checkWritable(join(scratch, 'a'))
  expect(readdirSync(scratch)).toEqual([])
  await writeWhole(join(scratch, 'a'), 'one')
  await writeWhole(join(scratch, 'a'), 'two')
  expect(readdirSync(scratch)).toEqual(['a'])
  expect(readFileSync(join(scratch, 'a'), 'utf8')).toBe('two')
})

test('why it cannot be written, in the words of who asked', async () => {
  mkdirSync(join(scratch, 'folder'))
  const reasons = await Promise.all(
    [
      checkWritable(join(scratch, 'none/a')),
      writeWhole(join(scratch, 'none/a'), ''),
      writeWhole(join(scratch, 'a/b'), ''),
      writeWhole(join(scratch, 'folder'), ''),
    ].map((writing) => writing.catch((error: Error) => error.message)),
  )
  expect(reasons).toEqual([
    `there is no directory ${join(scratch, 'none')} (ENOENT)`,
    `there is no directory ${join(scratch, 'none')} (ENOENT)`,
    'ENOTDIR: not a directory',
    'EISDIR: illegal operation on a directory',
  ])
  expect(readdirSync(scratch)).toEqual(['a', 'folder'])
})
