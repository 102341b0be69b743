import {
  type Device,
  type DeviceBuffer,
  extentBytes,
  type HostBuffer,
  isSpillwayError,
  type PlacedModule,
  type SpillwayError,
  type Stream,
  type TensorView,
} from '@spillway/core'
import { openDevice } from '@spillway/device'
import { expect } from 'vitest'

export interface Fixture {
  readonly device: Device
  readonly compute: Stream
  /** Bytes of a tensor, wherever it lies, after what was enqueued on `compute`. */
  read(tensor: TensorView): Promise<Uint8Array>
  /** Loads bytes into a tensor, wherever it lies. */
  load(tensor: TensorView, bytes: Uint8Array): Promise<void>
}

/** The device takes physical memory in pieces of this size. Measured: it differs between machines. */
const pieceBytes = await (async () => {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 24 })
  const stream = device.createStream()
  const buffer = device.allocate(1, { tag: 'probe', stream })
  const { usedBytes } = device.budget
  await buffer.dispose()
  await stream.dispose()
  await device.dispose()
  return usedBytes
})()

/** Physical device bytes that buffers of these sizes take. */
export function physicalBytes(...sizes: readonly number[]): number {
  return sizes.reduce((sum, bytes) => sum + Math.ceil(bytes / pieceBytes) * pieceBytes, 0)
}

/** Runs `body` with a host device of its own; afterwards nothing that it allocated may be left. */
export async function withDevice(body: (fixture: Fixture) => Promise<void>, memoryLimitBytes = 2 ** 20): Promise<void> {
  const device = await openDevice('host', { memoryLimitBytes })
  const compute = device.createStream()
  const before = liveHandles(device)
  const through = async <T>(bytes: number, use: (staging: HostBuffer) => Promise<T>): Promise<T> => {
    const staging = await device.allocateHost(Math.max(bytes, 1), { storage: 'pageable' })
    try {
      return await use(staging)
    } finally {
      await staging.dispose()
    }
  }
  try {
    await body({
      device,
      compute,
      read: (tensor) => {
        const bytes = extentBytes(tensor)
        return through(bytes, async (staging) => {
          if (bytes > 0) compute.copy(staging, tensor.buffer, { fromOffset: tensor.offset, bytes })
          await compute.synchronize()
          return Uint8Array.from(staging.read(0, bytes))
        })
      },
      load: (tensor, bytes) =>
        through(bytes.length, async (staging) => {
          staging.write(bytes)
          if (bytes.length > 0) compute.copy(tensor.buffer, staging, { toOffset: tensor.offset, bytes: bytes.length })
          await compute.synchronize()
        }),
    })
    // What the body left enqueued keeps its buffers until it is done.
    await compute.synchronize()
    expect(liveHandles(device)).toEqual(before)
    expect(device.budget.usedBytes).toBe(0)
    const { pinnedBytes, mappedBytes, pageableBytes } = device.counters()
    expect({ pinnedBytes, mappedBytes, pageableBytes }).toEqual({ pinnedBytes: 0, mappedBytes: 0, pageableBytes: 0 })
  } finally {
    await compute.dispose()
    await device.dispose()
  }
}

function liveHandles(device: Device): Record<string, number> {
  return Object.fromEntries(Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0))
}

/** Different bytes for every name, and never 0: a fresh or poisoned buffer does not look like them. */
export function contents(name: string, bytes: number): Uint8Array {
  let state = [...name].reduce((sum, letter) => (Math.imul(sum, 31) + letter.charCodeAt(0)) >>> 0, 7)
  return Uint8Array.from({ length: bytes }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return 1 + ((state >>> 24) % 255)
  })
}

/** Writes `contents('module.parameter')` into every parameter that is not tied. */
export async function loadAll(fixture: Fixture, modules: Iterable<PlacedModule>): Promise<void> {
  for (const { spec, parameters } of modules) {
    for (const { name, tensor, tiedTo } of parameters.values()) {
      if (tiedTo === undefined) await fixture.load(tensor, contents(`${spec.name}.${name}`, extentBytes(tensor)))
    }
  }
}

/** Copies a buffer's bytes out on `stream` inside of a forward, into `to`. */
export function copyOut(stream: Stream, to: HostBuffer, tensor: TensorView): void {
  const from: DeviceBuffer | HostBuffer = tensor.buffer
  stream.copy(to, from, { fromOffset: tensor.offset, bytes: extentBytes(tensor) })
}

export async function rejected(promise: Promise<unknown>): Promise<SpillwayError> {
  try {
    await promise
  } catch (error) {
    if (isSpillwayError(error)) return error
    throw error
  }
  throw new Error('the promise did not reject')
}

export function thrown(body: () => unknown): SpillwayError {
  try {
    body()
  } catch (error) {
    if (isSpillwayError(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
