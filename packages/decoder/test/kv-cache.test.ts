import { extentBytes, type MemorySource, type Recovery } from '@spillway/core'
import { expect, test } from 'vitest'
import { readConfig } from '../src/config.js'
import { KvCache, KvCachePlan } from '../src/kv-cache.js'
import { fixture } from './fixtures.js'
import { withDevice } from './with-device.js'

async function withCache(use: (cache: KvCache, plan: KvCachePlan, lose: () => void) => void): Promise<void> {
  const plan = new KvCachePlan(await readConfig(fixture('llama-f32')), 10, 'f16')
  await withDevice(async (device) => {
    const stream = device.createStream()
    let recovery: Recovery | undefined
    const source: MemorySource = {
      tag: 'kv_cache',
      allocate(bytes, options) {
        recovery = options.recovery
        return device.allocate(bytes, { tag: 'kv_cache', stream })
      },
    }
    const cache = new KvCache(plan, source, stream)
    use(cache, plan, () => recovery?.kind === 'rebuild' && recovery.rebuild(stream))
    await cache[Symbol.asyncDispose]()
    await stream.dispose()
  })
}

test('keys and values of every layer lie in one buffer and share no byte', async () => {
  await withCache((cache, plan) => {
    const views = [0, 1, 2].flatMap((layer) => [cache.keys(layer), cache.values(layer)])
    expect(views.map(({ dtype, shape }) => `${dtype} ${shape}`)).toEqual(Array(6).fill('f16 10,2,16'))
    expect(new Set(views.map(({ buffer }) => buffer))).toEqual(new Set([cache.buffer]))
    const offsets = views.map(({ offset }) => offset)
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b))
    for (const [i, view] of views.entries()) {
      expect(view.offset % 256).toBe(0)
      expect(view.offset + extentBytes(view)).toBeLessThanOrEqual(offsets[i + 1] ?? plan.bytes)
    }
  })
})

test('what was written while the cache was lost does not count', async () => {
  await withCache((cache, _, lose) => {
    cache.commit(4, cache.epoch)
    expect(cache.length).toBe(4)
    const { epoch } = cache
    lose()
    expect(cache.length).toBe(0)
    // The forward that was under way ends now.
    cache.commit(5, epoch)
    expect(cache.length).toBe(0)
    cache.commit(5, cache.epoch)
    expect(cache.length).toBe(5)
  })
})
