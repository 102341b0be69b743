// Each entry point in each of its forms once, at the smallest shape that takes it through all of its code: tools that
// watch every access, such as racecheck, need minutes for the shapes of the other tests.
import { expect, test } from 'vitest'
import type { AttentionEntry, LinearEntry } from '../../packages/decoder/src/kernel-addon.js'
import { Kernels } from '../../packages/decoder/src/kernels.js'
import {
  attention,
  tolerance as attentionTolerance,
  prepare,
  ropeAppend,
  scale,
  scaling,
} from '../../packages/decoder/test/attention-step.js'
import {
  attentionReference,
  linearReference,
  qkNormReference,
  rmsNormReference,
  rotate,
  siluMulReference,
} from '../../packages/decoder/test/kernels-reference.js'
import {
  differences,
  relativeError,
  rounded,
  type WeightDType,
  weightDTypes,
} from '../../packages/decoder/test/kernels-rig.js'
import { linearTolerance, openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

const tolerance = 2e-6

describeOnCuda('each kernel once', () => {
  const rig = openRig({ aligned: true })
  const kernels = new Kernels()

  const byDType: Readonly<Record<string, (dtype: WeightDType) => Promise<void>>> = {
    async embedding(dtype) {
      const table = await rig.uploadRandom(dtype, [11, 72])
      const tokens = await rig.upload('i32', [3], [10, 0, 4])
      const y = rig.poisoned('f32', [3, 72])
      kernels.embedding(rig.stream, { tokens: tokens.view, table: table.view, y })
      const expected = [10, 0, 4].flatMap((id) => [...table.values.slice(id * 72, (id + 1) * 72)])
      expect(differences(await rig.download(y), expected)).toBe(0)
    },
    async rms_norm(dtype) {
      // Several warps, and elements left over.
      const [x, weight] = [await rig.uploadRandom('f32', [2, 1030], 3), await rig.uploadRandom(dtype, [1030])]
      const y = rig.poisoned('f32', [2, 1030])
      kernels.rmsNorm(rig.stream, { x: x.view, weight: weight.view, y, epsilon: 1e-5 })
      expect(relativeError(await rig.download(y), rmsNormReference(x.values, weight.values, 1e-5))).toBeLessThan(
        tolerance,
      )
    },
    async qk_norm(dtype) {
      const shape = { heads: 10, keyValueHeads: 5, headDim: 70 }
      const qkv = await rig.uploadRandom('f32', [2, 20 * 70], 3)
      const [q, k] = [await rig.uploadRandom(dtype, [70]), await rig.uploadRandom(dtype, [70])]
      kernels.qkNorm(rig.stream, { qkv: qkv.view, qWeight: q.view, kWeight: k.view, ...shape, epsilon: 1e-5 })
      const expected = qkNormReference(qkv.values, q.values, k.values, shape, 1e-5)
      expect(relativeError(await rig.download(qkv.view), expected)).toBeLessThan(tolerance)
    },
    async rope_append(dtype) {
      const [position, rows] = [3, 2]
      const step = await prepare(rig, { heads: 4, keyValueHeads: 2, headDim: 40 }, dtype, position, rows)
      ropeAppend(rig, kernels, step)
      const actual = await rig.download(step.qkv.view)
      const keys = await rig.download(step.keys.view)
      for (let r = 0; r < rows; r++) {
        const head = (i: number) => step.qkv.values.subarray((r * 8 + i) * 40, (r * 8 + i + 1) * 40)
        const turned = (i: number) => rotate(head(i), position + r, step.inverseFrequency.values, scaling)
        expect(relativeError(actual.subarray(r * 320, r * 320 + 40), turned(0))).toBeLessThan(tolerance)
        const first = (position + r) * 80
        const expected = turned(4).map((value) => rounded(dtype, value))
        expect(relativeError(keys.subarray(first, first + 40), expected)).toBeLessThan(1e-2)
      }
    },
    linear_vector: (dtype) => linear(dtype, 'vector', 2, 1030, 70),
    linear_few: (dtype) => linear(dtype, 'few', 17, 1030, 70),
    // Two tiles each way, and more steps than are in shared memory at once.
    linear_tiles: (dtype) => linear(dtype, 'tiles', 130, 264, 134),
    async norm_linear(dtype) {
      const [x, norm] = [await rig.uploadRandom('f32', [2, 1030], 3), await rig.uploadRandom(dtype, [1030])]
      const [weight, bias] = [await rig.uploadRandom(dtype, [70, 1030]), await rig.uploadRandom(dtype, [70])]
      const y = rig.poisoned('f32', [2, 70])
      const operands = { x: x.view, norm: norm.view, epsilon: 1e-5, weight: weight.view, bias: bias.view, y }
      kernels.normLinear(rig.stream, operands)
      const normed = rmsNormReference(x.values, norm.values, 1e-5)
      const expected = linearReference(normed, weight.values, 2, 1030, 70, bias.values)
      expect(relativeError(await rig.download(y), expected)).toBeLessThan(tolerance)
    },
    async norm_swiglu(dtype) {
      const [x, norm] = [await rig.uploadRandom('f32', [2, 1030], 3), await rig.uploadRandom(dtype, [1030])]
      const weight = await rig.uploadRandom(dtype, [2 * 35, 1030], 1 / 32)
      const y = rig.poisoned('f32', [2, 35])
      kernels.normSwiglu(rig.stream, { x: x.view, norm: norm.view, epsilon: 1e-5, weight: weight.view, y })
      const normed = rmsNormReference(x.values, norm.values, 1e-5)
      const gateUp = linearReference(normed, weight.values, 2, 1030, 2 * 35)
      expect(relativeError(await rig.download(y), siluMulReference(gateUp, 35))).toBeLessThan(tolerance)
    },
    attention_split: (dtype) => attend(dtype, 'split', 3),
    attention_tiles: (dtype) => attend(dtype, 'tiles', 70),
  }

  const others: Readonly<Record<string, () => Promise<void>>> = {
    async silu_mul() {
      const gateUp = await rig.uploadRandom('f32', [2, 2 * 1030], 20)
      const y = rig.poisoned('f32', [2, 1030])
      kernels.siluMul(rig.stream, { gateUp: gateUp.view, y })
      expect(relativeError(await rig.download(y), siluMulReference(gateUp.values, 1030))).toBeLessThan(tolerance)
    },
    async split_bf16() {
      const x = await rig.uploadRandom('f32', [2, 1030], 1e3)
      const parts = rig.poisoned('bf16', [2, 2, 1030])
      kernels.split(rig.stream, { x: x.view, parts })
      const first = x.values.map((value) => rounded('bf16', value))
      const second = x.values.map((value, i) => rounded('bf16', value - (first[i] as number)))
      expect(differences(await rig.download(parts), [...first, ...second])).toBe(0)
    },
  }

  const each = new Map<string, () => Promise<void>>([
    ...Object.entries(byDType).flatMap(([name, run]) =>
      weightDTypes.map((dtype): [string, () => Promise<void>] => [`${name}_${dtype}`, () => run(dtype)]),
    ),
    ...Object.entries(others),
  ])

  test.each([...each])('%s', (_, run) => run())

  test('there is no other kernel', () => {
    expect([...each.keys()].sort()).toEqual([...kernels.names].sort())
  })

  async function linear(dtype: WeightDType, entry: LinearEntry, rows: number, inputs: number, outputs: number) {
    const x = await rig.uploadRandom('f32', [rows, inputs])
    const weight = await rig.uploadRandom(dtype, [outputs, inputs])
    const bias = await rig.uploadRandom(dtype, [outputs])
    const before = await rig.uploadRandom('f32', [rows, outputs])
    const operands = { x: x.view, weight: weight.view, bias: bias.view, y: before.view, accumulate: true }
    new Kernels({ linear: entry }).linear(rig.stream, operands)
    const expected = linearReference(x.values, weight.values, rows, inputs, outputs, bias.values, before.values)
    const most = linearTolerance({ linear: entry }, dtype, rows)
    expect(relativeError(await rig.download(before.view), expected)).toBeLessThan(most)
  }

  /** A head dimension for each form that the kernels are compiled in; every second one with a window. */
  async function attend(dtype: WeightDType, entry: AttentionEntry, rows: number) {
    for (const [i, headDim] of [40, 128, 200].entries()) {
      const shape = { heads: 6, keyValueHeads: 2, headDim }
      const window = i % 2 === 0 ? undefined : 37
      const length = 75
      const step = await prepare(rig, shape, dtype, length - rows, rows, length)
      ropeAppend(rig, kernels, step)
      const y = await rig.download(attention(rig, new Kernels({ attention: entry }), step, window))
      const [qkv, keys, values] = [
        await rig.download(step.qkv.view),
        await rig.download(step.keys.view),
        await rig.download(step.values.view),
      ]
      const [outputs, width] = [shape.heads * headDim, shape.keyValueHeads * headDim]
      for (const r of [0, rows - 1]) {
        const end = length - rows + r + 1
        const seen = [Math.max(0, end - (window ?? end)) * width, end * width] as const
        const queries = qkv.subarray(r * (outputs + 2 * width), r * (outputs + 2 * width) + outputs)
        const expected = attentionReference(queries, keys.subarray(...seen), values.subarray(...seen), shape, scale)
        expect(relativeError(y.subarray(r * outputs, (r + 1) * outputs), expected)).toBeLessThan(attentionTolerance)
      }
    }
  }
})
