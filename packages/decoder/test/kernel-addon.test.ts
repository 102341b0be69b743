// The addon alone, behind kernels.ts: it trusts nobody either.
import { inspect } from 'node:util'
import { isSpillwayError, loadNative } from '@spillway/core'
import { attach, handleOf } from '@spillway/device'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KernelRig } from './kernels-rig.js'

const rig = new KernelRig()
beforeAll(() => rig.open())
afterAll(() => rig.close())

type Function = (...values: unknown[]) => unknown
const addon = loadNative<Record<string, Function>>({ from: import.meta.url, name: 'decoder' })

test('takes no table but that of the device', () => {
  for (const table of [undefined, null, {}, 1, handleOf(rig.device)]) {
    expect(() => addon.attach?.(table)).toThrow(expect.objectContaining({ code: 'SPILLWAY_ABI_FOREIGN' }))
  }
})

test('opens a library by a device and names, and uses none it has not opened', () => {
  const operations = addon.attach?.(attach()) as Record<string, Function>
  const device = handleOf(rig.device)
  expect(operations.openMatrixLibrary?.(device, [])).toEqual({ reason: expect.stringContaining('no NVIDIA GPU') })
  for (const values of [[], [device], [device, 'x'], [device, [1]], [undefined, []], [handleOf(rig.stream), []]]) {
    expect(() => operations.openMatrixLibrary?.(...values)).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
    )
  }
})

// Each call is right but for one value, or has one too few: the addon must find it, by itself.
test('answers whatever it is given with a coded error, and enqueues nothing', async () => {
  const operations = addon.attach?.(attach()) as Record<string, Function>
  const good = (dtype: Parameters<KernelRig['poisoned']>[0], shape: number[]) => {
    const view = rig.poisoned(dtype, shape)
    return [handleOf(view.buffer), view.offset]
  }
  const stream = handleOf(rig.stream)
  const cache = () => [...good('f16', [4, 2, 8]), ...good('f16', [4, 2, 8])]
  const calls: Record<string, unknown[]> = {
    embedding: [stream, 0, 3, 5, 8, ...good('i32', [3]), ...good('f32', [5, 8]), ...good('f32', [3, 8])],
    rmsNorm: [stream, 0, 3, 8, 1e-5, ...good('f32', [3, 8]), ...good('f32', [8]), ...good('f32', [3, 8])],
    linear: [
      stream,
      2,
      3,
      8,
      4,
      false,
      0,
      undefined,
      ...good('f32', [3, 8]),
      ...good('bf16', [4, 8]),
      ...good('bf16', [4]),
      ...good('f32', [3, 4]),
      ...good('bf16', [2, 3, 8]),
    ],
    normLinear: [
      ...[stream, 2, 3, 8, 4, 1e-5],
      ...good('f32', [3, 8]),
      ...good('bf16', [8]),
      ...good('bf16', [4, 8]),
      ...good('bf16', [4]),
      ...good('f32', [3, 4]),
    ],
    normSwiglu: [
      ...[stream, 2, 3, 8, 4, 1e-5],
      ...good('f32', [3, 8]),
      ...good('bf16', [8]),
      ...good('bf16', [8, 8]),
      ...good('f32', [3, 4]),
    ],
    qkNorm: [stream, 2, 3, 4, 2, 8, 1e-5, ...good('f32', [3, 64]), ...good('bf16', [8]), ...good('bf16', [8])],
    ropeAppend: [
      stream,
      1,
      2,
      4,
      2,
      8,
      4,
      1,
      ...good('f32', [2, 64]),
      ...good('i32', [1]),
      ...good('f32', [4]),
      ...cache(),
    ],
    attention: [
      stream,
      1,
      2,
      4,
      2,
      8,
      4,
      1,
      3,
      0,
      ...good('f32', [2, 64]),
      ...good('i32', [1]),
      ...cache(),
      ...good('f32', [2, 32]),
    ],
    split: [stream, 24, ...good('f32', [3, 8]), ...good('bf16', [2, 3, 8])],
    siluMul: [stream, 3, 8, ...good('f32', [3, 16]), ...good('f32', [3, 8])],
  }
  // None of these is right anywhere, but for what may be undefined: a library, a bias, parts of activations.
  const wrong = [
    undefined,
    null,
    'x',
    {},
    [],
    Symbol('x'),
    10n,
    -1,
    2 ** 31,
    2 ** 52,
    2 ** 53,
    1e300,
    Number.NaN,
    handleOf(rig.device),
  ]
  const accepted: string[] = []
  const before = await rig.launches()
  let refusals = 0
  for (const [name, values] of Object.entries(calls)) {
    const attempt = (label: string, attempted: unknown[]) => {
      try {
        operations[name]?.(...attempted)
        accepted.push(label)
      } catch (error) {
        refusals++
        if (!isSpillwayError(error)) throw error
      }
    }
    for (let i = 0; i < values.length; i++) {
      attempt(`${name} of ${i} values`, values.slice(0, i))
      for (const value of wrong) attempt(`${name}, value ${i} = ${inspect(value)}`, values.with(i, value))
    }
  }
  // Numbers that are numbers: a scale and a scaling of any size, an epsilon of any but negative; a missing bias.
  const permitted = [
    ...['rmsNorm, value 4', 'normLinear, value 5', 'normSwiglu, value 5', 'qkNorm, value 6'].flatMap((operand) =>
      [2 ** 31, 2 ** 52, 2 ** 53].map((value) => `${operand} = ${value}`),
    ),
    'linear, value 7 = undefined',
    'linear, value 12 = undefined',
    'linear, value 16 = undefined',
    'linear of 16 values',
    'normLinear, value 12 = undefined',
    ...['ropeAppend', 'attention'].flatMap((name) =>
      [-1, 2 ** 31, 2 ** 52, 2 ** 53].map((value) => `${name}, value 7 = ${value}`),
    ),
  ]
  expect(accepted.filter((label) => !permitted.includes(label))).toEqual([])
  expect(refusals).toBeGreaterThan(1000)
  expect(await rig.launches()).toBe(before + accepted.length)
  // And all of them, put right, are taken.
  for (const [name, values] of Object.entries(calls)) operations[name]?.(...values)
})
