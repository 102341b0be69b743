import type { Device } from '@spillway/core'
import { type NativeDevice, openDevice } from '@spillway/device'
import { expect } from 'vitest'
import { type LoadModelOptions, loadModel } from '../src/load-model.js'
import type { Model } from '../src/model.js'

const mebibyte: number = 2 ** 20

/** A host device for one test, which must leave it as it found it: no byte in use, no handle alive. */
export async function withDevice<T>(
  use: (device: NativeDevice) => Promise<T>,
  memoryLimitBytes: number = 64 * mebibyte,
): Promise<T> {
  const device = await openDevice('host', { memoryLimitBytes })
  try {
    const handles = device.counters().liveHandles
    const result = await use(device)
    expectNothingLeft(device, handles)
    return result
  } finally {
    await device.dispose()
  }
}

export function expectNothingLeft(device: Device, handles: Readonly<Record<string, number>>): void {
  expect(device.budget.usedBytes).toBe(0)
  const { liveHandles, pinnedBytes, mappedBytes, pageableBytes } = device.counters()
  expect(withoutZeros(liveHandles)).toEqual(withoutZeros(handles))
  expect({ pinnedBytes, mappedBytes, pageableBytes }).toEqual({ pinnedBytes: 0, mappedBytes: 0, pageableBytes: 0 })
}

function withoutZeros(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
}

/** Loads, uses, disposes, and sees that everything is given back. */
export function withModel<T>(
  directory: string,
  options: Omit<LoadModelOptions, 'device'>,
  use: (model: Model, device: NativeDevice) => Promise<T>,
): Promise<T> {
  return withDevice(async (device) => {
    const model = await loadModel(directory, { device, ...options })
    try {
      return await use(model, device)
    } finally {
      await model.dispose()
    }
  })
}
