import type { TensorView } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import {
  type AttentionStep,
  attention,
  context,
  prepare,
  ropeAppend,
  scale,
  scaling,
  tolerance,
} from './attention-step.js'
import { attentionReference, type HeadShape, rotate } from './kernels-reference.js'
import { differences, type KernelSubject, relativeError, rounded, type Tensor, weightDTypes } from './kernels-rig.js'

const shapes: readonly HeadShape[] = [
  { heads: 1, keyValueHeads: 1, headDim: 2 },
  { heads: 4, keyValueHeads: 2, headDim: 16 },
  { heads: 6, keyValueHeads: 2, headDim: 10 },
  { heads: 20, keyValueHeads: 1, headDim: 64 },
  { heads: 2, keyValueHeads: 2, headDim: 80 },
  { heads: 3, keyValueHeads: 3, headDim: 256 },
]

/** Row r of qkv before the rotation, cut into heads; what the rotation makes of them. */
function expectedRow(step: AttentionStep, r: number, position: number) {
  const { heads, keyValueHeads, headDim } = step.shape
  const row = step.qkv.values.subarray(r * (heads + 2 * keyValueHeads) * headDim)
  const head = (i: number) => row.slice(i * headDim, (i + 1) * headDim)
  const turned = (i: number) => rotate(head(i), position, step.inverseFrequency.values, scaling)
  const join = (count: number, part: (i: number) => Float64Array) =>
    Float64Array.from(Array.from({ length: count }, (_, i) => [...part(i)]).flat())
  return {
    q: join(heads, turned),
    k: join(keyValueHeads, (i) => turned(heads + i)),
    v: join(keyValueHeads, (i) => head(heads + keyValueHeads + i)),
  }
}

/** ropeAppend and the attention after it, also recorded and replayed. */
export function testAttention({ rig, kernels }: KernelSubject): void {
  describe.each(weightDTypes)('%s cache', (dtype) => {
    describe.each(shapes)('$heads heads, $keyValueHeads key-value heads of $headDim', (shape) => {
      // 70 + 21 runs past the cache, -2 starts before it.
      test.each([
        [0, 1],
        [0, 21],
        [5, 6],
        [31, 2],
        [32, 1],
        [33, 6],
        [70, 21],
        [79, 1],
        [-2, 5],
      ])('from position %i, %i rows', async (position, rows) => {
        const { heads, keyValueHeads, headDim } = shape
        const width = keyValueHeads * headDim
        const step = await prepare(rig, shape, dtype, position, rows)
        ropeAppend(rig, kernels, step)
        const y = await rig.download(attention(rig, kernels, step))
        const qkv = await rig.download(step.qkv.view)
        const keys = await rig.download(step.keys.view)
        const values = await rig.download(step.values.view)

        const wantedKeys = step.keys.values.slice()
        const wantedValues = step.values.values.slice()
        for (let r = 0; r < rows; r++) {
          const at = position + r
          const wanted = expectedRow(step, r, at)
          const q = qkv.subarray(r * (heads + 2 * keyValueHeads) * headDim).slice(0, heads * headDim)
          expect(relativeError(q, wanted.q)).toBeLessThan(1e-6)
          const out = y.slice(r * heads * headDim, (r + 1) * heads * headDim)
          if (at < 0 || at >= context) {
            expect(out.every(Number.isNaN)).toBe(true)
            continue
          }
          // v is stored as it came, only rounded: exactly the nearest number of the dtype.
          wantedValues.set(
            wanted.v.map((value) => rounded(dtype, value)),
            at * width,
          )
          // k has f32 rounding before that: it may fall on the other side of a tie, by one step of the dtype.
          const stored = keys.slice(at * width, (at + 1) * width)
          expect(relativeError(stored, wanted.k)).toBeLessThan({ f32: 1e-6, f16: 5e-4, bf16: 4e-3 }[dtype])
          wantedKeys.set(stored, at * width)
          if (position >= 0) {
            const seen = (at + 1) * width
            const expected = attentionReference(q, keys.subarray(0, seen), values.subarray(0, seen), shape, scale)
            expect(relativeError(out, expected)).toBeLessThan(tolerance)
          }
        }
        // Nothing else in the cache was touched: still NaN behind the rows, still the same before them.
        expect(differences(keys, wantedKeys)).toBe(0)
        expect(differences(values, wantedValues)).toBe(0)
      })
    })

    test('a NaN in one row reaches that row and those after it, never one before it', async () => {
      const shape = { heads: 4, keyValueHeads: 2, headDim: 16 }
      const [position, rows, nanRow] = [3, 7, 4]
      const width = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim
      const clean = await prepare(rig, shape, dtype, position, rows)
      const qkv = clean.qkv.values.slice().fill(Number.NaN, nanRow * width, (nanRow + 1) * width)
      const step = { ...clean, qkv: await rig.upload('f32', [rows, width], qkv) }
      ropeAppend(rig, kernels, step)
      const y = await rig.download(attention(rig, kernels, step))
      const outputs = shape.heads * shape.headDim
      expect(y.subarray(0, nanRow * outputs).some(Number.isNaN)).toBe(false)
      expect(y.subarray(nanRow * outputs).every(Number.isNaN)).toBe(true)
    })
  })

  test('a recorded step, replayed, goes on from the position that the buffer then holds', async () => {
    const shape = { heads: 4, keyValueHeads: 2, headDim: 16 }
    const width = shape.keyValueHeads * shape.headDim
    const step = await prepare(rig, shape, 'f32', 0, 1)
    const inputs = await Promise.all([0, 1, 2].map(() => rig.uploadRandom('f32', step.qkv.view.shape)))
    const positions = await Promise.all([0, 1, 2].map((position) => rig.upload('i32', [1], [position])))
    const y = rig.poisoned('f32', [1, shape.heads * shape.headDim])
    const record = () => {
      ropeAppend(rig, kernels, step)
      kernels.attention(rig.stream, {
        qkv: step.qkv.view,
        position: step.position,
        keys: step.keys.view,
        values: step.values.view,
        heads: shape.heads,
        scale,
        y,
      })
    }
    const copy = (to: TensorView, from: TensorView, bytes: number) =>
      rig.stream.copy(to.buffer, from.buffer, { toOffset: to.offset, fromOffset: from.offset, bytes })

    rig.stream.beginCapture()
    record()
    await using graph = rig.stream.endCapture()
    for (const [i, input] of inputs.entries()) {
      copy(step.qkv.view, input.view, input.values.length * 4)
      copy(step.position, (positions[i] as Tensor).view, 4)
      rig.stream.launch(graph)
    }
    const last = await rig.download(y)
    const keys = await rig.download(step.keys.view)
    const values = await rig.download(step.values.view)
    for (const [i, qkv] of inputs.entries()) {
      const wanted = expectedRow({ ...step, qkv }, 0, i)
      expect(relativeError(keys.slice(i * width, (i + 1) * width), wanted.k)).toBeLessThan(1e-6)
      expect(values.slice(i * width, (i + 1) * width)).toEqual(wanted.v)
      if (i < 2) continue
      const expected = attentionReference(
        wanted.q,
        keys.subarray(0, 3 * width),
        values.subarray(0, 3 * width),
        shape,
        scale,
      )
      expect(relativeError(last, expected)).toBeLessThan(tolerance)
    }
    expect(keys.subarray(3 * width).every(Number.isNaN)).toBe(true)
  })
}
