import { describe, expect, test } from 'vitest'
import { attention, context, prepare, ropeAppend, scale, tolerance } from './attention-step.js'
import { attentionReference } from './kernels-reference.js'
import { differences, type KernelSubject, relativeError, weightDTypes } from './kernels-rig.js'

/** Attention that sees a sliding window. */
export function testWindow({ rig, kernels, sameForAnyRows }: KernelSubject): void {
  describe.each(weightDTypes)('%s cache', (dtype) => {
    const shape = { heads: 6, keyValueHeads: 2, headDim: 10 }
    const width = shape.keyValueHeads * shape.headDim
    const outputs = shape.heads * shape.headDim

    // A sliding window of one position, inside a block of keys, of whole blocks, and past the cache; rows around their edges.
    test.each([1, 5, 16, 33, 64, 79, 80, 2 ** 31])('of %i', async (window) => {
      for (const [position, rows] of [
        [0, 21],
        [31, 40],
        [63, 1],
        [79, 1],
        [70, 21],
        [-2, 9],
      ] as const) {
        const step = await prepare(rig, shape, dtype, position, rows)
        ropeAppend(rig, kernels, step)
        const y = await rig.download(attention(rig, kernels, step, window))
        const q = await rig.download(step.qkv.view)
        const keys = await rig.download(step.keys.view)
        const values = await rig.download(step.values.view)
        const rowWidth = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim
        for (let r = 0; r < rows; r++) {
          const at = position + r
          const out = y.slice(r * outputs, (r + 1) * outputs)
          if (at < 0 || at >= context) expect(out.every(Number.isNaN)).toBe(true)
          else if (position >= 0) {
            const seen = [Math.max(0, at + 1 - window) * width, (at + 1) * width] as const
            const expected = attentionReference(
              q.slice(r * rowWidth, r * rowWidth + outputs),
              keys.subarray(...seen),
              values.subarray(...seen),
              shape,
              scale,
            )
            expect(relativeError(out, expected)).toBeLessThan(tolerance)
          }
        }
      }
    })

    test('as long as the cache is no window, to the bit', async () => {
      const step = await prepare(rig, shape, dtype, 3, 70)
      ropeAppend(rig, kernels, step)
      const plain = await rig.download(attention(rig, kernels, step))
      expect(differences(await rig.download(attention(rig, kernels, step, context)), plain)).toBe(0)
      expect(differences(await rig.download(attention(rig, kernels, step, 72)), plain)).toBeGreaterThan(0)
    })

    test(`rows together and one at a time are the same${sameForAnyRows ? ', to the bit' : ''}`, async () => {
      const [position, rows, window] = [20, 45, 19]
      const step = await prepare(rig, shape, dtype, position, rows)
      ropeAppend(rig, kernels, step)
      const together = await rig.download(attention(rig, kernels, step, window))
      for (let r = 0; r < rows; r++) {
        const { qkv } = step
        const row = { ...qkv.view, offset: qkv.view.offset + 4 * r * (qkv.view.shape[1] as number) }
        const one = {
          ...step,
          qkv: { ...qkv, view: { ...row, shape: [1, qkv.view.shape[1] as number] } },
          position: (await rig.upload('i32', [1], [position + r])).view,
        }
        const y = await rig.download(attention(rig, kernels, one, window))
        const expected = together.subarray(r * outputs, (r + 1) * outputs)
        if (sameForAnyRows) expect(differences(y, expected)).toBe(0)
        else expect(relativeError(y, expected)).toBeLessThan(tolerance)
      }
    })

    test('what has left the window is not felt, be it NaN', async () => {
      const [position, rows, window, nanAt] = [30, 12, 9, 27]
      const clean = await prepare(rig, shape, dtype, position, rows)
      const values = clean.values.values.slice().fill(Number.NaN, nanAt * width, (nanAt + 1) * width)
      const keys = clean.keys.values.slice().fill(Number.NaN, 0, 20 * width)
      const cacheShape = clean.keys.view.shape
      const step = {
        ...clean,
        keys: await rig.upload(dtype, cacheShape, keys),
        values: await rig.upload(dtype, cacheShape, values),
      }
      ropeAppend(rig, kernels, step)
      const y = await rig.download(attention(rig, kernels, step, window))
      for (let r = 0; r < rows; r++) {
        const seesNaN = position + r - window < nanAt
        expect(y.slice(r * outputs, (r + 1) * outputs).every((value) => Number.isNaN(value) === seesNaN)).toBe(true)
      }
    })
  })
}
