import { isSpillwayError, SpillwayError } from '@spillway/core'

/** Puts what did not fit, and which option would help, before what the device says. Other errors pass unchanged. */
export function explainOutOfMemory(error: unknown, what: string, advice: string): unknown {
  if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY')) return error
  return new SpillwayError(error.code, `${what} does not fit on the device: ${error.message}. ${advice}`, {
    details: error.details,
    cause: error,
  })
}
