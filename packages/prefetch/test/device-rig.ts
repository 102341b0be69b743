// A host device that proves at the end that nothing was left open.
import type { SpillwayError } from '@spillway/core'
import { type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import { expect } from 'vitest'

/** Runs `body` on a checked host device, then checks that every handle and byte came back, and closes it. */
export async function onDevice(
  options: OpenDeviceOptions,
  body: (device: NativeDevice) => Promise<void>,
): Promise<void> {
  const device = await openDevice('host', { threads: 1, memoryLimitBytes: 64 * 2 ** 20, check: true, ...options })
  try {
    await body(device)
    await expectNothingLeft(device)
  } finally {
    await device.dispose()
  }
}

export function liveHandles(device: NativeDevice): Record<string, number> {
  return Object.fromEntries(Object.entries(device.counters().liveHandles).filter(([, count]) => count !== 0))
}

/** Copies that are still on their way keep their buffers until they are done. */
export async function expectNothingLeft(device: NativeDevice): Promise<void> {
  for (let i = 0; i < 200 && Object.keys(liveHandles(device)).length > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const { mappedBytes, pinnedBytes, pageableBytes } = device.counters()
  expect(liveHandles(device)).toEqual({})
  expect({ mappedBytes, pinnedBytes, pageableBytes }).toEqual({ mappedBytes: 0, pinnedBytes: 0, pageableBytes: 0 })
  expect(device.budget.usedBytes).toBe(0)
}

/** The coded error `action` throws or rejects with. */
export async function failure(code: string, action: () => unknown): Promise<SpillwayError> {
  let thrown: unknown
  try {
    await action()
  } catch (error) {
    thrown = error
  }
  expect(thrown, `expected ${code}`).toMatchObject({ name: 'SpillwayError', code })
  return thrown as SpillwayError
}

/** Host-to-device copies and bytes on the device's own counters since `before`. */
export function onloadedSince(
  device: NativeDevice,
  before: { hostToDeviceCopies: number; hostToDeviceBytes: number },
): { copies: number; bytes: number } {
  const now = device.counters()
  return {
    copies: now.hostToDeviceCopies - before.hostToDeviceCopies,
    bytes: now.hostToDeviceBytes - before.hostToDeviceBytes,
  }
}

/** Bytes that differ between elements and, within one, between places. */
export function pattern(element: number, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (element * 37 + i * 11 + (i >> 5)) & 0xff)
}
