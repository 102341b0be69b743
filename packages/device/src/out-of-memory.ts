import { isSpillwayError, SpillwayError } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'

/** Adds who holds the device's memory to the addon's SPILLWAY_OUT_OF_MEMORY, which has only numbers. */
export function explainOutOfMemory(error: unknown, device: NativeHandle, module?: string): unknown {
  if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY')) return error
  return new SpillwayError('SPILLWAY_OUT_OF_MEMORY', error.message, {
    details: {
      ...error.details,
      heldBytesByTag: addon().budget(device).usedBytesByTag,
      ...(module === undefined ? {} : { module }),
    },
    cause: error,
  })
}
