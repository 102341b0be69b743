import type { BackendContext, DeviceBuffer, HostBuffer, Stream } from '@spillway/core'
import { handleOf } from '@spillway/device'
import type { ElementCounters, NativeRing, PrefetchAddon, RingCounters } from './native-ring.js'
import { explainOutOfMemory } from './out-of-memory.js'

/** The slots that offloaded layers pass through, the stream they come on, and the native ring that keeps order. */
export class Ring {
  readonly #addon: PrefetchAddon
  readonly #native: NativeRing
  readonly #copyStream: Stream
  readonly #slots: readonly DeviceBuffer[]

  /**
   * Takes slots of these `sizes`, in bytes, from the memory `weights` and starts the first onloads, which wait for what
   * is enqueued on `context.compute`. `slabs` are the layers' host bytes in the order of the forward, at least one; they
   * stay the caller's and outlive the ring. On failure nothing is left behind.
   */
  static async open(
    addon: PrefetchAddon,
    context: BackendContext,
    slabs: readonly HostBuffer[],
    sizes: readonly number[],
  ): Promise<Ring> {
    const slots: DeviceBuffer[] = []
    // Not of high priority: a layer's onload would then go before the small uploads that the compute stream waits for.
    const copyStream = context.device.createStream({ priority: 'normal' })
    let native: NativeRing | undefined
    try {
      // What loading gave back is cached in pieces of other sizes: a slot would take a part of one, and the rest be lost.
      context.device.releaseCachedMemory()
      for (const [slot, bytes] of sizes.entries()) {
        const rebuild = (stream: Stream): void => {
          if (native !== undefined) addon.rebuild(native, slot, handleOf(stream))
        }
        slots.push(allocateSlot(context, bytes, `slot ${slot + 1} of ${sizes.length}`, rebuild))
      }
      native = addon.createRing(
        handleOf(copyStream),
        slabs.map(handleOf),
        slabs.map((slab) => slab.bytes),
        slots.map(handleOf),
      )
      addon.start(native, handleOf(context.compute))
      return new Ring(addon, native, copyStream, slots)
    } catch (error) {
      if (native !== undefined) addon.close(native)
      await copyStream.synchronize().catch(() => undefined)
      await Promise.all([copyStream.dispose(), ...slots.map((slot) => slot.dispose())])
      throw error
    }
  }

  private constructor(addon: PrefetchAddon, native: NativeRing, copyStream: Stream, slots: readonly DeviceBuffer[]) {
    this.#addon = addon
    this.#native = native
    this.#copyStream = copyStream
    this.#slots = slots
  }

  /** The slot that element `index` is read from, always the same one. */
  slotOf(index: number): DeviceBuffer {
    return this.#slots[index % this.#slots.length]!
  }

  get slotBytes(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.bytes, 0)
  }

  get counters(): RingCounters {
    return this.#addon.counters(this.#native)
  }

  get elementCounters(): readonly ElementCounters[] {
    return this.#addon.elementCounters(this.#native)
  }

  /** Milliseconds of link and of wait for each element, one after another; NaN: not measured yet. */
  get elementTimes(): Float64Array {
    return this.#addon.elementTimes(this.#native)
  }

  /** False: its device takes no times. */
  get canTime(): boolean {
    return this.#addon.canTime(this.#native)
  }

  beginTrace(): void {
    this.#addon.beginTrace(this.#native)
  }

  /** Marks for `eventsOfMarks`. */
  endTrace(): Float64Array {
    return this.#addon.endTrace(this.#native)
  }

  mark(kind: number, label: number): void {
    this.#addon.mark(this.#native, kind, label)
  }

  /** Returns whether the forward is timed. */
  begin(stream: Stream): boolean {
    return this.#addon.begin(this.#native, handleOf(stream))
  }

  before(index: number): void {
    this.#addon.before(this.#native, index)
  }

  after(index: number): void {
    this.#addon.after(this.#native, index)
  }

  end(ok: boolean): void {
    this.#addon.end(this.#native, ok)
  }

  /** Settles when the copies that were enqueued are done. */
  synchronize(options?: { readonly signal?: AbortSignal }): Promise<void> {
    return this.#copyStream.synchronize(options)
  }

  /** Settles when the copies that were enqueued are done too: only then is their memory free. */
  async dispose(): Promise<void> {
    this.#addon.close(this.#native)
    // A device that is lost or closed has nothing left to wait for.
    await this.#copyStream.synchronize().catch(() => undefined)
    await Promise.all([this.#copyStream.dispose(), ...this.#slots.map((slot) => slot.dispose())])
  }
}

function allocateSlot(
  { memory, compute }: BackendContext,
  bytes: number,
  name: string,
  rebuild: (stream: Stream) => void,
): DeviceBuffer {
  try {
    return memory('weights').allocate(bytes, { stream: compute, recovery: { kind: 'rebuild', rebuild } })
  } catch (error) {
    throw explainOutOfMemory(
      error,
      `${name} for offloaded layers (${bytes} bytes)`,
      'A smaller --offload-prefetch-step takes fewer slots; or give the device more memory',
    )
  }
}
