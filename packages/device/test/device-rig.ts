// What the tests of this package share: a device that proves at the end that nothing was left open.
import { fstatSync, readdirSync, readlinkSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { SpillwayError } from '@spillway/core'
import {
  type NativeDevice,
  type NativeHostBuffer,
  type NativeStream,
  type OpenDeviceOptions,
  openDevice,
} from '@spillway/device'
import { expect } from 'vitest'

export const KiB = 1024
export const MiB: number = 1024 * KiB
export const PAGE = 4096

/** Runs `body` on a host device, then checks that every handle and every byte came back, and closes it. */
export async function onDevice(
  options: OpenDeviceOptions,
  body: (device: NativeDevice) => Promise<void>,
): Promise<void> {
  const device = await openDevice('host', { threads: 2, memoryLimitBytes: 64 * MiB, ...options })
  try {
    await body(device)
    expectNothingLeft(device)
  } finally {
    await device.dispose()
  }
}

export function expectNothingLeft(device: NativeDevice): void {
  const { liveHandles, mappedBytes, pinnedBytes, pageableBytes } = device.counters()
  expect(Object.fromEntries(Object.entries(liveHandles).filter(([, count]) => count !== 0))).toEqual({})
  expect({ mappedBytes, pinnedBytes, pageableBytes }).toEqual({ mappedBytes: 0, pinnedBytes: 0, pageableBytes: 0 })
  expect(device.budget.usedBytes).toBe(0)
  expect(device.budget.usedBytesByTag).toEqual({})
}

/** The error `action` throws or rejects with. */
async function failure(action: () => unknown): Promise<SpillwayError> {
  try {
    await action()
  } catch (error) {
    return error as SpillwayError
  }
  throw new Error('nothing was thrown')
}

export async function expectCode(code: string, action: () => unknown): Promise<SpillwayError> {
  const error = await failure(action)
  expect([error.name, error.code, error.message]).toEqual(['SpillwayError', code, expect.stringMatching(/\w/)])
  return error
}

/** Host memory that holds `bytes` of `value`. */
export async function pinned(device: NativeDevice, bytes: number, value = 0): Promise<NativeHostBuffer> {
  const buffer = await device.allocateHost(bytes, { storage: 'pinned' })
  buffer.write(new Uint8Array(bytes).fill(value))
  return buffer
}

/** The bytes of a buffer, read back over a stream of its own. */
export async function readBack(
  device: NativeDevice,
  from: Parameters<NativeStream['copy']>[1],
  stream?: NativeStream,
): Promise<Uint8Array> {
  const own = stream ?? device.createStream()
  const host = await device.allocateHost(from.bytes, { storage: 'pinned' })
  try {
    own.copy(host, from)
    await own.synchronize()
    return host.read()
  } finally {
    await host.dispose()
    if (stream === undefined) await own.dispose()
  }
}

/** The one value all bytes have; fails when they differ. */
export function uniform(bytes: Uint8Array): number {
  const value = bytes[0]!
  const other = bytes.findIndex((byte) => byte !== value)
  expect(other, `byte ${other} is ${bytes[other]}, the first is ${value}`).toBe(-1)
  return value
}

/** Bytes of real pages in the memory files of this process's devices, as the file system counts them. */
export function memoryFileBytes(): number {
  let sum = 0
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`).startsWith('/memfd:spillway-device')) {
        sum += fstatSync(Number(name)).blocks * 512
      }
    } catch {
      // The descriptor that lists the folder is gone by now.
    }
  }
  return sum
}

/** Collects garbage until `done()`, at most some rounds. */
export async function collectGarbage(done: () => boolean): Promise<void> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let round = 0; round < 50 && !done(); round++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export function disposeAll(...handles: readonly { dispose(): Promise<void> }[]): Promise<unknown> {
  return Promise.all(handles.map((handle) => handle.dispose()))
}
