import type { HostArena } from './backend.js'
import { checkSignal, readOptions } from './call-options.js'
import type { Device, HostBuffer } from './device.js'
import { SpillwayError } from './errors.js'
import type { LiveBuffers } from './memory-source.js'
import type { PinDecision } from './pin-memory.js'
import { printable } from './printable.js'

/** Host memory as the pin decision wants it, live bytes counted. `check` throws when the offloader is disposed. */
export function hostArena(
  device: Device,
  pin: PinDecision,
  live: LiveBuffers<HostBuffer>,
  check: () => void,
): HostArena {
  const storage = pin.pin ? 'pinned' : 'pageable'
  return Object.freeze({
    async allocate(bytes: number, options?: { signal?: AbortSignal }) {
      check()
      const { signal } = readOptions(options, 'allocate', ['signal'])
      checkSignal(signal, 'allocate')
      if (!Number.isSafeInteger(bytes) || bytes < 1) {
        throw new SpillwayError(
          'SPILLWAY_INVALID_ARGUMENT',
          `host memory comes in whole bytes, not ${printable(bytes)}`,
        )
      }
      const buffer = await device.allocateHost(bytes, signal === undefined ? { storage } : { storage, signal })
      try {
        check()
      } catch (error) {
        // Disposed while the memory was being made: nobody is left to own it.
        await buffer.dispose()
        throw error
      }
      live.add(storage, buffer)
      return buffer
    },
  })
}
