import { describe, it } from 'vitest'
import { onDevice } from './device-rig.js'
import { piecesCases, runPieces } from './pieces-run.js'

describe.each(piecesCases)('%s', (_, given) => {
  it.each([undefined, 1])('reads and copies what the rules say, adversarial seed %s', (adversarialSeed) =>
    onDevice(adversarialSeed === undefined ? { linkLatencyMs: 0.05 } : { adversarialSeed }, (device) =>
      runPieces(device, given),
    ),
  )
})
