// A real engine under a shrinking limit: auto and prefetch offload what does not fit, and the text stays the same.
import { fileURLToPath } from 'node:url'
import { type ConfiguredBackend, configure, createAutoBackend } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, openDevice } from '@spillway/device'
import prefetch, { prefetchOptions } from '@spillway/prefetch'
import { expect, test } from 'vitest'
import { type Decoded, decode } from '../../packages/decoder/test/decoded-logits.js'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const prompt = [0, 5, 6, 7, 8]
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)

async function withModel<T>(
  memoryLimitBytes: number,
  offload: ConfiguredBackend | undefined,
  use: (model: Model, device: NativeDevice) => Promise<T>,
): Promise<T> {
  await using device = await openDevice('host', { memoryLimitBytes, check: true })
  await using model = await loadModel(directory, { device, contextLength: 64, ...(offload && { offload }) })
  return await use(model, device)
}

const rates = { linkBytesPerSecond: 1e9, computeMs: () => 0.1 }
/** Caches, workspace and what the engine keeps besides are not planned in whole pages. */
const roundingBytes = 8 * 4096
const run = (model: Model): Promise<Decoded> => decode(model, prompt, { maxTokens: 6 })
const auto = (): ConfiguredBackend =>
  configure(createAutoBackend({ loadPrefetch: async () => prefetch, options: prefetchOptions }))

test('down to the smallest device that holds it at all, and not below', async () => {
  const [expected, peakBytes] = await withModel(2 ** 26, undefined, async (model, device) => {
    const decoded = await run(model)
    return [decoded, device.budget.peakBytes] as const
  })
  const offloaded = new Set<number>()
  let refused = false
  for (let limit = peakBytes + layerBytes; limit > layerBytes; limit -= Math.floor(layerBytes / 3)) {
    try {
      await withModel(limit, auto(), async (model, device) => {
        expect(await run(model)).toEqual(expected)
        const { offloadedBytes, slotBytes } = model.stats()
        expect(offloadedBytes % layerBytes).toBe(0)
        expect(model.names).toEqual([offloadedBytes === 0 ? 'auto (none)' : 'auto (prefetch)'])
        expect(device.counters().pinnedBytes).toBeGreaterThanOrEqual(offloadedBytes)
        expect(device.budget.peakBytes).toBeLessThanOrEqual(limit)
        const { memory, predictedStepMs, measuredPeakDeviceBytes } = model.explain({ rates })
        expect(memory.hostBytes).toBe(offloadedBytes)
        expect(measuredPeakDeviceBytes).toBe(device.budget.peakBytes)
        // What was planned was taken, but for pages that are not full and what loading did not need.
        expect(memory.deviceBytes).toBeLessThanOrEqual(limit)
        expect(device.budget.peakBytes).toBeLessThanOrEqual(memory.deviceBytes + roundingBytes)
        expect(device.budget.peakBytes).toBeGreaterThan(0.98 * (memory.deviceBytes - memory.postLoadBytes))
        expect(predictedStepMs).toBeGreaterThan(0)
        if (offloadedBytes > 2 * slotBytes) {
          expect(device.counters().hostToDeviceBytesByTag.weights).toBeGreaterThan(offloadedBytes)
        }
        offloaded.add(offloadedBytes / layerBytes)
      })
    } catch (error) {
      expect(error).toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY', details: { requestedBytes: expect.any(Number) } })
      // It was seen before anything was taken.
      expect(String(error)).toContain('however much is offloaded')
      refused = true
    }
    if (refused) await expect(withModel(limit, auto(), run)).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
  }
  expect(refused).toBe(true)
  // Of three layers, one or two on the host save nothing: their slots take as much.
  expect([...offloaded].sort()).toEqual([0, 3])
})
