import {
  contiguousStride,
  type Device,
  type DeviceBuffer,
  type DType,
  type HostArena,
  type HostBuffer,
  type HostStorage,
  type Stream,
  type TensorView,
} from '@spillway/core'
import { openDevice } from '@spillway/device'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import type { Checkpoint } from '../src/index.js'
import { coreDTypes, type FixtureTensor, openFile, Scratch } from './safetensors-fixture.js'

export type Buffers = DeviceBuffer | HostBuffer

/** What fresh buffers are full of. */
export const untouched = 0xa5

/**
 * A host device for one test file. After each test everything made through it is disposed of, and the device must hold
 * no memory and the process no descriptor that was not there before.
 */
export class LoadRig {
  readonly scratch: Scratch = new Scratch()
  readonly #owned: { dispose(): Promise<void> }[] = []
  #device: Device | undefined
  #stream: Stream | undefined

  constructor() {
    let before: Record<string, number> = {}
    beforeAll(async () => {
      this.#device = await openDevice('host', { memoryLimitBytes: 64 * 2 ** 20 })
      this.#stream = this.#device.createStream()
      before = liveHandles(this.#device)
    })
    afterEach(async () => {
      await this.stream.synchronize()
      await this.disposeOwned()
      expect(this.scratch.openDescriptors()).toEqual([])
      expect(liveHandles(this.device)).toEqual(before)
      expect(this.device.counters()).toMatchObject({ pinnedBytes: 0, mappedBytes: 0, pageableBytes: 0 })
      expect(this.device.budget.usedBytes).toBe(0)
    })
    afterAll(async () => {
      await this.#stream?.dispose()
      await this.#device?.dispose()
      this.scratch.remove()
    })
  }

  get device(): Device {
    if (this.#device === undefined) throw new Error('only inside a test')
    return this.#device
  }

  get stream(): Stream {
    if (this.#stream === undefined) throw new Error('only inside a test')
    return this.#stream
  }

  /** What loadParameters needs for device buffers. */
  get copying(): { stream: Stream; host: HostArena } {
    return { stream: this.stream, host: this.arena('pageable') }
  }

  arena(storage: HostStorage): HostArena {
    return { allocate: (bytes, options) => this.device.allocateHost(bytes, { storage, ...options }) }
  }

  own(resource: { dispose(): Promise<void> }): void {
    this.#owned.push(resource)
  }

  async disposeOwned(): Promise<void> {
    for (const resource of this.#owned.splice(0).reverse()) await resource.dispose()
  }

  /** A buffer of `untouched` bytes. */
  async buffer(where: 'device' | 'host', bytes: number): Promise<Buffers> {
    const made =
      where === 'device'
        ? this.device.allocate(bytes, { tag: 'weights', stream: this.stream })
        : await this.device.allocateHost(bytes, { storage: 'pageable' })
    this.own(made)
    this.stream.fill(made, untouched)
    await this.stream.synchronize()
    return made
  }

  async contents(from: Buffers): Promise<Buffer> {
    if (from.kind === 'host-buffer') return Buffer.from(from.read())
    const host = await this.device.allocateHost(from.bytes, { storage: 'pageable' })
    this.stream.copy(host, from)
    await this.stream.synchronize()
    const bytes = Buffer.from(host.read())
    await host.dispose()
    return bytes
  }

  async open(file: Uint8Array): Promise<Checkpoint> {
    const checkpoint = await openFile(this.scratch, file)
    this.own(checkpoint)
    return checkpoint
  }
}

/** Kinds with no live handle left out. */
export function liveHandles(device: Device): Record<string, number> {
  return Object.fromEntries(Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0))
}

export function view(of: Buffers, offset: number, tensor: FixtureTensor, stride?: readonly number[]): TensorView {
  const { dtype, shape } = tensor
  return { buffer: of, offset, dtype: coreDTypes[dtype] as DType, shape, stride: stride ?? contiguousStride(shape) }
}
