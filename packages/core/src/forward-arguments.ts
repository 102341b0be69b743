import { reading } from './call-options.js'
import type { Stream } from './device.js'
import { SpillwayError } from './errors.js'
import { printable } from './printable.js'

/** Whether the stream of a forward is being captured. Throws SPILLWAY_INVALID_ARGUMENT for anything but a live stream. */
export function readCapturing(stream: Stream): boolean {
  const capturing: unknown = reading('beginForward', () =>
    stream?.kind === 'stream' && !stream.disposed && typeof stream.synchronize === 'function'
      ? stream.capturing
      : undefined,
  )
  if (typeof capturing === 'boolean') return capturing
  throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', 'beginForward needs a stream that has not been disposed')
}

export function checkForwardBody(body: unknown): void {
  if (typeof body === 'function') return
  throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `the body of forward() is a function, not ${printable(body)}`)
}

/** Work that a promise would enqueue later would fall outside of the scope. */
export function refusePromise(result: unknown): void {
  if (typeof result !== 'object' || result === null || typeof (result as { then?: unknown }).then !== 'function') return
  // It is dropped here; its rejection, certain when it goes on to use the scope, must not end the process.
  Promise.resolve(result).catch(() => undefined)
  throw new SpillwayError(
    'SPILLWAY_FORWARD_ASYNC',
    'the body of forward() returned a promise; enqueue the whole forward synchronously and wait after it',
  )
}
