import { contiguousStride, type TensorView } from '@spillway/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Kernels } from '../src/kernels.js'
import { KernelRig } from './kernels-rig.js'

const rig = new KernelRig()
const kernels = new Kernels()
beforeAll(() => rig.open())
afterAll(() => rig.close())

const invalid = (text: string) =>
  expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT', message: expect.stringContaining(text) })

function reshaped(view: TensorView, shape: readonly number[]): TensorView {
  return { ...view, shape, stride: contiguousStride(shape) }
}

describe('linear refuses', () => {
  let x: TensorView
  let weight: TensorView
  let y: TensorView
  beforeAll(() => {
    x = rig.poisoned('f32', [2, 8])
    weight = rig.poisoned('bf16', [4, 8])
    y = rig.poisoned('f32', [2, 4])
  })
  const refused = async (
    operands: { x?: TensorView; weight?: TensorView; bias?: TensorView; y?: TensorView },
    text: string,
  ) => {
    const before = await rig.launches()
    expect(() => kernels.linear(rig.stream, { x, weight, y, ...operands })).toThrow(invalid(text))
    expect(await rig.launches()).toBe(before)
  }

  test('nothing that is right', async () => {
    const before = await rig.launches()
    kernels.linear(rig.stream, { x, weight, y })
    expect(await rig.launches()).toBe(before + 1)
  })
  test('a weight whose inputs are not those of x', () =>
    refused({ weight: rig.poisoned('bf16', [4, 7]) }, 'x must be f32'))
  test('a y of another shape', () => refused({ y: rig.poisoned('f32', [2, 5]) }, 'y must be f32 [2, 4]'))
  test('a y that is not f32', () => refused({ y: rig.poisoned('f16', [2, 4]) }, 'it is f16'))
  test('a bias of another dtype than the weight', () =>
    refused({ bias: rig.poisoned('f32', [4]) }, 'bias must be bf16'))
  test('a transposed x', () => refused({ x: { ...rig.poisoned('f32', [2, 8]), stride: [1, 2] } }, 'contiguous'))
  test('a shape that is no shape', async () => {
    for (const length of [0, -1, 1.5, Number.NaN, 2 ** 60]) await refused({ x: reshaped(x, [length, 8]) }, 'must be')
    await refused({ x: reshaped(x, [2, 8, 1]) }, 'x must be f32 [n, 8]')
  })
  test('an offset that leaves too little of the buffer', async () => {
    await refused({ y: { ...y, offset: y.buffer.bytes - 28 } }, 'its buffer has')
    await refused({ y: { ...y, offset: Number.MAX_SAFE_INTEGER - 7 } }, 'its buffer has')
    await refused({ x: reshaped({ ...x, offset: 0 }, [2 ** 30, 8]), y: reshaped(y, [2 ** 30, 4]) }, 'its buffer has')
  })
  test('an offset that is no offset', async () => {
    for (const offset of [-4, 0.5, Number.NaN]) await refused({ x: { ...x, offset } }, 'whole number')
  })
  test('an offset off the alignment of the dtype', async () => {
    await refused({ x: { ...x, offset: x.offset + 2 } }, 'multiple of 4')
    await refused({ weight: { ...weight, offset: weight.offset + 1 } }, 'multiple of 2')
  })
  test('a y that overlaps an input, fully or by one element', async () => {
    const shared = rig.poisoned('f32', [1, 64])
    await refused({ x: reshaped(shared, [2, 8]), y: reshaped(shared, [2, 4]) }, 'overlap')
    await refused(
      { x: reshaped(shared, [2, 8]), y: { ...reshaped(shared, [2, 4]), offset: shared.offset + 15 * 4 } },
      'overlap',
    )
    kernels.linear(rig.stream, {
      x: reshaped(shared, [2, 8]),
      weight,
      y: { ...reshaped(shared, [2, 4]), offset: shared.offset + 16 * 4 },
    })
  })
  test('memory the device cannot reach', async () => {
    for (const storage of ['pageable', 'pinned'] as const) {
      const buffer = await rig.device.allocateHost(64, { storage })
      await refused({ weight: { ...weight, buffer, offset: 0 } }, 'cannot reach')
      await buffer.dispose()
    }
  })
  test('a weight dtype without a kernel', async () => {
    const f8 = { ...weight, dtype: 'f8e4m3' as const }
    expect(() => kernels.linear(rig.stream, { x, weight: f8, y })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_NOT_SUPPORTED', message: expect.stringContaining('f8e4m3') }),
    )
  })
  test('what was disposed', async () => {
    const gone = rig.poisoned('f32', [2, 4])
    await gone.buffer.dispose()
    expect(() => kernels.linear(rig.stream, { x, weight, y: gone })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_DISPOSED' }),
    )
    const stream = rig.device.createStream()
    await stream.dispose()
    expect(() => kernels.linear(stream, { x, weight, y })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_DISPOSED' }),
    )
  })
  test('tensors of another device', async () => {
    const other = new KernelRig()
    await other.open()
    const foreign = other.poisoned('f32', [2, 4])
    expect(() => kernels.linear(rig.stream, { x, weight, y: foreign })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_WRONG_DEVICE' }),
    )
    await other.close()
  })
})

test('mapped memory is read in place', async () => {
  const weight = await rig.uploadRandom('f32', [4, 8])
  const x = await rig.uploadRandom('f32', [2, 8])
  const [fromDevice, fromMapped] = [rig.poisoned('f32', [2, 4]), rig.poisoned('f32', [2, 4])]
  const mapped = await rig.device.allocateHost(4 * 8 * 4, { storage: 'mapped' })
  mapped.write(new Uint8Array(Float32Array.from(weight.values).buffer))
  kernels.linear(rig.stream, { x: x.view, weight: weight.view, y: fromDevice })
  kernels.linear(rig.stream, { x: x.view, weight: { ...weight.view, buffer: mapped, offset: 0 }, y: fromMapped })
  expect(await rig.download(fromMapped)).toEqual(await rig.download(fromDevice))
  await mapped.dispose()
})

describe('the others refuse', () => {
  test('embedding: tokens that are not i32, and a y for other rows', () => {
    const table = rig.poisoned('f16', [5, 4])
    const tokens = rig.poisoned('i32', [3])
    const y = rig.poisoned('f32', [3, 4])
    expect(() => kernels.embedding(rig.stream, { tokens: rig.poisoned('f32', [3]), table, y })).toThrow(
      invalid('tokens must be i32'),
    )
    expect(() => kernels.embedding(rig.stream, { tokens: rig.poisoned('i32', [2]), table, y })).toThrow(
      invalid('y must be f32 [2, 4]'),
    )
    kernels.embedding(rig.stream, { tokens, table, y })
  })

  test('rmsNorm: an epsilon that is negative or no number', () => {
    const x = rig.poisoned('f32', [2, 8])
    const weight = rig.poisoned('f32', [8])
    const y = rig.poisoned('f32', [2, 8])
    for (const epsilon of [-1e-6, Number.NaN, Number.POSITIVE_INFINITY, '1' as unknown as number]) {
      expect(() => kernels.rmsNorm(rig.stream, { x, weight, y, epsilon })).toThrow(invalid('epsilon'))
    }
    expect(() => kernels.rmsNorm(rig.stream, { x, weight, y: x, epsilon: 1e-6 })).toThrow(invalid('overlap'))
  })

  test('normLinear: a norm of another length or dtype, an epsilon that is negative or no number, one memory', () => {
    const x = rig.poisoned('f32', [2, 8])
    const [norm, weight, bias] = [rig.poisoned('bf16', [8]), rig.poisoned('bf16', [4, 8]), rig.poisoned('bf16', [4])]
    const y = rig.poisoned('f32', [2, 4])
    const product = (change: object) =>
      kernels.normLinear(rig.stream, { x, norm, epsilon: 1e-6, weight, bias, y, ...change })
    expect(() => product({ norm: rig.poisoned('bf16', [7]) })).toThrow(invalid('norm must be bf16 [8]'))
    expect(() => product({ norm: rig.poisoned('f32', [8]) })).toThrow(invalid('norm must be bf16'))
    expect(() => product({ bias: rig.poisoned('f32', [4]) })).toThrow(invalid('bias must be bf16'))
    expect(() => product({ x: rig.poisoned('f32', [2, 7]) })).toThrow(invalid('x must be f32 [n, 8]'))
    expect(() => product({ y: rig.poisoned('f32', [1, 4]) })).toThrow(invalid('y must be f32 [2, 4]'))
    for (const epsilon of [-1e-6, Number.NaN, Number.POSITIVE_INFINITY, '1']) {
      expect(() => product({ epsilon })).toThrow(invalid('epsilon'))
    }
    expect(() => product({ y: reshaped(x, [2, 4]) })).toThrow(invalid('overlap'))
    product({ bias: undefined })
  })

  test('normSwiglu: a weight that is not twice as wide as y, a norm of another dtype, an epsilon, one memory', () => {
    const x = rig.poisoned('f32', [2, 8])
    const [norm, weight, y] = [rig.poisoned('f16', [8]), rig.poisoned('f16', [10, 8]), rig.poisoned('f32', [2, 5])]
    const product = (change: object) => kernels.normSwiglu(rig.stream, { x, norm, epsilon: 1e-6, weight, y, ...change })
    expect(() => product({ weight: rig.poisoned('f16', [9, 8]) })).toThrow(invalid('weight must be f16 [10, n]'))
    expect(() => product({ y: rig.poisoned('f32', [2, 10]) })).toThrow(invalid('weight must be f16 [20, n]'))
    expect(() => product({ x: rig.poisoned('f32', [1, 8]) })).toThrow(invalid('x must be f32 [2, 8]'))
    expect(() => product({ norm: rig.poisoned('bf16', [8]) })).toThrow(invalid('norm must be f16'))
    expect(() => product({ y: reshaped(y, [2 ** 53, 5]) })).toThrow(invalid('y must be f32'))
    for (const epsilon of [-1e-6, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => product({ epsilon })).toThrow(invalid('epsilon'))
    }
    expect(() => product({ y: reshaped(x, [2, 5]) })).toThrow(invalid('overlap'))
    product({})
  })

  test('siluMul: a gateUp that is not twice as wide', () => {
    const y = rig.poisoned('f32', [2, 8])
    expect(() => kernels.siluMul(rig.stream, { gateUp: rig.poisoned('f32', [2, 15]), y })).toThrow(invalid('[2, 16]'))
  })

  const step = (heads: number, keyValueHeads: number, headDim: number) => ({
    heads,
    qkv: rig.poisoned('f32', [2, (heads + 2 * keyValueHeads) * headDim]),
    position: rig.poisoned('i32', [1]),
    keys: rig.poisoned('f16', [4, keyValueHeads, headDim]),
    values: rig.poisoned('f16', [4, keyValueHeads, headDim]),
  })
  const rope = { scaling: 1 }

  test('ropeAppend: an odd headDim, heads that do not divide, a cache in two dtypes, one cache for both', () => {
    const inverseFrequency = rig.poisoned('f32', [4])
    const good = step(4, 2, 8)
    expect(() => kernels.ropeAppend(rig.stream, { ...step(4, 2, 9), ...rope, inverseFrequency })).toThrow(
      invalid('even'),
    )
    for (const heads of [3, 0, -2, 1.5, Number.NaN]) {
      expect(() => kernels.ropeAppend(rig.stream, { ...good, ...rope, inverseFrequency, heads })).toThrow(
        invalid('multiple'),
      )
    }
    const values = rig.poisoned('bf16', [4, 2, 8])
    expect(() => kernels.ropeAppend(rig.stream, { ...good, ...rope, inverseFrequency, values })).toThrow(
      invalid('values must be f16'),
    )
    expect(() => kernels.ropeAppend(rig.stream, { ...good, ...rope, inverseFrequency, values: good.keys })).toThrow(
      invalid('overlap'),
    )
    expect(() => kernels.ropeAppend(rig.stream, { ...good, inverseFrequency, scaling: Number.NaN })).toThrow(
      invalid('scaling'),
    )
    kernels.ropeAppend(rig.stream, { ...good, ...rope, inverseFrequency })
  })

  test('qkNorm: heads that do not divide, a weight of another length or dtype, a negative epsilon, one memory', () => {
    const [heads, keyValueHeads, epsilon] = [4, 2, 1e-6]
    const qkv = rig.poisoned('f32', [3, 64])
    const good = { qkv, qWeight: rig.poisoned('bf16', [8]), kWeight: rig.poisoned('bf16', [8]) }
    const norm = (change: object) => kernels.qkNorm(rig.stream, { ...good, heads, keyValueHeads, epsilon, ...change })
    for (const count of [3, 0, -2, 1.5, Number.NaN]) expect(() => norm({ heads: count })).toThrow(invalid('multiple'))
    for (const count of [3, 0, -2, 0.5, Number.NaN]) {
      expect(() => norm({ keyValueHeads: count })).toThrow(invalid('multiple'))
    }
    expect(() => norm({ kWeight: rig.poisoned('bf16', [7]) })).toThrow(invalid('kWeight must be bf16 [8]'))
    expect(() => norm({ kWeight: rig.poisoned('f16', [8]) })).toThrow(invalid('kWeight must be bf16'))
    expect(() => norm({ qkv: rig.poisoned('f32', [3, 63]) })).toThrow(invalid('qkv must be f32 [n, 64]'))
    expect(() => norm({ epsilon: -1 })).toThrow(invalid('epsilon'))
    const inside = { qWeight: reshaped(qkv, [8]) }
    expect(() =>
      norm({ ...inside, qWeight: { ...inside.qWeight, dtype: 'f32' }, kWeight: rig.poisoned('f32', [8]) }),
    ).toThrow(invalid('overlap'))
    norm({})
  })

  test('attention: a headDim there is no room for, a position of two elements, a scale that is no number', () => {
    const good = { ...step(4, 2, 8), scale: 1, y: rig.poisoned('f32', [2, 32]) }
    const wide = { ...step(1, 1, 258), scale: 1, y: rig.poisoned('f32', [2, 258]) }
    expect(() => kernels.attention(rig.stream, wide)).toThrow(invalid('room for 256'))
    expect(() => kernels.attention(rig.stream, { ...good, position: rig.poisoned('i32', [2]) })).toThrow(
      invalid('position must be'),
    )
    expect(() => kernels.attention(rig.stream, { ...good, scale: Number.NEGATIVE_INFINITY })).toThrow(invalid('scale'))
    for (const window of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => kernels.attention(rig.stream, { ...good, window })).toThrow(invalid('window'))
    }
    kernels.attention(rig.stream, good)
  })
})
