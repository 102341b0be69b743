import { openDevice } from '@spillway/device'
import { describe, expect, type TestContext, test } from 'vitest'
import { Kernels, type KernelsOptions } from '../../packages/decoder/src/kernels.js'
import { linearReference } from '../../packages/decoder/test/kernels-reference.js'
import { differences, KernelRig, relativeError, type WeightDType } from '../../packages/decoder/test/kernels-rig.js'
import { openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

// Matrix units cut long sums off instead of rounding them, and a library leaves it at that.
const tolerance = 1e-4

function withLibrary(rig: KernelRig, context: TestContext): Kernels {
  const kernels = new Kernels({ device: rig.device })
  if (!kernels.matrixProducts.startsWith('cuBLASLt')) context.skip(kernels.matrixProducts)
  return kernels
}

interface Case {
  readonly rows: number
  readonly inputs: number
  readonly outputs: number
  readonly dtype?: WeightDType
  readonly bias?: boolean
  readonly scratch?: boolean
}

/** One product, twice with accumulation; how many launches the first was: two by the library, for it takes x split. */
async function launchesOf(rig: KernelRig, kernels: Kernels, product: Case): Promise<number> {
  const { rows, inputs, outputs, dtype = 'bf16', bias = false, scratch = true } = product
  const x = await rig.uploadRandom('f32', [rows, inputs])
  const weight = await rig.uploadRandom(dtype, [outputs, inputs])
  const added = bias ? await rig.uploadRandom(dtype, [outputs]) : undefined
  const parts = scratch ? rig.poisoned('bf16', [2, rows, inputs]) : undefined
  const y = rig.poisoned('f32', [rows, outputs])
  const operands = { x: x.view, weight: weight.view, bias: added?.view, parts, y }
  const reference = (before?: Float64Array) =>
    linearReference(x.values, weight.values, rows, inputs, outputs, added?.values, before)

  const before = rig.device.counters().launches
  kernels.linear(rig.stream, operands)
  await rig.stream.synchronize()
  const launches = rig.device.counters().launches - before
  const first = await rig.download(y)
  expect(relativeError(first, reference())).toBeLessThan(tolerance)
  kernels.linear(rig.stream, { ...operands, accumulate: true })
  expect(relativeError(await rig.download(y), reference(first))).toBeLessThan(tolerance)
  if (parts !== undefined) await rig.download(parts)
  return launches
}

describeOnCuda('a matrix library', () => {
  describe('aligned', () => {
    const rig = openRig({ aligned: true })

    test.for<Case>([
      { rows: 33, inputs: 8, outputs: 4 },
      { rows: 64, inputs: 4096, outputs: 100 },
      { rows: 129, inputs: 264, outputs: 1028 },
      { rows: 500, inputs: 1000, outputs: 64 },
    ])('computes %o', async (product, context) => {
      expect(await launchesOf(rig, withLibrary(rig, context), product)).toBe(2)
    })

    test.each<[string, Case, KernelsOptions?]>([
      ['few rows', { rows: 32, inputs: 64, outputs: 64 }],
      ['f16', { rows: 64, inputs: 64, outputs: 64, dtype: 'f16' }],
      ['f32', { rows: 64, inputs: 64, outputs: 64, dtype: 'f32' }],
      ['a bias', { rows: 64, inputs: 64, outputs: 64, bias: true }],
      ['no memory for parts of x', { rows: 64, inputs: 64, outputs: 64, scratch: false }],
      ['rows of the weight that are not aligned', { rows: 64, inputs: 68, outputs: 64 }],
      ['rows of the result that are not aligned', { rows: 64, inputs: 64, outputs: 66 }],
      ['no library wanted', { rows: 64, inputs: 64, outputs: 64 }, { matrixLibrary: 'none' }],
      ['device code that was asked for', { rows: 64, inputs: 64, outputs: 64 }, { linear: 'tiles' }],
    ])('leaves to own kernels: %s', async (_, product, options = {}) => {
      expect(await launchesOf(rig, new Kernels({ device: rig.device, ...options }), product)).toBe(1)
    })

    test('NaN in a row of x reaches that row, and no other', async (context) => {
      const kernels = withLibrary(rig, context)
      const [rows, inputs, outputs] = [70, 64, 32]
      const values = rig.randoms(rows * inputs).with(5 * inputs + 63, Number.NaN)
      const x = (await rig.upload('f32', [rows, inputs], values)).view
      const weight = (await rig.uploadRandom('bf16', [outputs, inputs])).view
      const y = rig.poisoned('f32', [rows, outputs])
      kernels.linear(rig.stream, { x, weight, y, parts: rig.poisoned('bf16', [2, rows, inputs]) })
      const found = (await rig.download(y)).map((value) => +Number.isNaN(value))
      expect(found).toEqual(found.map((_, i) => +(Math.floor(i / outputs) === 5)))
    })

    test('is left out of captures, which then replay own kernels', async (context) => {
      const kernels = withLibrary(rig, context)
      const [rows, inputs, outputs] = [64, 128, 96]
      const x = await rig.uploadRandom('f32', [rows, inputs])
      const weight = await rig.uploadRandom('bf16', [outputs, inputs])
      const [y, own] = [rig.poisoned('f32', [rows, outputs]), rig.poisoned('f32', [rows, outputs])]
      const parts = rig.poisoned('bf16', [2, rows, inputs])
      rig.stream.beginCapture()
      kernels.linear(rig.stream, { x: x.view, weight: weight.view, y, parts })
      await using graph = rig.stream.endCapture()
      expect(graph.nodeCount).toBe(1)
      rig.stream.launch(graph)
      new Kernels().linear(rig.stream, { x: x.view, weight: weight.view, y: own })
      expect(differences(await rig.download(y), await rig.download(own))).toBe(0)
    })

    test('that was named and is none is refused with the reason', () => {
      for (const [matrixLibrary, reason] of [
        ['libnowhere.so', 'libnowhere.so'],
        ['libm.so.6', 'lacks functions'],
      ] as const) {
        expect(() => new Kernels({ device: rig.device, matrixLibrary })).toThrow(
          expect.objectContaining({ code: 'SPILLWAY_NOT_SUPPORTED', message: expect.stringContaining(reason) }),
        )
      }
    })
  })

  describe('not aligned', () => {
    const rig = openRig({ aligned: false })

    test('leaves the product to own kernels', async () => {
      const kernels = new Kernels({ device: rig.device })
      expect(await launchesOf(rig, kernels, { rows: 64, inputs: 64, outputs: 64 })).toBe(1)
    })
  })
})

describeOnCuda('a matrix library, when the GPU was closed and is opened again', () => {
  test.each(['first', 'second', 'third'])('computes as before, %s', async () => {
    // No other device is open: with this one goes the driver's context.
    const rig = new KernelRig(() => openDevice('cuda'), { aligned: true })
    await rig.open()
    const kernels = new Kernels({ device: rig.device })
    const expected = kernels.matrixProducts.startsWith('own') ? 1 : 2
    expect(await launchesOf(rig, kernels, { rows: 64, inputs: 256, outputs: 128 })).toBe(expected)
    await rig.close()
  })
})
