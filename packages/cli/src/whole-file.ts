import { randomUUID } from 'node:crypto'
import { rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Whole or not at all: written beside it and renamed, so that who reads it at any moment finds a whole file. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}`)
  try {
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
}

/** Rejects where `writeWhole` would, room on the disk aside. What is at `path` stays as it is, and nothing is left. */
export async function checkWritable(path: string): Promise<void> {
  if ((await stat(path).catch(() => undefined))?.isDirectory()) throw new Error('it is a directory')
  const probe = join(dirname(path), `.${basename(path)}.${randomUUID()}`)
  await writeFile(probe, '')
  await rm(probe)
}
