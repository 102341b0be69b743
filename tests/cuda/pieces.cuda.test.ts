// Steps in pieces, some of them captured, on a GPU.
import { test } from 'vitest'
import { expectNothingLeft } from '../../packages/prefetch/test/device-rig.js'
import { piecesCases, runPieces } from '../../packages/prefetch/test/pieces-run.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('pieces of a forward on a GPU', () => {
  test.each(piecesCases)('%s', async (_, given) => {
    const device = await openCuda({ memoryLimitBytes: 64 * 2 ** 20 })
    try {
      await runPieces(device, given)
      device.releaseCachedMemory()
      await expectNothingLeft(device)
    } finally {
      await device.dispose()
    }
  })
})
