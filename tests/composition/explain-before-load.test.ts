// What a user can see of a model before its bytes are read.
import { fileURLToPath } from 'node:url'
import { configure, none } from '@spillway/core'
import { loadModel } from '@spillway/decoder'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { expect, test } from 'vitest'

const directory = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const layers = 3
const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const offload = configure(prefetch, { groupSize: 1, prefetchStep: 2 })

test('a model is explained before its bytes are read, and need not be loaded after that', async () => {
  await using device = await openDevice('host', { check: true })
  const stop = new AbortController()
  const stopped = loadModel(directory, {
    device,
    contextLength: 64,
    offload,
    signal: stop.signal,
    onProgress: ({ phase }) => expect(phase).toBe('plan'),
    onPlaced(placement) {
      const { modules, memory } = placement.explain()
      expect(modules.filter(({ hostBytes }) => hostBytes > 0)).toHaveLength(layers)
      expect(memory.hostBytes).toBe(layers * layerBytes)
      expect(device.counters().pinnedBytes).toBeGreaterThanOrEqual(layers * layerBytes)
      expect(device.counters().hostToDeviceBytesByTag.weights ?? 0).toBe(0)
      stop.abort()
    },
  })
  await expect(stopped).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
  const refusal = new Error('no')
  const refused = loadModel(directory, {
    device,
    offload: configure(none),
    onPlaced() {
      throw refusal
    },
  })
  await expect(refused).rejects.toBe(refusal)
  const { pinnedBytes, liveHandles } = device.counters()
  expect([device.budget.usedBytes, pinnedBytes]).toEqual([0, 0])
  expect(liveHandles.stream).toBe(0)
})
