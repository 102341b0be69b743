import { describe, expect, test } from 'vitest'
import { linearReference, rmsNormReference, siluMulReference } from './kernels-reference.js'
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
    // Products about 1, as a model's are: silu of a large negative gate has the gate's error many times over.
    const weight = await rig.uploadRandom(dtype, [outputs, inputs], 1 / Math.sqrt(inputs))
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
      [1, 4104, 30],
      [2, 8192, 29],
      [1, 8201, 31],
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

    test.each([
      [1, 1, 1],
      [1, 5, 3],
      [1, 33, 24],
      [1, 96, 64],
      [2, 70, 31],
      [7, 257, 33],
      [19, 40, 9],
      [1, 4104, 31],
      [2, 8192, 30],
      [1, 8201, 29],
    ])('normSwiglu of %i rows, %i inputs, %i outputs', async (rows, inputs, ffn) => {
      const { x, norm, weight, product } = await upload(dtype, [rows, inputs, 2 * ffn], 3)
      const y = rig.poisoned('f32', [rows, ffn])
      kernels.normSwiglu(rig.stream, { x: x.view, norm: norm.view, epsilon, weight: weight.view, y })
      expect(relativeError(await rig.download(y), siluMulReference(product(), ffn))).toBeLessThan(tolerance)
    })

    // Epsilon is nothing beside the first, and all there is beside the last. No square is beyond f32.
    test.each([1e16, 1e-2, 1e-12])('normLinear of activations about %f', async (scale) => {
      const [rows, inputs, outputs] = [1, 300, 21]
      const { x, norm, weight, product } = await upload(dtype, [rows, inputs, outputs], scale)
      const y = rig.poisoned('f32', [rows, outputs])
      kernels.normLinear(rig.stream, { x: x.view, norm: norm.view, epsilon, weight: weight.view, y })
      expect(relativeError(await rig.download(y), product())).toBeLessThan(tolerance)
    })

    test.each([
      ['x', 'everything'],
      ['gate', 'one output'],
      ['up', 'one output'],
    ])('normSwiglu: a NaN in %s makes %s NaN', async (where) => {
      const [inputs, ffn, output] = [67, 7, 4]
      const { x, norm, weight } = await upload(dtype, [1, inputs, 2 * ffn], 1)
      const at = ((where === 'up' ? ffn : 0) + output) * inputs + inputs - 1
      const xNaN = await rig.upload('f32', [1, inputs], x.values.with(inputs - 1, Number.NaN))
      const weightNaN = await rig.upload(dtype, [2 * ffn, inputs], weight.values.with(at, Number.NaN))
      const operands = where === 'x' ? { x: xNaN.view, weight: weight.view } : { x: x.view, weight: weightNaN.view }
      const y = rig.poisoned('f32', [1, ffn])
      kernels.normSwiglu(rig.stream, { ...operands, norm: norm.view, epsilon, y })
      const found = [...(await rig.download(y))].map(Number.isNaN)
      expect(found).toEqual(found.map((_, i) => where === 'x' || i === output))
    })

    test('normSwiglu at the ends of the range: silu of a gate, times an up of 1', async () => {
      const gates = [-1e30, -100, -88.8, -86, 0, 86, 100, 1e30]
      // One input of 1, which is its own norm: products are the weights.
      const x = await rig.upload('f32', [1, 1], [1])
      const norm = await rig.upload(dtype, [1], [1])
      const weight = await rig.upload(dtype, [2 * gates.length, 1], [...gates, ...gates.map(() => 1)])
      const y = rig.poisoned('f32', [1, gates.length])
      kernels.normSwiglu(rig.stream, { x: x.view, norm: norm.view, epsilon: 0, weight: weight.view, y })
      const actual = await rig.download(y)
      for (const [i, expected] of siluMulReference(weight.values, gates.length).entries()) {
        if (Number.isFinite(expected) && Number.isFinite(weight.values[i])) {
          expect(Math.abs((actual[i] as number) - expected)).toBeLessThanOrEqual(1e-6 * Math.abs(expected) + 1e-36)
        } else {
          expect(actual[i]).toBe(expected)
        }
      }
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
