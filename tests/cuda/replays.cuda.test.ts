import { test } from 'vitest'
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
})
