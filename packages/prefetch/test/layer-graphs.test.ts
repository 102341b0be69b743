import { describe, it } from 'vitest'
import { onDevice } from './device-rig.js'
import { runLayerGraphs } from './layer-graphs-run.js'

describe('kernels of a layer, captured alone and replayed between before and after', () => {
  it.each([1, 2, 3])('read right weights, each layer copied once a forward, %s slots', (prefetchStep) =>
    onDevice({ linkLatencyMs: 0.05 }, (device) => runLayerGraphs(device, 2 * prefetchStep, prefetchStep)),
  )

  it.each([1, 2, 3])('in any order that events allow, seed %s', (adversarialSeed) =>
    onDevice({ adversarialSeed }, (device) => runLayerGraphs(device, 6, 2)),
  )
})
