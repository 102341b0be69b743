import type { BigIntStats } from 'node:fs'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { isSpillwayError, SpillwayError, throwIfAborted } from '@spillway/core'
import { checkpointError, type ErrorSubject, quote } from './checkpoint-error.js'

/** A signal is looked at between reads; one read may not take all of a large tensor. */
const readBytesLimit = 16 * 2 ** 20

/** What a file looked like when it was opened; mtime as well, since a rewrite in place can keep the size. */
interface Version {
  readonly size: bigint
  readonly mtimeNs: bigint
}

/** One open file of a checkpoint. Owns its descriptor until `close`. */
export class CheckpointFile implements ErrorSubject {
  /** Name inside the checkpoint's directory. */
  readonly file: string
  readonly path: string
  readonly bytes: number
  readonly #handle: FileHandle
  readonly #version: Version
  #closed: Promise<void> | undefined

  private constructor(subject: ErrorSubject, handle: FileHandle, version: Version) {
    this.file = subject.file
    this.path = subject.path
    this.bytes = Number(version.size)
    this.#handle = handle
    this.#version = version
  }

  /**
   * null when there is no such file; a file that is there and cannot be opened or is not a regular file is
   * SPILLWAY_CHECKPOINT_UNREADABLE. Symbolic links are followed: download caches are made of them.
   */
  static async open(directory: string, file: string): Promise<CheckpointFile | null> {
    const subject = { path: join(directory, file), file }
    let handle: FileHandle | undefined
    try {
      // O_NONBLOCK: opening a FIFO would otherwise hold one of libuv's threads until somebody writes to it.
      handle = await open(subject.path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
      const stats = await handle.stat({ bigint: true })
      if (!stats.isFile()) {
        const kind = stats.isDirectory() ? 'a directory' : 'a device, pipe or socket'
        const reason = `this is ${kind}, not a file. Put the model's file in its place.`
        throw checkpointError('SPILLWAY_CHECKPOINT_UNREADABLE', subject, reason)
      }
      return new CheckpointFile(subject, handle, versionOf(stats))
    } catch (error) {
      await handle?.close().catch(() => {}) // what went wrong first is what the caller must hear
      if (systemCode(error) === 'ENOENT') return null
      throw unreadable(error, subject)
    }
  }

  /**
   * Fills all of `target` from `offset` of the file. Throws SPILLWAY_CHECKPOINT_CHANGED when the file has become
   * shorter, SPILLWAY_ABORTED between reads. `target` is borrowed until the promise settles.
   */
  async readInto(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    let done = 0
    while (done < target.length) {
      throwIfAborted(signal, `reading ${quote(this.path)}`)
      this.#refuseWhenClosed()
      const length = Math.min(target.length - done, readBytesLimit)
      let bytesRead: number
      try {
        bytesRead = (await this.#handle.read(target, done, length, offset + done)).bytesRead
      } catch (error) {
        this.#refuseWhenClosed()
        throw unreadable(error, this)
      }
      if (bytesRead === 0) throw this.#changed(`it had ${this.bytes} bytes and has no byte ${offset + done} any more`)
      done += bytesRead
    }
    throwIfAborted(signal, `reading ${quote(this.path)}`)
  }

  /** Throws SPILLWAY_CHECKPOINT_CHANGED when size or modification time differ from those at opening. */
  async verifyUnchanged(): Promise<void> {
    this.#refuseWhenClosed()
    let now: Version
    try {
      now = versionOf(await this.#handle.stat({ bigint: true }))
    } catch (error) {
      this.#refuseWhenClosed()
      throw unreadable(error, this)
    }
    if (now.size !== this.#version.size) throw this.#changed(`its size went from ${this.bytes} to ${now.size} bytes`)
    if (now.mtimeNs !== this.#version.mtimeNs) throw this.#changed('it was modified')
  }

  /** Waits for reads under way. Calling it again waits for the first call. */
  close(): Promise<void> {
    this.#closed ??= this.#handle.close()
    return this.#closed
  }

  #refuseWhenClosed(): void {
    if (this.#closed === undefined) return
    throw new SpillwayError(
      'SPILLWAY_DISPOSED',
      `the checkpoint of ${quote(this.path)} was disposed: open it again to read from it`,
    )
  }

  #changed(what: string): SpillwayError {
    const reason = `the file changed while it was open: ${what}. Load it again when whatever writes it is done.`
    return checkpointError('SPILLWAY_CHECKPOINT_CHANGED', this, reason)
  }
}

/** Wraps a system error as SPILLWAY_CHECKPOINT_UNREADABLE; coded errors stay as they are. */
export function unreadable(error: unknown, subject: ErrorSubject): SpillwayError {
  if (isSpillwayError(error)) return error
  const code = systemCode(error)
  const advice = {
    EACCES: 'Give this user read permission.',
    EPERM: 'Give this user read permission.',
    ELOOP: 'Its symbolic links lead in a circle: put the file itself there.',
    EMFILE: 'Too many files are open: raise `ulimit -n` above the number of shards.',
    ENFILE: 'Too many files are open on this machine: close some.',
    EIO: 'The disk reported an error: check it, or download the file again.',
  }
  const known = Object.entries(advice).find(([name]) => name === code)
  const reason = error instanceof Error ? error.message : String(error)
  return checkpointError(
    'SPILLWAY_CHECKPOINT_UNREADABLE',
    subject,
    `it cannot be read (${quote(reason)}). ${known?.[1] ?? 'Check the path and the file system.'}`,
    { cause: error },
  )
}

export function systemCode(error: unknown): string | undefined {
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

function versionOf(stats: BigIntStats): Version {
  return { size: stats.size, mtimeNs: stats.mtimeNs }
}
