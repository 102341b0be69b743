import {
  checkSignal,
  type HostMemoryProgress,
  type HostStorage,
  printable,
  readOptions,
  SpillwayError,
  throwIfAborted,
} from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { NativeHostBuffer, storageCodes } from './buffer.js'
import { readList } from './call-options.js'

export interface HostAllocationOptions {
  readonly storage: HostStorage
  /** Stops pinning where it is: what was not delivered goes back to the system before the promise rejects. */
  readonly signal?: AbortSignal
  /** JavaScript thread, some times a second, and once for each buffer that is ready. Throwing ends the call. */
  readonly onProgress?: (progress: HostMemoryProgress) => void
}

/** Beyond this, each buffer costs more than its memory. */
const mostParts = 2 ** 20
const progressIntervalMs = 50

/** Buffers of these sizes, made in order on threads of the system's; see NativeDevice.allocateHostParts. */
export async function* allocateHostParts(
  device: NativeHandle,
  sizes: readonly number[],
  options: HostAllocationOptions,
  call: string,
): AsyncGenerator<NativeHostBuffer, void, undefined> {
  const { storage, signal, onProgress } = readOptions(options, call, ['storage', 'signal', 'onProgress'])
  checkSignal(signal, call)
  throwIfAborted(signal, 'allocating host memory')
  const code = typeof storage === 'string' ? storageCodes.get(storage) : undefined
  if (code === undefined) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `host memory is ${[...storageCodes.keys()].join(', ')}, not ${printable(storage)}`,
    )
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${call}: onProgress is a function, not ${printable(onProgress)}`,
    )
  }
  const parts = readList(sizes, call)
  if (parts.length > mostParts) {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call} makes at most ${mostParts} buffers at once`)
  }

  const { buffers, cancel, takenBytes } = addon().hostAllocate(device, parts, code)
  // One that fails fails all after it; who asks hears of the first.
  for (const buffer of buffers) buffer.catch(() => {})
  const totalBytes = parts.reduce((sum, bytes) => sum + bytes, 0)
  let readyBytes = 0
  let mistake: SpillwayError | undefined
  const report = (): void => {
    try {
      onProgress?.({ touchedBytes: Math.min(takenBytes(), totalBytes), readyBytes, totalBytes })
    } catch (cause) {
      mistake = new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${call}: onProgress threw`, { cause })
      cancel()
    }
  }
  const requireGoing = (): void => {
    if (mistake !== undefined) throw mistake
    throwIfAborted(signal, 'allocating host memory')
  }
  const timer = onProgress && setInterval(report, progressIntervalMs)
  let taken = 0
  try {
    signal?.addEventListener('abort', cancel)
    for (const [index, buffer] of buffers.entries()) {
      const handle = await unlessStopped(buffer, requireGoing)
      readyBytes += parts[index]!
      report()
      requireGoing()
      taken = index + 1
      yield new NativeHostBuffer(handle, storage)
    }
  } finally {
    clearInterval(timer)
    cancel()
    await Promise.all(buffers.slice(taken).map(giveBack))
    signal?.removeEventListener('abort', cancel)
  }
}

/** Why it was stopped says more than that it was. */
async function unlessStopped(buffer: Promise<NativeHandle>, requireGoing: () => void): Promise<NativeHandle> {
  try {
    return await buffer
  } catch (error) {
    requireGoing()
    throw error
  }
}

/** A buffer that nobody took, if it is made at all. */
async function giveBack(buffer: Promise<NativeHandle>): Promise<void> {
  const handle = await buffer.catch(() => undefined)
  if (handle !== undefined) await addon().hostRelease(handle)
}
