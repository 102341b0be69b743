import { describe, expect, test } from 'vitest'
import { linearReference, rmsNormReference } from './kernels-reference.js'
import { type KernelSubject, relativeError, type WeightDType, weightDTypes } from './kernels-rig.js'

const tolerance = 2e-6
const epsilon = 1e-5

/** Products that begin with a norm: for one row, and right for any number. */
export function testNormProducts({ rig, kernels }: Pick<KernelSubject, 'rig' | 'kernels'>): void {
  /** What they all read. */
  const upload = async (
    dtype: WeightDType,
    [rows, inputs, outputs]: readonly [number, number, number],
    scale: number,
  ) => {
    const x = await rig.uploadRandom('f32', [rows, inputs], scale)
    const norm = await rig.uploadRandom(dtype, [inputs], 2)
    const weight = await rig.uploadRandom(dtype, [outputs, inputs])
    const normed = rmsNormReference(x.values, norm.values, epsilon)
    const product = (bias?: Float64Array) => linearReference(normed, weight.values, rows, inputs, outputs, bias)
    return { x, norm, weight, product }
  }

  describe.each(weightDTypes)('%s weights', (dtype) => {
    // The last ones take several turns of a block: whole ones, parts, and one element more than vectors.
    test.each([
      [1, 1, 1],
      [1, 5, 3],
      [1, 33, 5],
      [1, 96, 64],
      [2, 70, 31],
      [7, 257, 67],
      [19, 40, 9],
      [1, 4104, 6],
      [3, 8192, 5],
      [1, 8201, 5],
    ])('normLinear of %i rows, %i inputs, %i outputs', async (rows, inputs, outputs) => {
      const { x, norm, weight, product } = await upload(dtype, [rows, inputs, outputs], 3)
      const bias = await rig.uploadRandom(dtype, [outputs])
      const operands = { x: x.view, norm: norm.view, epsilon, weight: weight.view }

      const y = rig.poisoned('f32', [rows, outputs])
      kernels.normLinear(rig.stream, { ...operands, y })
      expect(relativeError(await rig.download(y), product())).toBeLessThan(tolerance)

      kernels.normLinear(rig.stream, { ...operands, bias: bias.view, y })
      expect(relativeError(await rig.download(y), product(bias.values))).toBeLessThan(tolerance)
    })

    // Epsilon is nothing beside the first, and all there is beside the last. No square is beyond f32.
    test.each([1e16, 1e-2, 1e-12])('normLinear of activations about %f', async (scale) => {
      const [rows, inputs, outputs] = [1, 300, 21]
      const { x, norm, weight, product } = await upload(dtype, [rows, inputs, outputs], scale)
      const y = rig.poisoned('f32', [rows, outputs])
      kernels.normLinear(rig.stream, { x: x.view, norm: norm.view, epsilon, weight: weight.view, y })
      expect(relativeError(await rig.download(y), product())).toBeLessThan(tolerance)
    })

    test('normLinear of zeros is the bias, held up by epsilon alone; a NaN makes its whole row NaN', async () => {
      const [inputs, outputs] = [67, 21]
      const x = await rig.upload('f32', [3, inputs], new Float64Array(3 * inputs).with(2 * inputs - 1, Number.NaN))
      const { norm, weight } = await upload(dtype, [3, inputs, outputs], 1)
      const bias = await rig.uploadRandom(dtype, [outputs])
      const y = rig.poisoned('f32', [3, outputs])
      const operands = { x: x.view, norm: norm.view, epsilon, weight: weight.view, bias: bias.view, y }
      kernels.normLinear(rig.stream, operands)
      const actual = await rig.download(y)
      expect(actual.slice(0, outputs)).toEqual(bias.values)
      expect(actual.subarray(outputs, 2 * outputs).every(Number.isNaN)).toBe(true)
      expect(actual.slice(2 * outputs)).toEqual(bias.values)
    })
  })
}
