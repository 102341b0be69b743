import type { NativeDevice } from '@spillway/device'
import { afterAll, beforeAll, test } from 'vitest'
import { chosenCases, randomCase, runCase } from '../../packages/prefetch/test/gather-scatter-cases.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('gather and scatter on a GPU: every byte as on the host device', () => {
  let device: NativeDevice
  beforeAll(async () => {
    device = await openCuda()
  })
  afterAll(() => device.dispose())

  test.each(chosenCases.map((one, seed) => ({ ...one, seed })))('$name', ({ seed, ...one }) =>
    runCase(device, one, seed),
  )

  test('random lists', async () => {
    for (let seed = 0; seed < 300; seed++) await runCase(device, randomCase(seed), seed)
  })
})
