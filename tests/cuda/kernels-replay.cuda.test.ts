import type { TensorView } from '@spillway/core'
import { expect, test } from 'vitest'
import { Kernels } from '../../packages/decoder/src/kernels.js'
import { prepare, scale, scaling } from '../../packages/decoder/test/attention-step.js'
import type { HeadShape } from '../../packages/decoder/test/kernels-reference.js'
import { differences } from '../../packages/decoder/test/kernels-rig.js'
import { openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

describeOnCuda('a recorded layer', () => {
  const rig = openRig({ aligned: true })
  const shape: HeadShape = { heads: 8, keyValueHeads: 2, headDim: 128 }
  const [length, hidden, ffn] = [4200, 512, 1000]
  const width = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim
  const outputs = shape.heads * shape.headDim

  /** All of a layer's kernels, on memory of its own. */
  async function layer(rows: number, window: number | undefined) {
    const weight = async (...sizes: readonly number[]) =>
      (await rig.uploadRandom('bf16', sizes, 1 / Math.sqrt(sizes.at(-1) as number))).view
    const step = await prepare(rig, shape, 'bf16', length, rows, length)
    const views = {
      x: rig.poisoned('f32', [rows, hidden]),
      normed: rig.poisoned('f32', [rows, hidden]),
      qkv: rig.poisoned('f32', [rows, width]),
      attended: rig.poisoned('f32', [rows, outputs]),
      gateUp: rig.poisoned('f32', [rows, 2 * ffn]),
      activated: rig.poisoned('f32', [rows, ffn]),
    }
    const { x, normed, qkv, attended, gateUp, activated } = views
    const norm = await weight(hidden)
    const [qWeight, kWeight] = [await weight(shape.headDim), await weight(shape.headDim)]
    const [qkvWeight, qkvBias, oWeight] = [
      await weight(width, hidden),
      await weight(width),
      await weight(hidden, outputs),
    ]
    const [gateUpWeight, downWeight] = [await weight(2 * ffn, hidden), await weight(hidden, ffn)]
    const { position, keys, values, inverseFrequency } = step
    const { heads, keyValueHeads } = shape
    const kernels = new Kernels()
    const cache = { position, keys: keys.view, values: values.view, heads }
    const enqueue = () => {
      const fromNorm = { x, norm, epsilon: 1e-5 }
      // As the decoder does.
      if (rows === 1) {
        kernels.normLinear(rig.stream, { ...fromNorm, weight: qkvWeight, bias: qkvBias, y: qkv })
      } else {
        kernels.rmsNorm(rig.stream, { x, weight: norm, y: normed, epsilon: 1e-5 })
        kernels.linear(rig.stream, { x: normed, weight: qkvWeight, bias: qkvBias, y: qkv })
      }
      kernels.qkNorm(rig.stream, { qkv, qWeight, kWeight, heads, keyValueHeads, epsilon: 1e-6 })
      kernels.ropeAppend(rig.stream, { qkv, inverseFrequency: inverseFrequency.view, scaling, ...cache })
      kernels.attention(rig.stream, { qkv, scale, window, y: attended, ...cache })
      kernels.linear(rig.stream, { x: attended, weight: oWeight, y: x, accumulate: true })
      if (rows === 1) {
        kernels.normSwiglu(rig.stream, { ...fromNorm, weight: gateUpWeight, y: activated })
      } else {
        kernels.linear(rig.stream, { x, weight: gateUpWeight, y: gateUp })
        kernels.siluMul(rig.stream, { gateUp, y: activated })
      }
      kernels.linear(rig.stream, { x: activated, weight: downWeight, y: x, accumulate: true })
    }
    return { x, position, keys: keys.view, values: values.view, enqueue }
  }

  test.each([
    [1, undefined],
    [1, 1000],
    [2, undefined],
    [40, 1000],
  ])('of %i rows, window %s, replayed at new positions, is what the launches are', async (rows, window) => {
    const direct = await layer(rows, window)
    rig.restart()
    const recorded = await layer(rows, window)
    rig.stream.beginCapture()
    recorded.enqueue()
    await using graph = rig.stream.endCapture()
    const copy = (to: TensorView, from: TensorView, bytes: number) =>
      rig.stream.copy(to.buffer, from.buffer, { toOffset: to.offset, fromOffset: from.offset, bytes })
    // Outside of the cache too: nothing is written there, and NaN comes out.
    for (const position of [0, 1, 255, 256, 4199 - rows, 4200 - rows, 4199, 4200, -1, -100, 700, 2 ** 31 - 1]) {
      const x = await rig.uploadRandom('f32', [rows, hidden])
      const at = await rig.upload('i32', [1], [position])
      for (const to of [direct, recorded]) {
        copy(to.x, x.view, 4 * rows * hidden)
        copy(to.position, at.view, 4)
      }
      direct.enqueue()
      rig.stream.launch(graph)
      const [expected, actual] = [await rig.download(direct.x), await rig.download(recorded.x)]
      expect(differences(actual, expected)).toBe(0)
      const inside = (r: number) => position + r >= 0 && position + r < length
      for (let r = 0; r < rows; r++) {
        const row = actual.subarray(r * hidden, (r + 1) * hidden)
        expect({ position, r, nan: row.some(Number.isNaN) }).toEqual({ position, r, nan: !inside(r) })
      }
    }
    expect(differences(await rig.download(recorded.keys), await rig.download(direct.keys))).toBe(0)
    expect(differences(await rig.download(recorded.values), await rig.download(direct.values))).toBe(0)
  })
})
