// Steps in pieces, some of them captured, on a GPU.
import { test } from 'vitest'
import { expectNothingLeft } from '../../packages/prefetch/test/device-rig.js'
import { runLayerGraphs } from '../../packages/prefetch/test/layer-graphs-run.js'
import { piecesCases, runPieces } from '../../packages/prefetch/test/pieces-run.js'
import { describeOnCuda, onCuda, openCuda } from './on-cuda.js'

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
  test.each([1, 2, 3])('kernels of layers captured alone, %s slots', (prefetchStep) =>
    onCuda((device) => runLayerGraphs(device, 2 * prefetchStep, prefetchStep)),
  )
})
