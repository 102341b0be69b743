import { expect, test } from 'vitest'
import {
  contiguousStride,
  decideResident,
  elementCount,
  extentBytes,
  type ModuleSpec,
  ownParameters,
  type ParameterSpec,
  parameterBytes,
  slabLayout,
} from '../src/index.js'
import { thrown } from './thrown.js'

const parameter = (name: string, shape: number[], more: Partial<ParameterSpec> = {}): ParameterSpec => ({
  name,
  dtype: 'f32',
  shape,
  stride: contiguousStride(shape),
  use: 'linear',
  ...more,
})

test('a slab starts every parameter at 256 bytes and ends with the last byte of the last', () => {
  const parameters = [
    parameter('a', [3]),
    parameter('b', [64]),
    parameter('empty', [0, 5]),
    parameter('c', [2, 2], { dtype: 'bf16' }),
  ]
  const { bytes, offsets } = slabLayout(parameters)
  expect([...offsets]).toEqual([
    ['a', 0],
    ['b', 256],
    ['empty', 512],
    ['c', 512],
  ])
  expect(bytes).toBe(520)
  expect(parameterBytes(parameters)).toBe(12 + 256 + 0 + 8)
  expect(slabLayout([]).bytes).toBe(0)
})

test('an extent includes the gaps of strides', () => {
  expect(extentBytes(parameter('a', [2, 3], { stride: [5, 1] }))).toBe((5 + 2 + 1) * 4)
  expect(extentBytes(parameter('a', [2, 3], { stride: [1, 2] }))).toBe(24)
  expect(extentBytes(parameter('scalar', []))).toBe(4)
  expect(elementCount([])).toBe(1)
})

test.each<[string, Partial<ParameterSpec>]>([
  ['a negative length', { shape: [-1], stride: [1] }],
  ['a fraction', { shape: [1.5], stride: [1] }],
  ['fewer strides than lengths', { shape: [2, 2], stride: [1] }],
  ['a negative stride', { shape: [2], stride: [-1] }],
  ['more than 2^53 bytes', { shape: [2 ** 30, 2 ** 30], stride: [2 ** 30, 1] }],
  ['an unknown dtype', { dtype: 'f128' as never }],
])('%s is no layout', (_, more) => {
  expect(thrown(() => extentBytes(parameter('a', [1], more))).code).toBe('SPILLWAY_INVALID_ARGUMENT')
})

test('everything resident takes slabs in whole pages, caches, workspace and twice the largest slab; ties take nothing', () => {
  const module = (name: string, parameters: ParameterSpec[]): ModuleSpec => ({
    name,
    order: 0,
    role: 'layer',
    parameters,
  })
  const specs = [
    module('small', [parameter('a', [10])]),
    module('large', [parameter('a', [10]), parameter('b', [1000])]),
    module('tied', [parameter('a', [1000], { tiedTo: 'small.a' })]),
  ]
  expect(ownParameters(specs[2]!)).toEqual([])
  const plan = { kvCacheBytes: 7, workspaceBytes: 11 }
  const neededBytes = 4096 + 8192 + 2 * 4096 + 2 * 8192
  expect(decideResident(specs, plan, { availableBytes: neededBytes })).toEqual({
    resident: true,
    neededBytes,
    availableBytes: neededBytes,
  })
  expect(decideResident(specs, plan, { availableBytes: neededBytes - 1 }).resident).toBe(false)
  const needed = (more: object, granuleBytes?: number): number =>
    decideResident(specs, { ...plan, ...more }, { availableBytes: 0, ...(granuleBytes && { granuleBytes }) })
      .neededBytes
  expect(needed({ postLoadBytes: 1 })).toBe(neededBytes - 2 * 8192 + 1)
  // A GPU has its memory in 2 MiB.
  expect(needed({}, 2 ** 21)).toBe(6 * 2 ** 21)
  // Slabs under a 64th of the limit, or 2 MiB, share a segment of that size: a page of it is used at the least.
  const limited = (limitBytes: number): number =>
    decideResident(specs, plan, { availableBytes: 0, limitBytes }).neededBytes - neededBytes
  expect(limited(64 * 4096)).toBe(0)
  expect(limited(64 * 5 * 4096 - 1)).toBe(4 * 4096)
  expect(limited(2 ** 40)).toBe(2 ** 21 - 4096)
  // Those of more than 1 MiB share one of 20 MiB, caches too; from 10 MiB on none is shared.
  const withCache = (kvCacheBytes: number): number => {
    const plans = { ...plan, kvCacheBytes }
    const bytes = (limitBytes: number): number =>
      decideResident(specs, plans, { availableBytes: 0, limitBytes }).neededBytes
    return bytes(2 ** 40) - bytes(0)
  }
  expect(withCache(2 ** 20)).toBe(2 ** 21 - 4096)
  expect(withCache(2 ** 20 + 1)).toBe(2 ** 21 - 4096 + 19 * 2 ** 20 - 4096)
  expect(withCache(10 * 2 ** 20 - 1)).toBe(2 ** 21 - 4096 + 10 * 2 ** 20)
  expect(withCache(10 * 2 ** 20)).toBe(2 ** 21 - 4096)
})
