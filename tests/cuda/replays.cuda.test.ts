// Launches of graphs that a backend does not see, on a GPU.
import { expect, test } from 'vitest'
import { expectNothingLeft } from '../../packages/prefetch/test/device-rig.js'
import { refusedCalls, runRefusedCall } from '../../packages/prefetch/test/replays-run.js'
import { checkReplays } from '../abi/replays.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('replays on a GPU', () => {
  test('a stream hears of the launches of graphs that hold its work', async () => {
    const device = await openCuda()
    try {
      await checkReplays(device)
    } finally {
      await device.dispose()
    }
  })

  test.each(refusedCalls)('one within an open forward is refused by %s', async (...call) => {
    const device = await openCuda({ memoryLimitBytes: 64 * 2 ** 20 })
    try {
      await runRefusedCall(device, call)
      device.releaseCachedMemory()
      await expectNothingLeft(device)
      expect(device.counters().graphLaunches).toBe(2)
    } finally {
      await device.dispose()
    }
  })
})
