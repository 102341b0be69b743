// What a trace and the statistics must say of a replayed decode graph, on every device.
import { fileURLToPath } from 'node:url'
import { configure, type TraceEvent, timesOf } from '@spillway/core'
import { loadModel } from '@spillway/decoder'
import type { NativeDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { expect, vi } from 'vitest'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))

/** `bytesPerSecond`: nothing crosses the device's link faster. Leaves nothing on the device. */
export async function expectReplaysTimed(device: NativeDevice, bytesPerSecond: number): Promise<void> {
  const offload = configure(prefetch, { groupSize: 1, prefetchStep: 1 })
  const model = await loadModel(directory, { device, contextLength: 32, maxRows: 4, pin: 'on', offload })
  try {
    const generation = model.generate([0, 5, 6, 7, 8], { temperature: 0, maxTokens: 12 })
    const replays = (): number => device.counters().graphLaunches
    while (replays() < 2) await generation.next()
    const modules = model.explain().modules.map(({ module }) => module)
    for (let token = 0; token < 4; token++) {
      const before = replays()
      const { result, events } = await model.trace(() => generation.next())
      expect(result.done).toBe(false)
      expect(replays()).toBe(before + 1)
      const of = (lane: TraceEvent['lane']): readonly TraceEvent[] => events.filter((event) => event.lane === lane)
      const offloaded = model.stats().onloads!.modules
      expect(offloaded.map(({ module }) => module)).toEqual([0, 1, 2].map((i) => `model.layers.${i}`))
      expect(new Set(of('compute').map(({ module }) => module))).toEqual(new Set(modules))
      expect(of('compute')).toHaveLength(modules.length)
      // Three layers through one slot: each replay copies each of them, the first for the next replay.
      expect(of('copy').map(({ module, bytes }) => [module, bytes])).toEqual(
        [1, 2, 0].map((i) => [`model.layers.${i}`, offloaded[i]!.bytes]),
      )
      const traced = new Map(timesOf(events).modules.map((times) => [times.module, times]))
      for (const { module, bytes, linkMs, waitMs, hiddenFraction } of offloaded) {
        expect(linkMs, module).toBeGreaterThan(0)
        expect(linkMs, module).toBeGreaterThanOrEqual((bytes / bytesPerSecond) * 1000 - 0.001)
        expect(traced.get(module)!.linkMs, module).toBeCloseTo(linkMs!, 2)
        expect(traced.get(module)!.waitMs, module).toBeCloseTo(waitMs!, 2)
        expect(hiddenFraction, module).toBe(Math.max(0, 1 - waitMs! / linkMs!))
      }
    }
  } finally {
    await model.dispose()
  }
  const left = (): unknown => Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
  await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000, interval: 2 })
  expect(device.budget.usedBytes).toBe(0)
}
