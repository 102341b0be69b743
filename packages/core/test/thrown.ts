import { isSpillwayError, type SpillwayError } from '../src/index.js'

/** The coded error that `body` throws; fails when it throws none. */
export function thrown(body: () => unknown): SpillwayError {
  try {
    body()
  } catch (error) {
    if (isSpillwayError(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

/** The coded error that a promise rejects with. */
export async function rejected(promise: Promise<unknown>): Promise<SpillwayError> {
  try {
    await promise
  } catch (error) {
    if (isSpillwayError(error)) return error
    throw error
  }
  throw new Error('the promise did not reject')
}
