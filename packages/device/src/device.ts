import {
  type Device,
  type DeviceAllocation,
  type DeviceBudget,
  type DeviceCapabilities,
  type DeviceCounters,
  type HostStorage,
  SpillwayError,
  type StreamPriority,
  throwIfAborted,
} from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { NativeDeviceBuffer, NativeHostBuffer, storageCodes } from './buffer.js'
import { FailureInjection } from './failure-injection.js'
import { handleOf, NativeObject } from './native-object.js'
import { OrderChecker } from './order-checker.js'
import { explainOutOfMemory } from './out-of-memory.js'
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
  #closing: Promise<void> | undefined

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

  createStream({ priority = 'normal' }: { priority?: StreamPriority } = {}): NativeStream {
    const code = priorities.indexOf(priority)
    if (code < 0) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `a stream's priority is ${priorities.join(', ')}, not ${String(priority)}`,
      )
    }
    return new NativeStream(addon().streamCreate(handleOf(this), code), priority)
  }

  createEvent(): NativeEvent {
    return new NativeEvent(addon().eventCreate(handleOf(this)))
  }

  allocate(bytes: number, { tag, stream, module }: DeviceAllocation): NativeDeviceBuffer {
    const streamHandle = stream === undefined ? undefined : handleOf(stream)
    try {
      return new NativeDeviceBuffer(addon().bufferCreate(handleOf(this), bytes, tag, streamHandle), tag)
    } catch (error) {
      throw explainOutOfMemory(error, handleOf(this), module)
    }
  }

  async allocateHost(
    bytes: number,
    { storage, signal }: { storage: HostStorage; signal?: AbortSignal },
  ): Promise<NativeHostBuffer> {
    throwIfAborted(signal, 'allocating host memory')
    const code: number | undefined = storageCodes[storage]
    if (code === undefined) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `host memory is ${Object.keys(storageCodes).join(', ')}, not ${String(storage)}`,
      )
    }
    const handle = await addon().hostBufferCreate(handleOf(this), bytes, code)
    const buffer = new NativeHostBuffer(handle, storage)
    if (signal?.aborted) {
      await buffer.dispose()
      throwIfAborted(signal, 'allocating host memory')
    }
    return buffer
  }

  /**
   * Takes no more work, waits for what is enqueued, then gives the device up. Buffers still open keep their memory.
   * Rejects with SPILLWAY_ORDER_VIOLATION, closed nevertheless, when the checker has found something nobody took.
   */
  override dispose(): Promise<void> {
    this.#closing ??= this.disposed ? Promise.resolve() : this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await addon().close(handleOf(this))
    const violations = this.checker?.close()
    await super.dispose()
    if (violations !== undefined) throw violations
  }
}

class LiveBudget implements DeviceBudget {
  readonly #device: NativeHandle

  constructor(device: NativeHandle) {
    this.#device = device
  }
  get limitBytes(): number {
    return addon().budget(this.#device).limitBytes
  }
  get usedBytes(): number {
    return addon().budget(this.#device).usedBytes
  }
  get peakBytes(): number {
    return addon().budget(this.#device).peakBytes
  }
  get usedBytesByTag(): Readonly<Record<string, number>> {
    return addon().budget(this.#device).usedBytesByTag
  }
}
