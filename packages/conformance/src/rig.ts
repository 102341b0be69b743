import { extentBytes, type HostBuffer, type HostStorage, type Stream, type TensorView } from '@spillway/core'
import { ensure, ensureSame, fail } from './assert.js'
import type { DeviceUnderTest, OpenDevice, Row } from './device-under-test.js'

export interface RigOptions {
  readonly openDevice: OpenDevice
  readonly row: Row
  /** Default: 64 MiB. */
  readonly memoryLimitBytes?: number
  /** Kinds of violation that are to be expected: of a capture that is broken off, an unjoined fork. */
  readonly allow?: readonly string[]
}

/** What a device holds: what a call that failed must leave as it was. */
export interface Held {
  readonly handles: Readonly<Record<string, number>>
  readonly deviceBytes: number
  readonly hostBytes: Readonly<Record<HostStorage, number>>
}

interface Disposable {
  dispose(): Promise<unknown>
}

/** Work that is enqueued keeps its buffers; a backend that leaks keeps them for good. */
const patienceMs = 2000

/** A device of its own and a compute stream, for one test. At the end of it nothing may be left. */
export class Rig {
  readonly device: DeviceUnderTest
  readonly compute: Stream
  /** Bytes that the suite itself has copied from host to device. */
  uploadedBytes = 0
  readonly #kept: Disposable[] = []

  private constructor(device: DeviceUnderTest) {
    this.device = device
    this.compute = device.createStream()
  }

  /**
   * Runs `body`, then disposes what it kept, and fails unless every handle and byte is back and the checker, where
   * there is one, found nothing.
   */
  static async run(
    { openDevice, row, memoryLimitBytes = 64 * 2 ** 20, allow = [] }: RigOptions,
    body: (rig: Rig) => Promise<void>,
  ): Promise<void> {
    const device = await openDevice({ memoryLimitBytes, ...row })
    let rig: Rig | undefined
    try {
      if (row.check === true) {
        ensure(device.checker !== undefined, 'the device was opened with check: true and has no checker; see `can`')
      }
      rig = new Rig(device)
      await body(rig)
      await rig.#clear()
      const left = await rig.#left()
      ensureSame(left, nothing, 'after everything was disposed, this is still held')
    } catch (error) {
      // The first failure is the one to report, with the violation that explains it.
      if (rig !== undefined) await rig.#clear().catch(() => undefined)
      const found = violations(device, allow)
      await device.dispose().catch(() => undefined)
      if (found.length === 0) throw error
      fail(`${error instanceof Error ? error.message : String(error)}\n\nThe order checker found:\n${found[0]}`, error)
    }
    const found = violations(device, allow)
    await device.dispose()
    if (found.length > 0) fail(`order violations: ${found.length}, the first of them\n${found[0]}`)
  }

  /** Disposed at the end of the test, the last one first. */
  keep<T extends Disposable>(handle: T): T {
    this.#kept.push(handle)
    return handle
  }

  held(): Held {
    const { liveHandles, mappedBytes, pinnedBytes, pageableBytes } = this.device.counters()
    return {
      handles: Object.fromEntries(Object.entries(liveHandles).filter(([, count]) => count !== 0)),
      deviceBytes: this.device.budget.usedBytes,
      hostBytes: { mapped: mappedBytes, pinned: pinnedBytes, pageable: pageableBytes },
    }
  }

  /** Work that was enqueued keeps what it uses: waits until as little is held as `before`, then compares. */
  async ensureHeld(before: Held, what: string): Promise<void> {
    const end = Date.now() + patienceMs
    while (JSON.stringify(this.held()) !== JSON.stringify(before) && Date.now() < end) await pause()
    ensureSame(this.held(), before, what)
  }

  /** Host memory that every device can copy from and to at full speed. */
  staging(bytes: number): Promise<HostBuffer> {
    const storage = this.device.capabilities.pinnedMemory ? 'pinned' : 'pageable'
    return this.device.allocateHost(Math.max(bytes, 1), { storage })
  }

  /** Writes bytes into tensors, wherever they lie. Nothing else may be using them. */
  async write(entries: readonly (readonly [tensor: TensorView, bytes: Uint8Array])[]): Promise<void> {
    const staging = await this.staging(entries.reduce((sum, [, bytes]) => sum + bytes.length, 0))
    try {
      let at = 0
      for (const [{ buffer, offset }, bytes] of entries) {
        if (bytes.length === 0) continue
        if (buffer.kind === 'host-buffer') {
          buffer.write(bytes, offset)
          continue
        }
        staging.write(bytes, at)
        this.compute.copy(buffer, staging, { toOffset: offset, fromOffset: at, bytes: bytes.length })
        this.uploadedBytes += bytes.length
        at += bytes.length
      }
      await this.compute.synchronize()
    } finally {
      await staging.dispose()
    }
  }

  /** The bytes of tensors, gaps of their strides included, after what is enqueued on `compute`. */
  async read(tensors: readonly TensorView[]): Promise<Uint8Array[]> {
    const staging = await this.staging(tensors.reduce((sum, tensor) => sum + extentBytes(tensor), 0))
    try {
      const ranges: [number, number][] = []
      let at = 0
      for (const tensor of tensors) {
        const bytes = extentBytes(tensor)
        if (bytes > 0) this.compute.copy(staging, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
        ranges.push([at, bytes])
        at += bytes
      }
      await this.compute.synchronize()
      return ranges.map(([from, bytes]) => Uint8Array.from(staging.read(from, bytes)))
    } finally {
      await staging.dispose()
    }
  }

  /** Physical bytes that the smallest device allocation takes: the most that rounding can add to one buffer. */
  async pieceBytes(): Promise<number> {
    const before = this.device.budget.usedBytes
    const buffer = this.device.allocate(1, { tag: 'probe' })
    const bytes = this.device.budget.usedBytes - before
    await buffer.dispose()
    return bytes
  }

  async #clear(): Promise<void> {
    let failure: { readonly error: unknown } | undefined
    for (const handle of this.#kept.splice(0).reverse()) {
      try {
        await handle.dispose()
      } catch (error) {
        failure ??= { error }
      }
    }
    if (!this.compute.disposed) {
      if (!this.compute.capturing) await this.compute.synchronize()
      await this.compute.dispose()
    }
    if (failure !== undefined) throw failure.error
  }

  async #left(): Promise<Held> {
    const end = Date.now() + patienceMs
    while (JSON.stringify(this.held()) !== JSON.stringify(nothing) && Date.now() < end) await pause()
    return this.held()
  }
}

const nothing: Held = { handles: {}, deviceBytes: 0, hostBytes: { mapped: 0, pinned: 0, pageable: 0 } }

function violations({ checker }: DeviceUnderTest, allow: readonly string[]): string[] {
  const found = checker?.takeViolations() ?? []
  return found.filter(({ kind }) => !allow.includes(kind)).map(({ message }) => message)
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 2))
}
