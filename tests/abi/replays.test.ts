import { test } from 'vitest'
import { onDevice } from '../../packages/device/test/device-rig.js'
import { checkReplays } from './replays.js'

test.each([undefined, 1])('a stream hears of the launches of graphs that hold its work, seed %s', (adversarialSeed) =>
  onDevice({ check: true, ...(adversarialSeed === undefined ? {} : { adversarialSeed }) }, checkReplays),
)
