import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type InstructionSet, Kernels } from '../src/kernels.js'
import { testElements } from './kernels-element-cases.js'
import { testLinear } from './kernels-linear-cases.js'
import { testNormProducts } from './kernels-norm-product-cases.js'
import { KernelRig, type KernelSubject, weightDTypes } from './kernels-rig.js'

const rig = new KernelRig()
beforeAll(() => rig.open())
afterEach(() => rig.clear())
afterAll(() => rig.close())

describe('the list of kernels', () => {
  test('every kernel has a host twin, and every dtype its entry point', () => {
    const kernels = new Kernels()
    const byDtype = [
      ...['embedding', 'rms_norm', 'linear_vector', 'linear_few', 'linear_tiles'],
      ...['norm_linear', 'norm_swiglu', 'qk_norm', 'rope_append', 'attention_split', 'attention_tiles'],
    ]
    expect(kernels.names).toEqual([
      ...byDtype.flatMap((name) => weightDTypes.map((dtype) => `${name}_${dtype}`)),
      'silu_mul',
      'split_bf16',
    ])
    expect(kernels.describe().map(({ name }) => name)).toEqual(kernels.names)
    expect(kernels.describe().every(({ hostTwin }) => hostTwin)).toBe(true)
  })

  test('the best instruction set is taken unless another is asked for', () => {
    const sets = Kernels.instructionSets()
    expect(sets).toContain('baseline')
    expect(new Kernels().instructionSet).toBe(sets[0])
    for (const instructionSet of sets) expect(new Kernels({ instructionSet }).instructionSet).toBe(instructionSet)
  })

  test('an entry that is none is refused', () => {
    for (const option of ['linear', 'attention'] as const) {
      expect(() => new Kernels({ [option]: 'slow' })).toThrow(
        expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT', message: expect.stringContaining('tiles') }),
      )
    }
  })

  test('a matrix library is for GPUs, and one that was named must be there', () => {
    expect(new Kernels().matrixProducts).toContain('own kernels')
    expect(new Kernels({ device: rig.device }).matrixProducts).toContain('no NVIDIA GPU')
    expect(new Kernels({ device: rig.device, matrixLibrary: 'none' }).matrixProducts).toContain('own kernels')
    expect(() => new Kernels({ device: rig.device, matrixLibrary: 'libcublasLt.so.13' })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_NOT_SUPPORTED', message: expect.stringContaining('no NVIDIA GPU') }),
    )
    expect(() => new Kernels({ device: rig.device, matrixLibrary: '' })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
    )
  })

  test('an instruction set the processor lacks is refused', () => {
    expect(() => new Kernels({ instructionSet: 'mmx' as InstructionSet })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_NOT_SUPPORTED', message: expect.stringContaining('baseline') }),
    )
  })
})

describe.each(Kernels.instructionSets())('%s twins', (instructionSet) => {
  const subject: KernelSubject = {
    rig,
    kernels: new Kernels({ instructionSet }),
    sameForAnyRows: true,
    linearTolerance: () => 2e-6,
  }
  testLinear(subject)
  testNormProducts(subject)
  testElements(subject)
})
