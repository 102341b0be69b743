import { isDeepStrictEqual } from 'node:util'
import { isSpillwayError, messageOf, printable, type SpillwayError } from '@spillway/core'

/** A test of the suite found something wrong. The message says what was done, what came and what should have come. */
export class ConformanceFailure extends Error {
  override readonly name = 'ConformanceFailure'
}

export function fail(message: string, cause?: unknown): never {
  throw new ConformanceFailure(message, cause === undefined ? undefined : { cause })
}

export function ensure(condition: boolean, message: string): asserts condition {
  if (!condition) fail(message)
}

/** Values, lists and plain objects, compared deeply. */
export function ensureSame(actual: unknown, expected: unknown, what: string): void {
  if (isDeepStrictEqual(actual, expected)) return
  fail(`${what}: got ${show(actual)}, expected ${show(expected)}`)
}

export function ensureAtMost(actual: number, most: number, what: string): void {
  if (!(actual <= most)) fail(`${what}: got ${actual}, expected at most ${most}`)
}

export function ensureAtLeast(actual: number, least: number, what: string): void {
  if (!(actual >= least)) fail(`${what}: got ${actual}, expected at least ${least}`)
}

/** `counts`: 1 where a byte matters; absent, all do. */
export function ensureBytes(actual: Uint8Array, expected: Uint8Array, what: string, counts?: Uint8Array): void {
  if (actual.length !== expected.length) fail(`${what}: ${actual.length} bytes came, expected ${expected.length}`)
  const wrong: number[] = []
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] !== expected[i] && counts?.[i] !== 0) wrong.push(i)
  }
  const [first] = wrong
  if (first === undefined) return
  const last = wrong.at(-1)!
  fail(
    `${what}: ${wrong.length} of ${expected.length} bytes are wrong, from byte ${first} to ${last}; ` +
      `at ${first} came ${dump(actual, first)}, expected ${dump(expected, first)}`,
  )
}

function dump(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.subarray(at, at + 8)).toString('hex')
}

/** What `action` throws or rejects with, which must carry that code. */
export async function ensureCode(code: string, what: string, action: () => unknown): Promise<SpillwayError> {
  const error = await ensureThrows(what, code, action)
  if (isSpillwayError(error, code)) return error
  return fail(`${what}: expected ${code}, got ${describeError(error)}`, error)
}

/** Any stable code, whichever it is, and a sentence. */
export function ensureCoded(error: unknown, what: string): asserts error is SpillwayError {
  if (!isSpillwayError(error))
    fail(`${what}: expected an error with a SPILLWAY_ code, got ${describeError(error)}`, error)
  if (!/\w/.test(messageOf(error))) fail(`${what}: its ${error.code} has no text`, error)
}

async function ensureThrows(what: string, expected: string, action: () => unknown): Promise<unknown> {
  try {
    await action()
  } catch (error) {
    return error
  }
  return fail(`${what}: expected ${expected}, and nothing was thrown`)
}

function describeError(error: unknown): string {
  const code = isSpillwayError(error) ? `${error.code}: ` : ''
  return `${code}${messageOf(error)}`
}

function show(value: unknown): string {
  if (typeof value !== 'object' || value === null) return printable(value)
  return (
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'bigint' ? `${part}n` : part instanceof Map ? Object.fromEntries(part) : part,
    ) ?? printable(value)
  )
}
