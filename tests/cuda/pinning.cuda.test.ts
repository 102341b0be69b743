// Which kind of host memory slabs are of, by every setting, on the GPU's machine as it is.
import { expect, test } from 'vitest'
import { expectNothingLeft } from '../../packages/prefetch/test/device-rig.js'
import { pinningAnswer, pinningCases, runPinningCase } from '../../packages/prefetch/test/pinning-run.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('pinned memory on a GPU', () => {
  test('every slab is of the kind that was decided, after each step that allocates', async () => {
    const device = await openCuda({ memoryLimitBytes: 64 * 2 ** 20 })
    try {
      const { pinnedMemory: pins, wsl, unifiedMemory, confidentialComputing } = device.capabilities
      const machine = { pins, against: wsl || unifiedMemory || confidentialComputing }
      const answers = new Set<string>()
      for (const given of pinningCases) {
        const answer = pinningAnswer(given, machine)
        answers.add(answer)
        try {
          await runPinningCase(device, given, answer)
          device.releaseCachedMemory()
          await expectNothingLeft(device)
        } catch (error) {
          throw new Error(`${JSON.stringify(given)}, expected ${answer}: ${String(error)}`, { cause: error })
        }
      }
      expect(answers).toContain('pageable')
      expect(answers.size).toBe(3)
    } finally {
      await device.dispose()
    }
  })
})
