import { describe, expect, test } from 'vitest'
import { Kernels, type KernelsOptions } from '../../packages/decoder/src/kernels.js'
import { attention, prepare, ropeAppend } from '../../packages/decoder/test/attention-step.js'
import { testAttention } from '../../packages/decoder/test/kernels-attention-cases.js'
import { testElements } from '../../packages/decoder/test/kernels-element-cases.js'
import { testLinear } from '../../packages/decoder/test/kernels-linear-cases.js'
import { testNormProducts } from '../../packages/decoder/test/kernels-norm-product-cases.js'
import { differences, type KernelSubject } from '../../packages/decoder/test/kernels-rig.js'
import { testWindow } from '../../packages/decoder/test/kernels-window-cases.js'
import { entries, linearTolerance, openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

describeOnCuda('kernels on cuda', () => {
  describe.each(Object.entries<KernelsOptions>(entries))('%s', (_, options) => {
    describe.each([true, false])('aligned: %s', (aligned) => {
      const subject: KernelSubject = {
        rig: openRig({ aligned }),
        kernels: new Kernels(options),
        sameForAnyRows: options.attention !== undefined,
        linearTolerance: (dtype, rows) => linearTolerance(options, dtype, rows),
      }
      testLinear(subject)
      testElements(subject)
      testAttention(subject)
      testWindow(subject)
    })
  })

  // One way for any number of rows.
  describe.each([true, false])('aligned: %s', (aligned) => {
    testNormProducts({ rig: openRig({ aligned }), kernels: new Kernels() })
  })

  describe('which device code runs', () => {
    const rig = openRig({ aligned: true })

    test.each([
      [1, 'vector'],
      [2, 'few'],
      [32, 'few'],
      [33, 'tiles'],
    ] as const)('linear of %i rows is the bits of %s, and of no other', async (rows, chosen) => {
      const [inputs, outputs] = [1000, 96]
      const x = await rig.uploadRandom('f32', [rows, inputs])
      const weight = await rig.uploadRandom('bf16', [outputs, inputs])
      const run = async (options: KernelsOptions) => {
        const y = rig.poisoned('f32', [rows, outputs])
        new Kernels(options).linear(rig.stream, { x: x.view, weight: weight.view, y })
        return rig.download(y)
      }
      const bits = await run({})
      for (const linear of ['vector', 'few', 'tiles'] as const) {
        const same = differences(await run({ linear }), bits) === 0
        expect({ linear, same }).toEqual({ linear, same: linear === chosen })
      }
    })

    test.each([
      [23, 'split'],
      [24, 'tiles'],
    ] as const)('attention of %i rows is the bits of %s, and not of the other', async (rows, chosen) => {
      const step = await prepare(rig, { heads: 4, keyValueHeads: 2, headDim: 64 }, 'bf16', 40, rows)
      ropeAppend(rig, new Kernels(), step)
      const bits = await rig.download(attention(rig, new Kernels(), step))
      for (const entry of ['split', 'tiles'] as const) {
        const same =
          differences(await rig.download(attention(rig, new Kernels({ attention: entry }), step)), bits) === 0
        expect({ entry, same }).toEqual({ entry, same: entry === chosen })
      }
    })

    test('every kernel has an image', () => {
      expect(
        new Kernels()
          .describe()
          .filter(({ image }) => image === 'none')
          .map(({ name }) => name),
      ).toEqual([])
    })
  })

  describe('memory of the host', () => {
    const rig = openRig({ aligned: true })

    test.each([1, 3, 40])('a mapped weight is read in place, %i rows', async (rows) => {
      const weight = await rig.uploadRandom('f32', [64, 128])
      const x = await rig.uploadRandom('f32', [rows, 128])
      const [fromDevice, fromMapped] = [rig.poisoned('f32', [rows, 64]), rig.poisoned('f32', [rows, 64])]
      const mapped = await rig.device.allocateHost(64 * 128 * 4, { storage: 'mapped' })
      mapped.write(new Uint8Array(Float32Array.from(weight.values).buffer))
      const kernels = new Kernels()
      kernels.linear(rig.stream, { x: x.view, weight: weight.view, y: fromDevice })
      kernels.linear(rig.stream, { x: x.view, weight: { ...weight.view, buffer: mapped, offset: 0 }, y: fromMapped })
      expect(differences(await rig.download(fromMapped), await rig.download(fromDevice))).toBe(0)
      await mapped.dispose()
    })
  })
})
