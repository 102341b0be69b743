import type { HostArena } from './backend.js'
import { checkSignal, readOptions } from './call-options.js'
import type { Device, HostBuffer } from './device.js'
import { isSpillwayError, SpillwayError } from './errors.js'
import type { LiveBuffers } from './memory-source.js'
import type { Pinning } from './pin-memory.js'
import { printable } from './printable.js'

type AllocateOptions = NonNullable<Parameters<HostArena['allocate']>[1]>

/** Host memory as the pin decision wants it, live bytes counted. `check` throws when the offloader is disposed. */
export function hostArena(
  device: Device,
  pinning: Pinning,
  live: LiveBuffers<HostBuffer>,
  check: () => void,
): HostArena {
  return Object.freeze({
    async allocate(bytes: number, options?: AllocateOptions) {
      check()
      const { signal, onProgress } = readOptions(options, 'allocate', ['signal', 'onProgress'])
      checkSignal(signal, 'allocate')
      if (!Number.isSafeInteger(bytes) || bytes < 1) {
        throw new SpillwayError(
          'SPILLWAY_INVALID_ARGUMENT',
          `host memory comes in whole bytes, not ${printable(bytes)}`,
        )
      }
      const buffer = await pinnedOrPageable(device, pinning, bytes, {
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      })
      try {
        check()
      } catch (error) {
        // Disposed while the memory was being made: nobody is left to own it.
        await buffer.dispose()
        throw error
      }
      live.add(buffer.storage, buffer)
      return buffer
    },
  })
}

async function pinnedOrPageable(
  device: Device,
  pinning: Pinning,
  bytes: number,
  options: AllocateOptions,
): Promise<HostBuffer> {
  if (!pinning.current.pin) return await device.allocateHost(bytes, { ...options, storage: 'pageable' })
  try {
    return await device.allocateHost(bytes, { ...options, storage: 'pinned' })
  } catch (error) {
    if (!pinning.mayFallBack || !isRefusedByLimit(error)) throw error
    // Pageable memory, which may be swapped out, need not have that limit; when it has, the first error says more.
    const buffer = await device.allocateHost(bytes, { ...options, storage: 'pageable' }).catch((second: unknown) => {
      throw isRefusedByLimit(second) ? error : second
    })
    pinning.fallBack(bytes, error.message)
    return buffer
  }
}

// Not every device is ours: its errors may have a code and nothing else.
function isRefusedByLimit(error: unknown): error is SpillwayError {
  if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY')) return false
  return typeof (error as Partial<SpillwayError>).details?.limit === 'string'
}
