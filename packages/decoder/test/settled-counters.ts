import type { Device, DeviceCounters } from '@spillway/core'
import type { Model } from '../src/model.js'

/** The host device counts what is done, and a token comes before all of its graph is. */
export async function settledCounters(model: Pick<Model, 'settledStats'>, device: Device): Promise<DeviceCounters> {
  await model.settledStats()
  return device.counters()
}
