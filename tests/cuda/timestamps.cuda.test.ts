import { expect, test } from 'vitest'
import { expectNothingLeft } from '../../packages/device/test/device-rig.js'
import { timestampCases } from '../abi/timestamps.js'
import { expectReplaysTimed } from '../composition/replay-times.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

/** More than any link to a GPU has. */
const bytesPerSecond = 2e12

describeOnCuda('timestamps on a GPU', () => {
  test.each(timestampCases)('%s', async (_, body) => {
    const device = await openCuda()
    try {
      await body({ device, bytesPerSecond })
      await expect.poll(() => Object.values(device.counters().liveHandles).every((count) => count === 0)).toBe(true)
      expectNothingLeft(device)
    } finally {
      await device.dispose()
    }
  })

  test('of a replayed decode graph: every offloaded layer has its link time and its copy in the trace', async () => {
    const device = await openCuda()
    try {
      await expectReplaysTimed(device, bytesPerSecond)
    } finally {
      await device.dispose()
    }
  })
})
