import { constants, open } from 'node:fs/promises'
import { printable, SpillwayError } from '@spillway/core'

export type JsonObject = Readonly<Record<string, unknown>>

export interface TextFileOptions {
  /** The code of the errors about this file. */
  readonly code: string
  /** A larger file is refused before it is read. */
  readonly limitBytes: number
}

/**
 * A UTF-8 file of unknown origin, or undefined when there is no such file. Throws `code` for one that is too large,
 * not UTF-8 or not readable.
 */
export async function readTextFile(path: string, options: TextFileOptions): Promise<string | undefined> {
  const { code, limitBytes } = options
  const fail = (reason: string, cause?: unknown): SpillwayError =>
    new SpillwayError(code, `${printable(path)} ${reason}`, { cause, details: { file: path } })
  let file: Awaited<ReturnType<typeof open>>
  try {
    // Not blocking: opening a named pipe would wait for somebody to write, and hold one of libuv's threads meanwhile.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined
    throw fail(`cannot be opened (${errorCode(error)}); check its permissions`, error)
  }
  try {
    const stat = await file.stat()
    const { size } = stat
    if (!stat.isFile()) throw fail('is no regular file; download it again')
    if (size > limitBytes)
      throw fail(`has ${size} bytes, more than the ${limitBytes} such a file may have; download it again`)
    // One byte more than it has: a file that grows meanwhile, or whose size is a lie as in /proc, shows itself.
    const bytes = Buffer.alloc(size + 1)
    let end = 0
    while (end < bytes.length) {
      const { bytesRead } = await file.read(bytes, end, bytes.length - end)
      if (bytesRead === 0) break
      end += bytesRead
    }
    if (end > size) throw fail('has more bytes than it says, or grew while it was read; download it again')
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end))
  } catch (error) {
    if (error instanceof SpillwayError) throw error
    if (error instanceof TypeError) throw fail('is not UTF-8 text; download it again', error)
    throw fail(`cannot be read (${errorCode(error)})`, error)
  } finally {
    await file.close()
  }
}

/** A JSON object from a file of unknown origin, or undefined when there is no such file. Own keys only count. */
export async function readJsonObject(path: string, options: TextFileOptions): Promise<JsonObject | undefined> {
  const text = await readTextFile(path, options)
  if (text === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 200) : 'unknown'
    throw new SpillwayError(options.code, `${printable(path)} is not JSON (${reason}); download it again`, {
      cause: error,
      details: { file: path },
    })
  }
  if (!isJsonObject(value)) {
    throw new SpillwayError(
      options.code,
      `${printable(path)} holds ${printable(value)}, not a JSON object; download it again`,
      {
        details: { file: path },
      },
    )
  }
  return value
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An object's own member: a file may well have keys called `constructor` or `__proto__`. */
export function member(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined
}

function errorCode(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'unknown reason'
}
