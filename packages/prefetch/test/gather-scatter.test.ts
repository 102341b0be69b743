import { contiguousStride, type DType, type TensorView } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import { loadAddon } from '../src/native-ring.js'
import { gatherScatter } from '../src/tensor-moves.js'
import { failure, onDevice } from './device-rig.js'
import { chosenCases, randomCase, runCase } from './gather-scatter-cases.js'

describe('gatherScatter moves every element and nothing else', () => {
  it.each(chosenCases.map((one, seed) => ({ ...one, seed })))('$name', async ({ seed, ...one }) => {
    await onDevice({}, (device) => runCase(device, one, seed))
  })

  it('of random lists, what it declares checked', async () => {
    await onDevice({}, async (device) => {
      for (let seed = 0; seed < 60; seed++) await runCase(device, randomCase(seed), seed)
    })
  })

  it('of random lists, on several threads', async () => {
    await onDevice({ check: false, threads: 4 }, async (device) => {
      for (let seed = 1000; seed < 1150; seed++) await runCase(device, randomCase(seed), seed)
      for (const [seed, one] of chosenCases.entries()) await runCase(device, one, seed)
    })
  })
})

describe('gatherScatter refuses', () => {
  const refusals: readonly (readonly [string, string, RegExp, Partial<TensorView>, Partial<TensorView>])[] = [
    ['a source past its buffer', 'INVALID_ARGUMENT', /tensor 1 does not lie inside/, { offset: 4096 - 31 }, {}],
    ['a target past its buffer', 'INVALID_ARGUMENT', /tensor 1 does not lie inside/, {}, { offset: 4090 }],
    [
      'a stride past every buffer',
      'INVALID_ARGUMENT',
      /tensor 1 does not lie inside/,
      { stride: [2 ** 53 - 1, 1] },
      {},
    ],
    ['a negative stride', 'INVALID_ARGUMENT', /a stride must be/, { stride: [-1, 1] }, {}],
    ['an offset that is no number', 'INVALID_ARGUMENT', /toOffset must be/, {}, { offset: Number.NaN }],
    ['strides of another rank', 'INVALID_ARGUMENT', /one length/, { stride: [1] }, {}],
    ['elements at one place', 'INVALID_ARGUMENT', /several elements at one place/, {}, { stride: [0, 1] }],
    ['rows that overlap', 'INVALID_ARGUMENT', /several elements at one place/, {}, { stride: [1, 1] }],
  ]
  it.each(refusals)('%s, and enqueues nothing', async (_, code, message, from, to) => {
    await onDevice({}, async (device) => {
      const stream = device.createStream()
      const buffers = [device.allocate(4096, { tag: 'a', stream }), device.allocate(4096, { tag: 'b', stream })]
      const shape = [2, 4]
      const view = (i: number, changed: Partial<TensorView>): TensorView => {
        return { buffer: buffers[i]!, offset: 0, dtype: 'f32', shape, stride: contiguousStride(shape), ...changed }
      }
      const good = { from: view(0, {}), to: view(1, { offset: 1024 }) }
      const error = await failure(`SPILLWAY_${code}`, () =>
        gatherScatter(loadAddon(), stream, [good, { from: view(0, from), to: view(1, to) }]),
      )
      expect(error.message).toMatch(message)
      await stream.synchronize()
      expect(device.counters().launches).toBe(0)
      await Promise.all([...buffers, stream].map((handle) => handle.dispose()))
    })
  })

  it('what it reads and writes at once, memory out of reach, what is disposed, and too many dimensions', async () => {
    await onDevice({}, async (device) => {
      const stream = device.createStream()
      const buffer = device.allocate(4096, { tag: 'a', stream })
      const host = await device.allocateHost(64, { storage: 'pageable' })
      const bytes = (from: TensorView['buffer'], offset: number, length = 16, dtype: DType = 'u8'): TensorView => {
        return { buffer: from, offset, dtype, shape: [length], stride: [1] }
      }
      const refuse = (code: string, from: TensorView, to: TensorView) =>
        failure(code, () => gatherScatter(loadAddon(), stream, [{ from, to }]))
      await refuse('SPILLWAY_INVALID_ARGUMENT', bytes(buffer, 0), bytes(buffer, 15))
      const hostError = await refuse('SPILLWAY_INVALID_ARGUMENT', bytes(host, 0), bytes(buffer, 0))
      expect(hostError.message).toMatch(/cannot reach/)
      const shape = [2, 2, 2, 2, 2, 2, 2]
      const stride = [1, 3, 9, 27, 81, 243, 729]
      const many = { shape, stride, dtype: 'u8' } as const
      const target = device.allocate(4096, { tag: 'b', stream })
      await refuse('SPILLWAY_NOT_SUPPORTED', { ...bytes(buffer, 0), ...many }, { ...bytes(target, 0), ...many })
      await target.dispose()
      await refuse('SPILLWAY_DISPOSED', bytes(buffer, 0), bytes(target, 0))
      await Promise.all([buffer, host, stream].map((handle) => handle.dispose()))
    })
  })
})
