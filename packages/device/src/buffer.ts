import type { DeviceBuffer, HostBuffer, HostStorage } from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { restBytes } from './call-options.js'
import { handleOf, NativeObject } from './native-object.js'

/** SPILLWAY_STORAGE_* of abi.h. */
export const storageCodes: ReadonlyMap<string, number> = new Map<HostStorage, number>([
  ['mapped', 2],
  ['pinned', 3],
  ['pageable', 4],
])

export class NativeDeviceBuffer extends NativeObject implements DeviceBuffer {
  readonly kind = 'device-buffer'
  readonly storage = 'device'
  readonly bytes: number
  readonly pointer: bigint
  readonly tag: string

  constructor(handle: NativeHandle, tag: string) {
    super(handle)
    const [bytes, , pointer] = addon().bufferInfo(handle)
    this.bytes = bytes
    this.pointer = pointer
    this.tag = tag
  }
}

export class NativeHostBuffer extends NativeObject implements HostBuffer {
  readonly kind = 'host-buffer'
  readonly bytes: number
  readonly storage: HostStorage

  constructor(handle: NativeHandle, storage: HostStorage) {
    super(handle)
    this.bytes = addon().bufferInfo(handle)[0]
    this.storage = storage
  }

  /** Resolves when the memory is the system's again, unless work that is enqueued still uses it. */
  override async dispose(): Promise<void> {
    const released = addon().hostRelease(handleOf(this))
    await super.dispose()
    await released
  }

  write(source: Uint8Array, offset = 0): void {
    addon().hostWrite(handleOf(this), offset, source)
  }

  read(offset = 0, bytes?: number): Uint8Array {
    const handle = handleOf(this)
    return addon().hostRead(handle, offset, bytes ?? restBytes(this.bytes, offset))
  }

  readInto(target: Uint8Array, offset = 0): void {
    addon().hostReadInto(handleOf(this), offset, target)
  }
}
