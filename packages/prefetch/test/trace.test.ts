import {
  chromeTrace,
  configure,
  createOffloader,
  type Graph,
  none,
  type Offloader,
  type TraceEvent,
  timesOf,
} from '@spillway/core'
import type { NativeDevice, OpenDeviceOptions } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import prefetch from '../src/index.js'
import { eventsOfMarks, traceKind } from '../src/ring-trace.js'
import { failure, onDevice, onloadedSince } from './device-rig.js'
import { load, model } from './model-rig.js'

const { reached, begin, end, copyBegin, copyEnd } = traceKind

it('events are what lies between two marks of one module, and ends without a begin are left out', () => {
  const marks = Float64Array.from(
    [
      [copyEnd, 0, 1], // begun before the trace
      [reached, 0, 2],
      [copyBegin, 1, 2],
      [begin, 0, 2], // nothing to wait for
      [end, 0, 5],
      [reached, 1, 5],
      [copyEnd, 1, 7],
      [begin, 1, 7],
      [begin, 2, 7.5],
      [end, 2, 8],
      [end, 1, 9],
      [end, 1, 10], // without a begin of its own
      [begin, 0, 11], // no end any more
    ].flat(),
  )
  const modules = [{ name: 'layers.0', bytes: 10 }, { name: 'layers.1', bytes: 20 }, { name: 'norm' }]
  expect(eventsOfMarks(marks, modules)).toEqual([
    { lane: 'compute', module: 'layers.0', startMs: 2, endMs: 5 },
    { lane: 'copy', module: 'layers.1', startMs: 2, endMs: 7, bytes: 20 },
    { lane: 'wait', module: 'layers.1', startMs: 5, endMs: 7 },
    { lane: 'compute', module: 'norm', startMs: 7.5, endMs: 8 },
    { lane: 'compute', module: 'layers.1', startMs: 7, endMs: 9 },
  ])
})

const layers = 5
const modules = model(layers).map(({ name }) => name)

async function withModel(
  options: OpenDeviceOptions,
  body: (offloader: Offloader, forward: () => void, device: NativeDevice) => Promise<void>,
): Promise<void> {
  await onDevice(options, async (device) => {
    const compute = device.createStream()
    const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 2 })]
    const offloader = await createOffloader({ device, compute, backends })
    await offloader.wrapModules(model(layers))
    await load(device, offloader.modules.values(), compute)
    await offloader.postInit()
    const scratch = device.allocate(64 * 1024, { tag: 'scratch' })
    const forward = (): void =>
      offloader.forward(compute, (scope) => {
        for (const module of modules) {
          scope.before(module)
          compute.fill(scratch, 1)
          scope.after(module)
        }
      })
    await body(offloader, forward, device)
    await scratch.dispose()
    await offloader.dispose()
    await compute.dispose()
  })
}

describe('a trace', () => {
  it('has every module of every forward, every copy with its bytes as the device counts them, and the waits', async () => {
    await withModel({ linkLatencyMs: 2 }, async (offloader, forward, device) => {
      await offloader.settledStats()
      const before = device.counters()
      const { result, events } = await offloader.trace(async () => {
        for (let i = 0; i < 3; i++) forward()
        return 'done'
      })
      expect(result).toBe('done')
      const of = (lane: TraceEvent['lane']): TraceEvent[] => events.filter((event) => event.lane === lane)
      expect(of('compute').map(({ module }) => module)).toEqual([...modules, ...modules, ...modules])
      const copies = of('copy')
      const bytes = copies.reduce((sum, one) => sum + one.bytes!, 0)
      expect({ copies: copies.length, bytes }).toEqual(onloadedSince(device, before))
      expect(copies.length).toBeGreaterThan(0)
      // With a link this slow somebody waits, and never computes before the copy is there.
      expect(of('wait').length).toBeGreaterThan(0)
      for (const wait of of('wait')) {
        const copy = copies.findLast(({ module, endMs }) => module === wait.module && endMs <= wait.endMs)
        // What the slots hold at first was copied before the trace.
        const first = of('wait').find(({ module }) => module === wait.module) === wait
        expect(copy !== undefined || (first && modules.indexOf(wait.module) <= 2), wait.module).toBe(true)
      }
      for (const lane of ['compute', 'copy'] as const) {
        const inLane = of(lane)
        for (const [i, event] of inLane.slice(1).entries()) {
          expect(event.startMs).toBeGreaterThanOrEqual(inLane[i]!.endMs)
        }
      }
      const times = timesOf(events, 3)
      const explanation = offloader.explain({ measured: times })
      expect(explanation.measuredStepMs).toBe(times.stepMs)
      expect(explanation.modules.filter(({ measured }) => measured !== undefined)).toHaveLength(modules.length)
      expect(JSON.parse(chromeTrace(events)).traceEvents.filter(({ ph }: { ph: string }) => ph === 'X')).toHaveLength(
        events.length,
      )
    })
  })

  it('has the last replay of a graph that was made in it, and nothing of what was only captured', async () => {
    await withModel({ linkBytesPerSecond: 10 ** 5 }, async (offloader, forward, device) => {
      forward()
      await offloader.settledStats()
      const stream = device.createStream()
      const capture = (): Graph => {
        stream.beginCapture()
        offloader.forward(stream, (scope) => {
          for (const module of modules) {
            scope.before(module)
            scope.after(module)
          }
        })
        return stream.endCapture()
      }
      const { result: graph, events: captured } = await offloader.trace(capture)
      expect(captured).toEqual([])
      stream.launch(graph)
      await stream.synchronize()
      expect((await offloader.trace(() => undefined)).events).toEqual([])

      const { events } = await offloader.trace(() => {
        for (let i = 0; i < 3; i++) stream.launch(graph)
      })
      const of = (lane: TraceEvent['lane']): TraceEvent[] => events.filter((event) => event.lane === lane)
      expect(of('compute').map(({ module }) => module)).toEqual(modules)
      // Five layers through two slots: each is copied again.
      expect(of('copy').map(({ module }) => module)).toEqual([2, 3, 4, 1, 0].map((i) => `layers.${i}`))
      for (const { module, bytes, startMs, endMs } of of('copy')) {
        expect(endMs - startMs, module).toBeGreaterThanOrEqual(bytes! / 100 - 0.001)
      }
      // The forward after it follows it, and has times of its own.
      const both = await offloader.trace(() => {
        stream.launch(graph)
        forward()
      })
      expect(both.events.filter(({ lane }) => lane === 'compute').map(({ module }) => module)).toEqual([
        ...modules,
        ...modules,
      ])
      await graph.dispose()
      await stream.dispose()
    })
  })

  it('cannot begin while the stream of the last forward is being captured', async () => {
    await withModel({}, async (offloader, forward, device) => {
      const stream = device.createStream()
      offloader.forward(stream, () => undefined)
      stream.beginCapture()
      let began = false
      const begin = (): void => {
        began = true
      }
      await failure('SPILLWAY_CAPTURE', () => offloader.trace(begin))
      expect(began).toBe(false)
      await stream.endCapture().dispose()
      expect((await offloader.trace(forward)).events.length).toBeGreaterThan(0)
      await stream.dispose()
    })
  })

  it('is one at a time, ends when what it traces fails, and goes on after that', async () => {
    await withModel({}, async (offloader, forward) => {
      await offloader.trace(async () => {
        await failure('SPILLWAY_INVALID_STATE', () => offloader.trace(forward))
      })
      await expect(offloader.trace(() => Promise.reject(new Error('inside')))).rejects.toThrow('inside')
      expect((await offloader.trace(forward)).events.length).toBeGreaterThan(0)
    })
  })

  it('may be under way when the offloader is disposed', async () => {
    await withModel({ linkLatencyMs: 3 }, async (offloader, forward) => {
      await failure('SPILLWAY_DISPOSED', () =>
        offloader.trace(async () => {
          forward()
          await offloader.dispose()
        }),
      )
    })
  })

  it('is refused by a backend that cannot tell', async () => {
    await onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(none)] })
      await offloader.wrapModules(model(1))
      await failure('SPILLWAY_INVALID_STATE', () => offloader.trace(() => undefined))
      await offloader.postInit()
      await failure('SPILLWAY_NOT_SUPPORTED', () => offloader.trace(() => undefined))
      await offloader.dispose()
      await compute.dispose()
    })
  })
})
