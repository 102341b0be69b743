import { addon, type NativeHandle } from './addon.js'
import { NativeDeviceBuffer } from './buffer.js'
import { handleOf, NativeObject, ownBy, ownerOf } from './native-object.js'
import { explainOutOfMemory } from './out-of-memory.js'

/** Physical device bytes without an address; charged to the budget while this lives or is mapped. */
export class PhysicalMemory extends NativeObject {
  readonly kind = 'physical-memory'
  readonly bytes: number

  constructor(handle: NativeHandle, bytes: number) {
    super(handle)
    this.bytes = bytes
  }
}

/** Reserved device addresses; free of charge. */
export class AddressRange extends NativeObject {
  readonly kind = 'address-range'
  readonly bytes: number

  constructor(handle: NativeHandle, bytes: number) {
    super(handle)
    this.bytes = bytes
  }

  /** Maps the memory whole at `offset` bytes, a multiple of the device's granularity. The range keeps the memory. */
  map(offset: number, memory: PhysicalMemory): void {
    addon().map(handleOf(this), offset, handleOf(memory))
  }

  /** Undoes whole mappings; refused while enqueued work uses the range. Contents stay with the physical memory. */
  unmap(offset: number, bytes: number): void {
    addon().unmap(handleOf(this), offset, bytes)
  }

  /** A buffer at a fixed address, whatever is mapped there. Work that uses it while nothing is mapped is refused. */
  buffer(offset: number, bytes: number): NativeDeviceBuffer {
    return new NativeDeviceBuffer(addon().rangeBuffer(handleOf(this), offset, bytes), 'virtual')
  }
}

/** Addresses and memory apart: reserve once, map and unmap physical memory there. Sizes in bytes. */
export class VirtualMemory {
  /** Sizes and offsets are multiples of this. */
  readonly granularityBytes: number

  constructor(device: NativeHandle) {
    ownBy(this, device)
    this.granularityBytes = addon().granularity(device)
  }

  reserve(bytes: number): AddressRange {
    return new AddressRange(addon().reserve(ownerOf(this), bytes), bytes)
  }

  /** Throws SPILLWAY_OUT_OF_MEMORY. */
  createPhysical(bytes: number, tag: string): PhysicalMemory {
    const device = ownerOf(this)
    try {
      return new PhysicalMemory(addon().createPhysical(device, bytes, tag), bytes)
    } catch (error) {
      throw explainOutOfMemory(error, device)
    }
  }
}
