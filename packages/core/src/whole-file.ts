import { randomUUID } from 'node:crypto'
import { rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Whole or not at all: written beside it and renamed, so that who reads it at any moment finds a whole file. Rejects with
 * an error that says why, and names no file but `path`.
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = temporaryPath(path)
  try {
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw reasonOf(error, path)
  }
}

/** Rejects where `writeWhole` would, room on the disk aside. What is at `path` stays as it is, and nothing is left. */
export async function checkWritable(path: string): Promise<void> {
  if ((await stat(path).catch(() => undefined))?.isDirectory()) throw new Error('it is a directory')
  const probe = temporaryPath(path)
  try {
    await writeFile(probe, '')
    await rm(probe)
  } catch (error) {
    throw reasonOf(error, path)
  }
}

function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomUUID()}`)
}

/** Of an error of the system without the temporary file's name, which nobody has asked for. */
function reasonOf(error: unknown, path: string): Error {
  const { code, message } = error as NodeJS.ErrnoException
  const text = code === 'ENOENT' ? `there is no directory ${dirname(path)} (ENOENT)` : message.split(', ')[0]
  return new Error(text, { cause: error })
}
