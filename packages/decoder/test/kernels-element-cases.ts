import { describe, expect, test } from 'vitest'
import { type HeadShape, qkNormReference, rmsNormReference, siluMulReference } from './kernels-reference.js'
import { differences, type KernelSubject, relativeError, rounded, weightDTypes } from './kernels-rig.js'

const tolerance = 2e-6

/** The kernels that work on rows of elements: norms, embedding, siluMul. */
export function testElements({ rig, kernels }: KernelSubject): void {
  describe.each(weightDTypes)('%s weights', (dtype) => {
    test.each([1, 3, 16, 33, 100, 257])('rmsNorm of width %i', async (hidden) => {
      const x = await rig.uploadRandom('f32', [5, hidden], 3)
      const weight = await rig.uploadRandom(dtype, [hidden])
      const y = rig.poisoned('f32', [5, hidden])
      kernels.rmsNorm(rig.stream, { x: x.view, weight: weight.view, y, epsilon: 1e-5 })
      expect(relativeError(await rig.download(y), rmsNormReference(x.values, weight.values, 1e-5))).toBeLessThan(
        tolerance,
      )
    })

    test('rmsNorm of zeros is held up by epsilon alone, and a NaN makes its whole row NaN', async () => {
      const hidden = 19
      const x = await rig.upload('f32', [2, hidden], new Float64Array(2 * hidden).with(hidden + 18, Number.NaN))
      const weight = await rig.uploadRandom(dtype, [hidden])
      const y = rig.poisoned('f32', [2, hidden])
      kernels.rmsNorm(rig.stream, { x: x.view, weight: weight.view, y, epsilon: 1e-5 })
      const actual = await rig.download(y)
      expect(actual.subarray(0, hidden).every((value) => value === 0)).toBe(true)
      expect(actual.subarray(hidden).every(Number.isNaN)).toBe(true)
    })

    test.each<[HeadShape, number]>([
      [{ heads: 1, keyValueHeads: 1, headDim: 1 }, 1],
      [{ heads: 4, keyValueHeads: 2, headDim: 16 }, 1],
      [{ heads: 6, keyValueHeads: 2, headDim: 22 }, 7],
      [{ heads: 3, keyValueHeads: 3, headDim: 128 }, 3],
      [{ heads: 40, keyValueHeads: 8, headDim: 35 }, 19],
    ])('qkNorm of %o, %i rows', async (shape, rows) => {
      const { heads, keyValueHeads, headDim } = shape
      const qkv = await rig.uploadRandom('f32', [rows, (heads + 2 * keyValueHeads) * headDim], 3)
      const qWeight = await rig.uploadRandom(dtype, [headDim])
      const kWeight = await rig.uploadRandom(dtype, [headDim])
      kernels.qkNorm(rig.stream, {
        qkv: qkv.view,
        qWeight: qWeight.view,
        kWeight: kWeight.view,
        heads,
        keyValueHeads,
        epsilon: 1e-5,
      })
      const actual = await rig.download(qkv.view)
      const expected = qkNormReference(qkv.values, qWeight.values, kWeight.values, shape, 1e-5)
      expect(relativeError(actual, expected)).toBeLessThan(tolerance)
      // v to the bit.
      const width = (heads + 2 * keyValueHeads) * headDim
      const isV = (i: number) => i % width >= (heads + keyValueHeads) * headDim
      expect(
        differences(
          actual.filter((_, i) => isV(i)),
          qkv.values.filter((_, i) => isV(i)),
        ),
      ).toBe(0)
    })

    test('qkNorm: a NaN makes its head NaN, no other', async () => {
      const [heads, keyValueHeads, headDim, nanHead] = [4, 2, 10, 5]
      const values = rig.randoms(2 * 8 * headDim).fill(Number.NaN, nanHead * headDim + 9, (nanHead + 1) * headDim)
      const qkv = await rig.upload('f32', [2, 8 * headDim], values)
      const weight = await rig.uploadRandom(dtype, [headDim])
      const weights = { qWeight: weight.view, kWeight: weight.view }
      kernels.qkNorm(rig.stream, { qkv: qkv.view, ...weights, heads, keyValueHeads, epsilon: 1e-5 })
      const found = (await rig.download(qkv.view)).map((value) => +Number.isNaN(value))
      expect(found).toEqual(found.map((_, i) => +(Math.floor(i / headDim) === nanHead)))
    })

    test.each([1, 7, 16, 65])(
      'embedding of width %i copies rows exactly; a token outside the table gives NaN',
      async (hidden) => {
        const table = await rig.uploadRandom(dtype, [11, hidden])
        const ids = [10, 0, 4, 4, -1, 11, -(2 ** 31), 2 ** 31 - 1]
        const tokens = await rig.upload('i32', [ids.length], ids)
        const y = rig.poisoned('f32', [ids.length, hidden])
        kernels.embedding(rig.stream, { tokens: tokens.view, table: table.view, y })
        const actual = await rig.download(y)
        for (const [r, id] of ids.entries()) {
          const row = actual.slice(r * hidden, (r + 1) * hidden)
          if (id >= 0 && id < 11) expect(row).toEqual(table.values.slice(id * hidden, (id + 1) * hidden))
          else expect(row.every(Number.isNaN)).toBe(true)
        }
      },
    )
  })

  test.each([1, 7, 16, 1000, 1025, 2500])('siluMul of width %i', async (ffn) => {
    const gateUp = await rig.uploadRandom('f32', [3, 2 * ffn], 20)
    const y = rig.poisoned('f32', [3, ffn])
    kernels.siluMul(rig.stream, { gateUp: gateUp.view, y })
    expect(relativeError(await rig.download(y), siluMulReference(gateUp.values, ffn))).toBeLessThan(tolerance)
  })

  test.each([1, 7, 1024, 2051])('split of %i elements: x rounded to bf16, and the rest', async (count) => {
    // One bf16 step above 1 is 2^-7: halves of it are ties; 3.4e38 rounds up to infinity.
    const special = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8, 0, -0, Number.NaN, Number.POSITIVE_INFINITY]
    const values = rig.randoms(count, 1e3)
    values.set([...special, 1e-40, 3.4e38, 3.3e38].slice(0, count))
    const x = await rig.upload('f32', [1, count], values)
    const parts = rig.poisoned('bf16', [2, 1, count])
    kernels.split(rig.stream, { x: x.view, parts })
    const first = x.values.map((value) => rounded('bf16', value))
    const second = x.values.map((value, i) => rounded('bf16', value - (first[i] as number)))
    expect(differences(await rig.download(parts), [...first, ...second])).toBe(0)
  })

  test('siluMul at the ends of the range', async () => {
    const gates = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -1e30,
      -100,
      -88.8,
      -86,
      0,
      86,
      100,
      1e30,
    ]
    const gateUp = await rig.upload('f32', [1, 2 * gates.length], [...gates, ...gates.map(() => 1)])
    const y = rig.poisoned('f32', [1, gates.length])
    kernels.siluMul(rig.stream, { gateUp: gateUp.view, y })
    const actual = await rig.download(y)
    for (const [i, expected] of siluMulReference(gateUp.values, gates.length).entries()) {
      // -Infinity gives NaN, as x · sigmoid(x) does everywhere.
      if (Number.isNaN(expected) || !Number.isFinite(expected)) expect(actual[i]).toBe(expected)
      else expect(Math.abs((actual[i] as number) - expected)).toBeLessThanOrEqual(1e-6 * Math.abs(expected) + 1e-36)
    }
  })
}
