import { type Handle, SpillwayError } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'

const handles = new WeakMap<object, NativeHandle>()

/** What every object of this package is: one reference to a handle of the addon. */
export abstract class NativeObject implements Handle {
  abstract readonly kind: string
  #disposed = false

  protected constructor(handle: NativeHandle) {
    handles.set(this, handle)
  }

  get disposed(): boolean {
    return this.#disposed
  }

  dispose(): Promise<void> {
    if (!this.#disposed) {
      this.#disposed = true
      addon().release(handleOf(this))
    }
    return Promise.resolve()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/**
 * The native handle of a device, stream, event, buffer, graph or address range, for another addon: a type-tagged
 * External, borrowed for the call. Throws SPILLWAY_FOREIGN_HANDLE for an object this package did not make. The handle
 * of a disposed object is returned; the addon that reads it answers SPILLWAY_DISPOSED.
 */
export function handleOf(object: Handle): NativeHandle {
  const handle = typeof object === 'object' && object !== null ? handles.get(object) : undefined
  if (handle === undefined) {
    throw new SpillwayError(
      'SPILLWAY_FOREIGN_HANDLE',
      'this object was not made by this copy of @spillway/device; pass what openDevice() and its objects return',
    )
  }
  return handle
}
