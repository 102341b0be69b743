import { afterAll, afterEach, beforeAll } from 'vitest'
import type { KernelsOptions } from '../../packages/decoder/src/kernels.js'
import { KernelRig, type WeightDType } from '../../packages/decoder/test/kernels-rig.js'
import { openCuda } from './on-cuda.js'

/** Which device code runs: each is right for any number of rows, also those it is not chosen for. */
export const entries = {
  'chosen by rows': {},
  'one row': { linear: 'vector', attention: 'split' },
  'few rows': { linear: 'few', attention: 'split' },
  'many rows': { linear: 'tiles', attention: 'tiles' },
} as const satisfies Record<string, KernelsOptions>

/** For many rows, activations times bf16 weights are in two parts of bf16: 16 bits of f32's 24. */
export function linearTolerance({ linear }: KernelsOptions, dtype: WeightDType, rows: number): number {
  return dtype === 'bf16' && (linear ?? (rows > 32 ? 'tiles' : 'few')) === 'tiles' ? 1e-5 : 2e-6
}

/** For the tests of the `describe` it is called in. */
export function openRig(options: { readonly aligned: boolean }): KernelRig {
  const rig = new KernelRig(openCuda, options)
  beforeAll(() => rig.open())
  afterEach(() => rig.clear())
  afterAll(() => rig.close())
  return rig
}
