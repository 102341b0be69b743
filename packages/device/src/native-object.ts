import { type Handle, SpillwayError } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'

interface State {
  readonly handle: NativeHandle
  disposed: boolean
}

// Not private fields: reading one of a stranger throws a TypeError that says nothing to anybody.
const states = new WeakMap<object, State>()
const owners = new WeakMap<object, NativeHandle>()

/** What every object of this package is: one reference to a handle of the addon. */
export abstract class NativeObject implements Handle {
  abstract readonly kind: string

  protected constructor(handle: NativeHandle) {
    states.set(this, { handle, disposed: false })
  }

  get disposed(): boolean {
    return stateOf(this).disposed
  }

  async dispose(): Promise<void> {
    const state = stateOf(this)
    if (state.disposed) return
    state.disposed = true
    addon().release(state.handle)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    stateOf(this)
    await this.dispose()
  }
}

/**
 * The native handle of a device, stream, event, buffer, graph or address range, for another addon: a type-tagged
 * External, borrowed for the call. Throws SPILLWAY_FOREIGN_HANDLE for an object this package did not make. The handle
 * of a disposed object is returned; the addon that reads it answers SPILLWAY_DISPOSED.
 */
export function handleOf(object: Handle): NativeHandle {
  return stateOf(object).handle
}

function stateOf(object: unknown): State {
  const state = isObject(object) ? states.get(object) : undefined
  if (state === undefined) throw foreign()
  return state
}

/** Makes `part` hang on a device: its budget, its virtual memory. */
export function ownBy(part: object, device: NativeHandle): void {
  owners.set(part, device)
}

/** The device that `part` hangs on. */
export function ownerOf(part: unknown): NativeHandle {
  const device = isObject(part) ? owners.get(part) : undefined
  if (device === undefined) throw foreign()
  return device
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/** The error for an object that is not what it is used as. */
export function foreign(): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_FOREIGN_HANDLE',
    'this object was not made by this copy of @spillway/device; pass what openDevice() and its objects return, and call methods on them, not on copies or proxies',
  )
}
