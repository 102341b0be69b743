import { type DeviceAllocation, printable, readOptions, SpillwayError } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { type AllocatorSettings, checkAllocatorSettings, resolveAllocatorSettings } from './allocator-settings.js'
import { NativeDeviceBuffer } from './buffer.js'
import { handleOf, ownBy, ownerOf } from './native-object.js'
import { explainOutOfMemory } from './out-of-memory.js'

export interface NativeDeviceAllocation extends DeviceAllocation {
  /** Instead of those of the scope that the call is in. */
  readonly allocatorSettings?: AllocatorSettings
}

/** Device memory of no pool or of `pool`; where its settings come from is decided here and nowhere else. */
export function allocateDeviceMemory(
  device: NativeHandle,
  bytes: number,
  options: NativeDeviceAllocation,
  pool?: { readonly name: string; readonly settings: AllocatorSettings },
): NativeDeviceBuffer {
  const names = ['tag', 'stream', 'module', 'allocatorSettings'] as const
  const { tag, stream, module, allocatorSettings } = readOptions(options, 'allocate', names)
  const streamHandle = stream === undefined ? undefined : handleOf(stream)
  const settings = resolveAllocatorSettings({ pool: pool?.settings, scope: allocatorSettings })
  try {
    const handle = addon().bufferCreate(device, bytes, tag, streamHandle, pool?.name ?? '', settings)
    return new NativeDeviceBuffer(handle, tag)
  } catch (error) {
    throw explainOutOfMemory(error, device, module)
  }
}

/**
 * Device memory that is cached apart: its segments serve nobody else, so that all of what it caches can be given back
 * while the rest of the device is in use. Never in expandable segments.
 */
export class MemoryPool {
  readonly name: string
  /** What the pool says itself; the rest is as in the scope of each call. */
  readonly settings: AllocatorSettings

  constructor(device: NativeHandle, name: string, settings: AllocatorSettings) {
    ownBy(this, device)
    if (typeof name !== 'string' || name === '' || Buffer.byteLength(name) > 63) {
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `a pool's name is 1 to 63 bytes, not ${printable(name)}`)
    }
    this.name = name
    this.settings = checkAllocatorSettings(settings)
  }

  /** As that of the device. */
  allocate(bytes: number, options: NativeDeviceAllocation): NativeDeviceBuffer {
    return allocateDeviceMemory(ownerOf(this), bytes, options, this)
  }

  /** Of this pool alone. Returns the bytes. */
  releaseCachedMemory(): number {
    return addon().releaseCachedMemory(ownerOf(this), this.name)
  }
}
