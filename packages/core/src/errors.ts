/**
 * Every failure Spillway reports is a `SpillwayError` with a stable `code`. Recognise it by code, never by
 * `instanceof`: two copies of this package in one process would make `instanceof` lie.
 */
export class SpillwayError extends Error {
  override readonly name = 'SpillwayError'
  /** Stable, starts with `SPILLWAY_`; each code has a heading in docs/ERRORS.md. */
  readonly code: string
  /** Numbers and names behind the sentence, for programs: `requestedBytes`, `file`, `tensor`, … */
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: string, message: string, options: SpillwayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = Object.freeze({ ...options.details })
  }
}

export interface SpillwayErrorOptions {
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
}

/** True for any Spillway error, from whichever copy of the package; with `code`, for that code only. */
export function isSpillwayError(error: unknown, code?: string): error is SpillwayError {
  if (typeof error !== 'object' || error === null) return false
  try {
    const actual = (error as { code?: unknown }).code
    return typeof actual === 'string' && actual.startsWith('SPILLWAY_') && (code === undefined || actual === code)
  } catch {
    // What was thrown may be anything, a proxy that throws included.
    return false
  }
}

/** The text of anything that was thrown; never throws itself. */
export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.message) : String(error)
  } catch {
    return 'something that has no text was thrown'
  }
}

/** Returns `error` itself when it is coded already, else wraps it, keeping it as `cause`. */
export function toSpillwayError(error: unknown, code: string, message: string): SpillwayError {
  if (isSpillwayError(error)) return error
  return new SpillwayError(code, `${message}: ${messageOf(error)}`, { cause: error })
}

/** Throws `SPILLWAY_ABORTED` with the signal's reason as cause when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) {
    throw new SpillwayError('SPILLWAY_ABORTED', `${doing} was aborted by its signal`, { cause: signal.reason })
  }
}
