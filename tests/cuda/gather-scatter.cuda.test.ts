import { type ConfiguredBackend, configure } from '@spillway/core'
import { loadModel } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import type { NativeDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { afterAll, beforeAll, expect, test } from 'vitest'
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

  test('one launch for each layer that is loaded into prefetch', async () => {
    const launches = async (offload?: ConfiguredBackend): Promise<number> => {
      const before = device.counters().launches
      const model = await loadModel(modelDirectory(), { device, contextLength: 64, ...(offload && { offload }) })
      await model.dispose()
      return device.counters().launches - before
    }
    // What is made once, such as the matrix library, launches when it is tried.
    await launches()
    const others = await launches()
    for (const groupSize of [1, 2]) {
      const more = (await launches(configure(prefetch, { groupSize }))) - others
      expect({ groupSize, more, others }).toEqual({ groupSize, more: 16, others: 0 })
    }
  })

  test('random lists', async () => {
    for (let seed = 0; seed < 300; seed++) await runCase(device, randomCase(seed), seed)
  })
})
