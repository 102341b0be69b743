// What a user is told before a run, held against what the device then counts.
import { configure, createOffloader, decodeRates, formatExplanation, none, timesOf } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { failure, onDevice } from './device-rig.js'
import { load, parameter } from './model-rig.js'

const page = 4096
const kibibyte = 1024
const layer = (i: number, bytes: number) => ({
  name: `layers.${i}`,
  order: i + 1,
  role: 'layer' as const,
  parameters: [parameter('weight', [bytes], { dtype: 'u8' })],
})
const model = [
  { name: 'embed', order: 0, role: 'embedding' as const, parameters: [parameter('weight', [page / 4])] },
  ...[0, 1, 2, 3, 4, 5].map((i) => layer(i, i === 3 ? 12 * kibibyte : 8 * kibibyte)),
]
const plan = { kvCacheBytes: 3 * page, workspaceBytes: page, postLoadBytes: 2 * page }
/** 8 KiB in 8 ms. */
const rates = { linkBytesPerSecond: 1024 * 1000, computeMs: (name: string) => (name === 'embed' ? 1 : 5) }

describe('explain', () => {
  it('plans memory as the device then counts it, and the step by the schedule', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const backends = [configure(prefetch, { groupSize: 2 })]
      const offloader = await createOffloader({ device, compute, backends, plan })
      await failure('SPILLWAY_INVALID_STATE', () => offloader.explain())
      await offloader.wrapModules(model)
      const before = offloader.explain({ rates })
      expect(before.memory).toEqual({
        residentBytes: page + 3 * 2 * page,
        slotBytes: 2 * page + 3 * page,
        kvCacheBytes: 3 * page,
        workspaceBytes: page,
        postLoadBytes: 2 * page,
        deviceBytes: (1 + 6 + 3 + 1 + 5) * page,
        hostBytes: 28 * kibibyte,
      })
      expect(before.names).toEqual(['prefetch'])
      expect(before.modules.map(({ module, slot, storage }) => [module, storage, slot])).toEqual([
        ['embed', 'device', undefined],
        ['layers.0', 'device', undefined],
        ['layers.1', 'pinned', 0],
        ['layers.2', 'device', undefined],
        ['layers.3', 'pinned', 1],
        ['layers.4', 'device', undefined],
        ['layers.5', 'pinned', 0],
      ])
      // Layer 3 keeps its slot. Layer 1's copy begins when layer 5 is done and has 6 ms, layer 5's has 15.
      expect(before.predictedStepMs).toBeCloseTo(31 + 2)
      expect(before.modules[2]!.predicted).toMatchObject({ linkMs: 8, hiddenFraction: 0.75 })
      expect(before.modules[4]!.predicted).toMatchObject({ linkMs: 0, hiddenFraction: 1 })
      expect(before.modules[6]!.predicted).toMatchObject({ linkMs: 8, waitMs: 0, hiddenFraction: 1 })

      await load(device, offloader.modules.values(), compute)
      const caches = [3, 1].map((pages) => device.allocate(pages * page, { tag: 'kv_cache', stream: compute }))
      await offloader.postInit()
      const after = offloader.explain({
        rates,
        measured: timesOf([
          { lane: 'wait', module: 'layers.1', startMs: 6, endMs: 9 },
          { lane: 'copy', module: 'layers.1', startMs: 3, endMs: 9 },
          { lane: 'compute', module: 'layers.1', startMs: 9, endMs: 40 },
        ]),
      })
      expect(after.memory).toEqual(before.memory)
      // The ring has the slots that were foretold, and the device counts what was planned.
      expect(offloader.stats().slotBytes).toBe((8 + 12) * kibibyte)
      expect(device.budget.usedBytes).toBe(before.memory.deviceBytes)
      expect(after.measuredPeakDeviceBytes).toBe(before.memory.deviceBytes)
      expect(device.counters().pinnedBytes).toBe(before.memory.hostBytes)
      expect(after.measuredStepMs).toBe(34)
      expect(after.modules[2]!.measured).toMatchObject({ linkMs: 6, waitMs: 3, hiddenFraction: 0.5 })

      const planned = [
        '',
        'on the device: 28 KiB of weights, 20 KiB of slots, 12 KiB of caches, 4 KiB of workspace; 8 KiB while loading',
        'at most 64 KiB on the device planned',
        'on the host: 28 KiB of weights',
        'a step: 33.00 ms predicted',
      ]
      // Before a run: what the device has counted so far is no measurement.
      const beforeLines = formatExplanation(before).split('\n')
      expect(beforeLines[0]).toBe(
        'module    device    host  storage  slot  predicted compute  predicted link     wait  hidden',
      )
      expect(beforeLines[3]).toBe(
        'layers.1       -   8 KiB  pinned      0            5.00 ms         8.00 ms  2.00 ms    75 %',
      )
      expect(beforeLines.slice(-5)).toEqual(planned)
      const afterLines = formatExplanation(after).split('\n')
      expect(afterLines[0]).toBe(
        'module    device    host  storage  slot  measured compute  predicted link     wait  hidden  measured link     wait  hidden',
      )
      expect(afterLines[3]).toBe(
        'layers.1       -   8 KiB  pinned      0          31.00 ms         8.00 ms  2.00 ms    75 %        6.00 ms  3.00 ms    50 %',
      )
      const measured = ['at most 64 KiB on the device planned, 64 KiB measured', planned[3]]
      expect(afterLines.slice(-5)).toEqual([
        ...planned.slice(0, 2),
        ...measured,
        'a step: 33.00 ms predicted, 34.00 ms measured',
      ])
      const shortLines = formatExplanation(after, { placement: false }).split('\n')
      expect(shortLines[0]).toBe(
        'module      host  measured compute  predicted link     wait  hidden  measured link     wait  hidden',
      )
      expect(shortLines.slice(-3)).toEqual(['', measured[0], 'a step: 33.00 ms predicted, 34.00 ms measured'])
      await Promise.all(caches.map((buffer) => buffer.dispose()))
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('counts device memory in whole pages, host memory in bytes, and what is tied where it lies', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch, { groupSize: 1 })] })
      const tied = { ...parameter('weight', [100], { dtype: 'u8' }), tiedTo: 'layers.0.weight' }
      const head = { name: 'head', order: 99, role: 'head' as const, parameters: [tied] }
      await offloader.wrapModules([layer(0, 100), layer(1, page + 1), layer(2, 1), head])
      const { memory, modules } = offloader.explain()
      expect(memory).toMatchObject({ residentBytes: page, slotBytes: 3 * page, hostBytes: page + 2 })
      expect(modules.map(({ deviceBytes }) => deviceBytes)).toEqual([100, 0, 0, 0])
      await offloader.postInit()
      expect(device.budget.usedBytes).toBe(4 * page)
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('says the same of modules that are placed in another order than they run in', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const explained = async (specs: typeof model) => {
        const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 3 })]
        const offloader = await createOffloader({ device, compute, backends, plan })
        await offloader.wrapModules(specs)
        const { modules, predictedStepMs } = offloader.explain({ rates })
        await offloader.dispose()
        return { modules, predictedStepMs }
      }
      const explanation = await explained(model)
      expect(explanation.modules.map(({ slot }) => slot)).toEqual([undefined, 0, 1, 2, 0, 1, 2])
      expect(await explained([...model].reverse())).toEqual(explanation)
      await compute.dispose()
    })
  })

  it('has a table for a backend that foretells nothing', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(none)], plan })
      await offloader.wrapModules(model)
      expect(offloader.explain().predictedStepMs).toBeUndefined()
      const explanation = offloader.explain({ rates })
      // Nothing is copied: the time is that of the kernels.
      expect(explanation.predictedStepMs).toBe(1 + 6 * 5)
      expect(explanation.memory).toMatchObject({ residentBytes: 14 * page, slotBytes: 0, hostBytes: 0 })
      expect(formatExplanation(explanation).split('\n')[1]).toBe(
        'embed      4 KiB     -  device      -            1.00 ms',
      )
      // After such a run there is nothing new to say of a module.
      const measured = offloader.explain({ rates, measured: { stepMs: 40, modules: [] } })
      expect(formatExplanation(measured, { placement: false }).split('\n')).toEqual([
        expect.stringMatching(/^at most .* planned, .* measured$/),
        'a step: 31.00 ms predicted, 40.00 ms measured',
      ])
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('takes what kernels of one row read, and the rates of memory and link, for the time of a step', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch, { groupSize: 1 })] })
      const tied = { ...parameter('weight', [page / 4], { use: 'linear' }), tiedTo: 'embed.weight' }
      const embedding = { ...model[0]!, parameters: [parameter('weight', [page / 4], { use: 'gather' })] }
      const head = { name: 'head', order: 99, role: 'head' as const, parameters: [tied] }
      await offloader.wrapModules([embedding, ...model.slice(1), head])
      const limits = { linkBytesPerSecond: 1024 * 1000, deviceBytesPerSecond: 4 * 1024 * 1000 }
      const given = decodeRates(offloader.modules, limits)
      expect(['embed', 'layers.0', 'layers.3', 'head', 'nobody'].map(given.computeMs)).toEqual([0, 2, 3, 1, 0])
      // 52 KiB cross the link, which is never idle.
      expect(offloader.explain({ rates: given }).predictedStepMs).toBeCloseTo(52)
      await offloader.dispose()
      await compute.dispose()
    })
  })

  it('refuses rates that are none', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(prefetch, { groupSize: 1 })] })
      await offloader.wrapModules(model)
      for (const wrong of [
        { linkBytesPerSecond: 0 },
        { linkBytesPerSecond: Number.NaN },
        { computeMs: 3 as never },
        { computeMs: () => Number.NaN },
        { computeMs: () => -1 },
        // The times of a step would be no numbers: it is not the backend that is wrong then.
        { linkBytesPerSecond: Number.MIN_VALUE },
        { computeMs: () => Number.MAX_VALUE },
        {
          computeMs: () => {
            throw new Error('inside')
          },
        },
      ]) {
        await failure('SPILLWAY_INVALID_ARGUMENT', () => offloader.explain({ rates: { ...rates, ...wrong } }))
      }
      await failure('SPILLWAY_INVALID_ARGUMENT', () => offloader.explain(3 as never))
      await offloader.dispose()
      await compute.dispose()
    })
  })
})
