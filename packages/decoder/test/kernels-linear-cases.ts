import { describe, expect, test } from 'vitest'
import { linearReference } from './kernels-reference.js'
import { type KernelSubject, relativeError, weightDTypes } from './kernels-rig.js'

/** Matrix products by definition: shapes around every edge that a kernel has, bias, accumulation, NaN. */
export function testLinear({ rig, kernels, linearTolerance }: KernelSubject): void {
  describe.each(weightDTypes)('%s weights', (dtype) => {
    test.each([
      [1, 1, 1],
      [1, 5, 3],
      [1, 33, 5],
      [1, 96, 64],
      [2, 70, 31],
      [4, 130, 7],
      [7, 257, 67],
      [8, 136, 33],
      [16, 264, 95],
      [19, 40, 9],
      [20, 64, 32],
      [23, 300, 35],
      [40, 600, 130],
      [129, 72, 131],
    ])('linear of %i rows, %i inputs, %i outputs', async (rows, inputs, outputs) => {
      const x = await rig.uploadRandom('f32', [rows, inputs])
      const weight = await rig.uploadRandom(dtype, [outputs, inputs])
      const bias = await rig.uploadRandom(dtype, [outputs])
      const expected = (...rest: Float64Array[]) =>
        linearReference(x.values, weight.values, rows, inputs, outputs, ...rest)

      const y = rig.poisoned('f32', [rows, outputs])
      kernels.linear(rig.stream, { x: x.view, weight: weight.view, y })
      expect(relativeError(await rig.download(y), expected())).toBeLessThan(linearTolerance(dtype, rows))

      kernels.linear(rig.stream, { x: x.view, weight: weight.view, bias: bias.view, y })
      const withBias = await rig.download(y)
      expect(relativeError(withBias, expected(bias.values))).toBeLessThan(linearTolerance(dtype, rows))

      kernels.linear(rig.stream, { x: x.view, weight: weight.view, bias: bias.view, y, accumulate: true })
      expect(relativeError(await rig.download(y), expected(bias.values, withBias))).toBeLessThan(
        linearTolerance(dtype, rows),
      )
    })

    // 3 rows go through dot products, 21 through panels.
    test.each([3, 21])(
      'one NaN in x or in the weight reaches its row or column of %i rows, and no other',
      async (rows) => {
        const [inputs, outputs, nanRow, nanColumn] = [67, 37, 1, 35]
        const x = await rig.uploadRandom('f32', [rows, inputs])
        const weight = await rig.uploadRandom(dtype, [outputs, inputs])
        const xNaN = await rig.upload('f32', [rows, inputs], x.values.with(nanRow * inputs + 66, Number.NaN))
        const weightNaN = await rig.upload(dtype, [outputs, inputs], weight.values.with(nanColumn * inputs, Number.NaN))
        const y = rig.poisoned('f32', [rows, outputs])
        kernels.linear(rig.stream, { x: xNaN.view, weight: weight.view, y })
        expect(
          (await rig.download(y)).map((value, i) => +(Number.isNaN(value) !== (Math.floor(i / outputs) === nanRow))),
        ).not.toContain(1)
        kernels.linear(rig.stream, { x: x.view, weight: weightNaN.view, y })
        expect(
          (await rig.download(y)).map((value, i) => +(Number.isNaN(value) !== (i % outputs === nanColumn))),
        ).not.toContain(1)
      },
    )

    test('accumulate adds to what is there, NaN included', async () => {
      const x = await rig.uploadRandom('f32', [2, 8])
      const weight = await rig.uploadRandom(dtype, [4, 8])
      const y = rig.poisoned('f32', [2, 4])
      kernels.linear(rig.stream, { x: x.view, weight: weight.view, y, accumulate: true })
      expect((await rig.download(y)).every(Number.isNaN)).toBe(true)
    })
  })
}
