import { expect, test } from 'vitest'
import { Kernels, type KernelsOptions } from '../../packages/decoder/src/kernels.js'
import { attention, prepare, ropeAppend, scale, tolerance } from '../../packages/decoder/test/attention-step.js'
import {
  attentionReference,
  type HeadShape,
  linearReference,
  rmsNormReference,
  siluMulReference,
} from '../../packages/decoder/test/kernels-reference.js'
import { relativeError, type WeightDType, weightDTypes } from '../../packages/decoder/test/kernels-rig.js'
import { entries, linearTolerance, openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

describeOnCuda('kernels at the shapes of models', () => {
  const rig = openRig({ aligned: true })
  const block = 97

  test.each(
    [1, 2, 16, 17, 32, 33, 129].flatMap((rows, i) =>
      [
        [4096, 6111, 'bf16'],
        [14336, 4074, 'bf16'],
        [4096, 28615, (['f16', 'f32'] as const)[i % 2] as WeightDType],
      ].map(([inputs, outputs, dtype]) => [rows, inputs, outputs, dtype] as [number, number, number, WeightDType]),
    ),
  )('linear of %i rows, %i inputs, %i outputs, %s', async (rows, inputs, outputs, dtype) => {
    const x = await rig.uploadRandom('f32', [rows, inputs])
    const weight = await rig.uploadRepeated(dtype, [block, inputs], outputs / block)
    const y = rig.poisoned('f32', [rows, outputs])
    new Kernels().linear(rig.stream, { x: x.view, weight: weight.view, y })
    const once = linearReference(x.values, weight.values, rows, inputs, block)
    const expected = Float64Array.from(
      { length: rows * outputs },
      (_, i) => once[Math.floor(i / outputs) * block + ((i % outputs) % block)] as number,
    )
    expect(relativeError(await rig.download(y), expected)).toBeLessThan(linearTolerance({}, dtype, rows))
  })

  test.each(weightDTypes)('normLinear and normSwiglu of 4096 inputs, 4074 outputs, %s', async (dtype) => {
    const [inputs, outputs, epsilon] = [4096, 4074, 1e-5]
    const [x, norm] = [await rig.uploadRandom('f32', [1, inputs], 3), await rig.uploadRandom(dtype, [inputs])]
    const weight = await rig.uploadRepeated(dtype, [block, inputs], outputs / block)
    const operands = { x: x.view, norm: norm.view, epsilon, weight: weight.view }
    const normed = rmsNormReference(x.values, norm.values, epsilon)
    const once = linearReference(normed, weight.values, 1, inputs, block)
    const product = Float64Array.from({ length: outputs }, (_, i) => once[i % block] as number)
    const y = rig.poisoned('f32', [1, outputs])
    new Kernels().normLinear(rig.stream, { ...operands, y })
    expect(relativeError(await rig.download(y), product)).toBeLessThan(linearTolerance({}, dtype, 1))
    const activated = rig.poisoned('f32', [1, outputs / 2])
    new Kernels().normSwiglu(rig.stream, { ...operands, y: activated })
    expect(relativeError(await rig.download(activated), siluMulReference(product, outputs / 2))).toBeLessThan(
      linearTolerance({}, dtype, 1),
    )
  })

  test.each(['vector', 'few', 'tiles'] as const)('linear, %s: a weight of more than 2^32 bytes', async (linear) => {
    const [inputs, outputs] = [4096, block * 5600]
    const x = await rig.uploadRandom('f32', [1, inputs])
    const weight = await rig.uploadRepeated('bf16', [block, inputs], outputs / block)
    const y = rig.poisoned('f32', [1, outputs])
    new Kernels({ linear }).linear(rig.stream, { x: x.view, weight: weight.view, y })
    const once = linearReference(x.values, weight.values, 1, inputs, block)
    const expected = Float64Array.from({ length: outputs }, (_, i) => once[i % block] as number)
    expect(relativeError(await rig.download(y), expected)).toBeLessThan(linearTolerance({ linear }, 'bf16', 1))
  })

  const windows = [undefined, 1000, 33, 4095]
  test.each(
    [64, 80, 128, 256].flatMap((headDim, i) =>
      [1, 2, 16, 17, 32, 33, 129].map(
        (rows, j) =>
          [headDim, rows, windows[(i + j) % 4], weightDTypes[(i + 2 * j) % 3]] as [
            number,
            number,
            number | undefined,
            WeightDType,
          ],
      ),
    ),
  )('attention: heads of %i, the last %i rows of 4200, window %s, %s', async (headDim, rows, window, dtype) => {
    const shape: HeadShape = { heads: 8, keyValueHeads: 2, headDim }
    const length = 4200
    const step = await prepare(rig, shape, dtype, length - rows, rows, length)
    for (const options of Object.values<KernelsOptions>(entries)) {
      const kernels = new Kernels(options)
      const qkv = { ...step.qkv, ...(await rig.upload('f32', step.qkv.view.shape, step.qkv.values)) }
      ropeAppend(rig, kernels, { ...step, qkv })
      const y = await rig.download(attention(rig, kernels, { ...step, qkv }, window))
      const q = await rig.download(qkv.view)
      const keys = await rig.download(step.keys.view)
      const values = await rig.download(step.values.view)
      const [outputs, width] = [shape.heads * headDim, shape.keyValueHeads * headDim]
      const rowWidth = outputs + 2 * width
      for (const r of new Set([0, rows >> 1, rows - 1])) {
        const end = length - rows + r + 1
        const seen = [Math.max(0, end - (window ?? end)) * width, end * width] as const
        const expected = attentionReference(
          q.subarray(r * rowWidth, r * rowWidth + outputs),
          keys.subarray(...seen),
          values.subarray(...seen),
          shape,
          scale,
        )
        expect(relativeError(y.subarray(r * outputs, (r + 1) * outputs), expected)).toBeLessThan(tolerance)
      }
    }
  })
})
