import {
  type Device,
  type DeviceBudget,
  type DeviceCapabilities,
  type DeviceCounters,
  printable,
  readOptions,
  SpillwayError,
  type StreamPriority,
} from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import type { AllocatorSettings } from './allocator-settings.js'
import { NativeDeviceBuffer, type NativeHostBuffer } from './buffer.js'
import { FailureInjection } from './failure-injection.js'
import { allocateHostParts, type HostAllocationOptions } from './host-allocation.js'
import type { HostMemoryReport } from './host-memory.js'
import { NativeKernel } from './kernel.js'
import { allocateDeviceMemory, MemoryPool, type NativeDeviceAllocation } from './memory-pool.js'
import type { MemorySnapshot, MemoryStats, MemoryTrace } from './memory-report.js'
import { handleOf, NativeObject, ownBy, ownerOf } from './native-object.js'
import { OrderChecker } from './order-checker.js'
import { NativeEvent, NativeStream, priorities } from './stream.js'
import { VirtualMemory } from './virtual-memory.js'

/** A device opened by openDevice(). JavaScript thread of the environment that opened it. */
export class NativeDevice extends NativeObject implements Device {
  readonly kind = 'device'
  readonly type: 'host' | 'cuda'
  readonly name: string
  readonly capabilities: DeviceCapabilities
  readonly budget: DeviceBudget
  readonly virtualMemory: VirtualMemory
  /** Host device: makes the next of something fail. */
  readonly failures: FailureInjection
  /** Present when the device checks the order of streams (option `check`). */
  readonly checker: OrderChecker | undefined

  constructor(handle: NativeHandle, type: 'host' | 'cuda', capabilities: DeviceCapabilities, check: boolean) {
    super(handle)
    this.type = type
    this.name = addon().name(handle)
    this.capabilities = capabilities
    this.budget = new LiveBudget(handle)
    this.virtualMemory = new VirtualMemory(handle)
    this.failures = new FailureInjection(handle)
    this.checker = check ? new OrderChecker(handle) : undefined
  }

  counters(): DeviceCounters {
    return addon().counters(handleOf(this))
  }

  createStream(options?: { priority?: StreamPriority }): NativeStream {
    const { priority = 'normal' } = readOptions(options, 'createStream', ['priority'])
    const code = priorities.indexOf(priority)
    if (code < 0) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `a stream's priority is ${priorities.join(', ')}, not ${printable(priority)}`,
      )
    }
    return new NativeStream(addon().streamCreate(handleOf(this), code), priority)
  }

  /**
   * GPU: a stream of another library's, by its CUstream. Borrowed: it must live until this is disposed and its work is
   * done. Throws SPILLWAY_WRONG_DEVICE for a stream of another GPU; a number that is no stream at all ends the process.
   */
  wrapStream(pointer: bigint): NativeStream {
    return new NativeStream(addon().streamWrap(handleOf(this), pointer), 'normal')
  }

  /**
   * GPU: device memory of another library's. Borrowed: it must live until this is disposed and work with it is done. It
   * is not in the budget. Throws SPILLWAY_INVALID_ARGUMENT when it is no memory of this GPU, or less than `bytes`.
   */
  wrapMemory(pointer: bigint, bytes: number): NativeDeviceBuffer {
    return new NativeDeviceBuffer(addon().bufferWrap(handleOf(this), pointer, bytes), 'borrowed')
  }

  /**
   * GPU: a kernel of your own, by its entry point in a cubin, a fatbin or PTX. Throws SPILLWAY_INVALID_ARGUMENT for what
   * is none, SPILLWAY_NO_KERNELS when there is no such kernel or none that this GPU can run. The driver trusts the
   * image: load none that you would not run.
   */
  async loadKernel(image: Uint8Array, name: string): Promise<NativeKernel> {
    return new NativeKernel(await addon().kernelLoad(handleOf(this), image, name), name)
  }

  createEvent(): NativeEvent {
    return new NativeEvent(addon().eventCreate(handleOf(this)))
  }

  allocate(bytes: number, options: NativeDeviceAllocation): NativeDeviceBuffer {
    return allocateDeviceMemory(handleOf(this), bytes, options)
  }

  /** Device memory by a name of its own; the same name is the same pool, whichever settings its allocations bring. */
  memoryPool(name: string, settings: AllocatorSettings = {}): MemoryPool {
    return new MemoryPool(handleOf(this), name, settings)
  }

  releaseCachedMemory(): number {
    return addon().releaseCachedMemory(handleOf(this), undefined)
  }

  /** Cheap: numbers that are kept anyway. */
  memoryStats(): MemoryStats {
    return addon().memoryStats(handleOf(this))
  }

  /** Every segment and block. */
  memorySnapshot(): MemorySnapshot {
    return addon().memorySnapshot(handleOf(this))
  }

  /** From now on the last `events` allocations and frees are kept, some 80 bytes each; 0: none any more. */
  startMemoryTrace(options?: { events?: number }): void {
    const { events = 100_000 } = readOptions(options, 'startMemoryTrace', ['events'])
    if (!Number.isInteger(events) || events < 0 || events > 100_000_000) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `events is a whole number from 0 to 100 million, not ${printable(events)}`,
      )
    }
    addon().startMemoryTrace(handleOf(this), events)
  }

  /** What was kept since tracing began. */
  memoryTrace(): MemoryTrace {
    const { events, snapshot } = addon().memoryTrace(handleOf(this))
    return {
      format: 'spillway-memory-trace',
      version: 1,
      device: this.name,
      limitBytes: this.budget.limitBytes,
      lostEvents: events[0]?.number ?? 0,
      events,
      snapshot,
    }
  }

  /**
   * Exact size, one buffer. Pinned and mapped memory is resident when the promise resolves. Limits of machine and control
   * groups are read before anything is touched: SPILLWAY_OUT_OF_MEMORY names the one that is too low. A pinned or mapped
   * buffer is one registration, of at most 64 GiB: SPILLWAY_INVALID_ARGUMENT. An abort gives back what there is at once.
   */
  async allocateHost(bytes: number, options: HostAllocationOptions): Promise<NativeHostBuffer> {
    for await (const buffer of allocateHostParts(handleOf(this), [bytes], options, 'allocateHost')) return buffer
    throw new SpillwayError('SPILLWAY_INTERNAL', 'an allocation ended without a buffer')
  }

  /**
   * Many buffers as one request: limits are asked once, for all of them, then they are made in this order. Each is
   * delivered as soon as it is what it was asked for, so that work with the first goes on while the last is pinned.
   * Each is memory of its own, with a registration of its own where it is large: none straddles two, and each goes back
   * to the system when it is disposed. What is delivered is the caller's; leaving the loop, an abort or a failure gives
   * back the rest. Throws, when iterated, what allocateHost throws.
   */
  allocateHostParts(
    sizes: readonly number[],
    options: HostAllocationOptions,
  ): AsyncGenerator<NativeHostBuffer, void, undefined> {
    return allocateHostParts(handleOf(this), sizes, options, 'allocateHostParts')
  }

  /** Cheap: reads some small files. */
  hostMemory(): HostMemoryReport {
    return addon().hostMemory(handleOf(this))
  }

  /**
   * Takes no more work, waits for what is enqueued, then gives the device up. Buffers still open keep their memory.
   * Rejects with SPILLWAY_ORDER_VIOLATION, closed nevertheless, when the checker has found something nobody took.
   */
  override async dispose(): Promise<void> {
    const device = handleOf(this)
    let closing = closings.get(this)
    if (closing === undefined) {
      closing = this.disposed ? Promise.resolve() : close(device, this.checker, () => super.dispose())
      closings.set(this, closing)
    }
    await closing
  }
}

const closings = new WeakMap<object, Promise<void>>()

async function close(
  device: NativeHandle,
  checker: OrderChecker | undefined,
  release: () => Promise<void>,
): Promise<void> {
  await addon().close(device)
  const violations = checker?.close()
  await release()
  if (violations !== undefined) throw violations
}

class LiveBudget implements DeviceBudget {
  constructor(device: NativeHandle) {
    ownBy(this, device)
  }
  get limitBytes(): number {
    return addon().budget(ownerOf(this)).limitBytes
  }
  get usedBytes(): number {
    return addon().budget(ownerOf(this)).usedBytes
  }
  get peakBytes(): number {
    return addon().budget(ownerOf(this)).peakBytes
  }
  get granuleBytes(): number {
    return addon().budget(ownerOf(this)).granuleBytes
  }
  get cachedBytes(): number {
    return addon().budget(ownerOf(this)).cachedBytes
  }
  get availableBytes(): number {
    return addon().availableBytes(ownerOf(this))
  }
  get usedBytesByTag(): Readonly<Record<string, number>> {
    return addon().budget(ownerOf(this)).usedBytesByTag
  }
}
