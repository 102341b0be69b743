import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { describeOnCuda, onCuda } from './on-cuda.js'

describeOnCuda('confidential computing on a GPU', () => {
  test('is on where nvidia-smi says so', () =>
    onCuda(async ({ capabilities: { confidentialComputing } }) => {
      expect(confidentialComputing).toBeTypeOf('boolean')
      const said = (option: string): string =>
        spawnSync('nvidia-smi', ['conf-compute', option]).stdout?.toString() ?? ''
      const feature = /CC status:\s*(ON|OFF)/i.exec(said('-f'))?.[1]?.toUpperCase()
      if (feature === undefined) return
      // Of several GPUs: protected PCIe, encrypted NVLink. Older drivers do not know the option.
      const several = /protected|ppcie|nvle/i.test(said('-mgm'))
      expect(confidentialComputing).toBe(feature === 'ON' || several)
    }))
})
