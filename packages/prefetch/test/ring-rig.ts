// The native ring alone, over a real device: slabs whose bytes say which element they are, and kernels that note what
// they read.
import type { DeviceBuffer, HostBuffer, Stream } from '@spillway/core'
import { handleOf, type NativeDevice, type NativeStream } from '@spillway/device'
import { expect } from 'vitest'
import { loadAddon, type NativeRing, type PrefetchAddon, type RingCounters } from '../src/native-ring.js'
import { pattern } from './device-rig.js'

/** Sizes are uneven, so that slots differ and an element that is copied too short shows. */
export const elementBytes = (element: number): number => 96 + 16 * (element % 5)
const slotBytes = 160

/** Slabs and slots for rings of up to 64 elements and 16 slots, and a place where "kernels" put what they read. */
export class RingRig implements AsyncDisposable {
  readonly device: NativeDevice
  readonly addon: PrefetchAddon
  readonly compute: NativeStream
  readonly copyStream: NativeStream
  readonly #slabs: HostBuffer[]
  readonly #slots: DeviceBuffer[]
  readonly #log: DeviceBuffer
  readonly #readBack: HostBuffer
  #reads: number[] = []
  #rings: NativeRing[] = []

  private constructor(device: NativeDevice, slabs: HostBuffer[], readBack: HostBuffer) {
    this.device = device
    this.addon = loadAddon()
    this.compute = device.createStream()
    this.copyStream = device.createStream()
    this.#slabs = slabs
    this.#slots = Array.from({ length: 16 }, () => device.allocate(slotBytes, { tag: 'slots' }))
    this.#log = device.allocate(readBack.bytes, { tag: 'log' })
    this.#readBack = readBack
  }

  static async open(
    device: NativeDevice,
    storage: 'pinned' | 'pageable' = 'pinned',
    logReads = 4096,
  ): Promise<RingRig> {
    const slabs: HostBuffer[] = []
    for (let i = 0; i < 64; i++) {
      const slab = await device.allocateHost(elementBytes(i), { storage })
      slab.write(pattern(i, elementBytes(i)))
      slabs.push(slab)
    }
    return new RingRig(device, slabs, await device.allocateHost(logReads * slotBytes, { storage: 'pinned' }))
  }

  /** A ring of `elements` elements and min(prefetchStep, elements) slots, its first onloads started. */
  ring(elements: number, prefetchStep: number): NativeRing {
    const slabs = this.#slabs.slice(0, elements)
    const ring = this.addon.createRing(
      handleOf(this.copyStream),
      slabs.map(handleOf),
      slabs.map((slab) => slab.bytes),
      this.#slots.slice(0, Math.min(prefetchStep, elements)).map(handleOf),
    )
    this.#rings.push(ring)
    this.addon.start(ring, handleOf(this.compute))
    return ring
  }

  begin(ring: NativeRing, stream: Stream = this.compute): void {
    this.addon.begin(ring, handleOf(stream))
  }

  /** The "kernel" of an element: copies its slot within the device, which takes the link no time. */
  read(element: number, slots: number, stream: Stream = this.compute): void {
    const toOffset = this.#reads.length * slotBytes
    this.#reads.push(element)
    stream.copy(this.#log, this.#slots[element % slots]!, { toOffset, bytes: elementBytes(element) })
  }

  visit(ring: NativeRing, element: number, slots: number, stream: Stream = this.compute): void {
    this.addon.before(ring, element)
    this.read(element, slots, stream)
    this.addon.after(ring, element)
  }

  forward(ring: NativeRing, order: readonly number[], slots: number, stream: Stream = this.compute): void {
    this.begin(ring, stream)
    for (const element of order) this.visit(ring, element, slots, stream)
    this.addon.end(ring, true)
  }

  /** Keeps a stream busy for a moment, so that what does not wait for it gets ahead of it. */
  delay(stream: Stream = this.compute): void {
    stream.copy(this.#readBack, this.#log, { bytes: 1 })
  }

  /** Host memory nobody reads. */
  get scratch(): HostBuffer {
    return this.#readBack
  }

  /** Bytes 0xEE over a slot: what it holds after its memory was given up. */
  wreck(slot: number, stream: Stream): void {
    stream.fill(this.#slots[slot]!, 0xee)
  }

  async settle(): Promise<void> {
    await this.compute.synchronize()
    await this.copyStream.synchronize()
  }

  /** Every kernel so far saw the bytes of its own element. The streams are idle; the log stays for graphs. */
  async expectRightBytes(): Promise<void> {
    await this.settle()
    this.compute.copy(this.#readBack, this.#log)
    await this.compute.synchronize()
    const bytes = this.#readBack.read(0, this.#reads.length * slotBytes)
    for (const [i, element] of this.#reads.entries()) {
      const seen = bytes.subarray(i * slotBytes, i * slotBytes + elementBytes(element))
      if (!Buffer.from(seen).equals(pattern(element, elementBytes(element)))) {
        expect([...seen], `read ${i} of element ${element}`).toEqual([...pattern(element, elementBytes(element))])
      }
    }
  }

  /** Begins the log anew, wiped: a graph that replays must write its reads again. */
  async wipeLog(keep = false): Promise<void> {
    await this.settle()
    this.compute.fill(this.#log, 0)
    await this.compute.synchronize()
    if (!keep) this.#reads = []
  }

  counters(ring: NativeRing): RingCounters {
    return this.addon.counters(ring)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settle()
    for (const ring of this.#rings) this.addon.close(ring)
    const handles = [this.compute, this.copyStream, ...this.#slabs, ...this.#slots, this.#log, this.#readBack]
    await Promise.all(handles.map((handle) => handle.dispose()))
  }
}
