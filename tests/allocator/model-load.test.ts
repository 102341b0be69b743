import { describe, expect, test } from 'vitest'
import { Random } from '../order/random.js'
import type { NativeSettings } from './allocator-probe.js'
import { AllocatorRig, type Block, MiB, type RigOptions } from './allocator-rig.js'
import { checkReuse } from './reuse-checker.js'

const whole: NativeSettings = { maxSplitBytes: 20 * MiB }
const layers = 40

/** Weights as stored are freed, and what they are repacked into is taken: layer after layer. */
function loadAndRepack(rig: AllocatorRig, settings: NativeSettings, pool = '', done = true): Block[] {
  const weights: Block[] = []
  for (let layer = 0; layer < layers; layer++) {
    const stored = rig.allocate(530 * MiB, { settings, pool })
    rig.free(stored)
    if (done) rig.completeAll()
    weights.push(rig.allocate(270 * MiB, { settings, pool, tag: 'weights' }))
  }
  return weights
}
const neededBytes = (530 + layers * 270) * MiB

function end(rig: AllocatorRig, live: readonly Block[]): void {
  for (const block of live) rig.free(block)
  rig.completeAll()
  rig.end()
  expect(checkReuse(rig.log)).toEqual([])
}

// Work that is done at once, and work that is all still pending when the next block is asked for.
describe.each([true, false])('work done at once: %s', (done) => {
  test.each<[string, NativeSettings, RigOptions]>([
    ['segments', whole, {}],
    ['expandable segments', { ...whole, expandableSegments: true }, {}],
  ])('a loader that repacks 530 MiB into 270 MiB fits with whole blocks: %s', (_, settings, options) => {
    const rig = new AllocatorRig({ ...options, limitBytes: neededBytes })
    const weights = loadAndRepack(rig, settings, '', done)
    expect(rig.statistics().peakReservedBytes).toBeLessThanOrEqual(neededBytes)
    end(rig, weights)
  })

  test('a loader that frees and takes 4 to 16 MiB of scratch stays near what is live', () => {
    const rig = new AllocatorRig()
    const random = new Random(1)
    for (let i = 0; i < 1000; i++) {
      const scratch = rig.allocate(random.from(4, 16) * MiB, { settings: whole })
      rig.free(scratch)
      if (done) rig.completeAll()
    }
    const { peakReservedBytes, peakLiveBytes } = rig.statistics()
    expect(peakReservedBytes / peakLiveBytes).toBeLessThanOrEqual(1.5)
    end(rig, [])
  })

  test('a load inside of a pool takes as much as outside, and what is cached goes back while the pool is in use', () => {
    const outside = new AllocatorRig()
    const inside = new AllocatorRig()
    const live = loadAndRepack(outside, whole, '', done)
    const pooled = loadAndRepack(inside, whole, 'weights', done)
    const peak = inside.statistics().peakReservedBytes
    expect(peak / outside.statistics().peakReservedBytes).toBeLessThanOrEqual(1.05)
    inside.completeAll()
    const { reservedBytes, liveBytes } = inside.statistics().pools.weights!
    // What one layer freed, unless it was in the way of the next.
    expect(reservedBytes - liveBytes).toBeLessThanOrEqual(530 * MiB)
    expect(inside.releaseCached('weights')).toBe(reservedBytes - liveBytes)
    expect(inside.statistics().pools.weights).toMatchObject({ reservedBytes: liveBytes })
    end(outside, live)
    end(inside, pooled)
  })
})

test('without whole blocks the same load does not fit', () => {
  const rig = new AllocatorRig({ limitBytes: neededBytes, mapGranuleBytes: 0 })
  expect(() => loadAndRepack(rig, {})).toThrow(expect.objectContaining({ code: 'SPILLWAY_OUT_OF_MEMORY' }))
  const roomy = new AllocatorRig()
  const weights = loadAndRepack(roomy, {})
  console.log(`reserved without whole blocks: ${(roomy.statistics().peakReservedBytes / neededBytes).toFixed(2)} x`)
  end(roomy, weights)
})

test('512 MiB that are free go back although 2 MiB were taken since', () => {
  const rig = new AllocatorRig()
  const large = rig.allocate(512 * MiB, { settings: whole })
  rig.free(large)
  const small = rig.allocate(2 * MiB, { settings: whole })
  expect(rig.releaseCached(), 'the work with it is not done').toBe(0)
  rig.completeAll()
  expect(rig.releaseCached()).toBe(512 * MiB)
  end(rig, [small])
})

test('what is to be kept whole is no part of a segment that grows; what is not is', () => {
  const rig = new AllocatorRig()
  const settings = { ...whole, expandableSegments: true }
  for (const [bytes, expandable] of [
    [21 * MiB, false],
    [20 * MiB, true],
  ] as const) {
    const { address } = rig.allocate(bytes, { settings })
    expect(rig.snapshot().segments.find((segment) => segment.address === address)).toMatchObject({ expandable })
  }
})

test('a block kept whole serves who needs nearly all of it, and anybody before memory runs out', () => {
  const rig = new AllocatorRig({ limitBytes: 640 * MiB })
  const large = rig.allocate(512 * MiB, { settings: whole })
  const neighbour = rig.allocate(100 * MiB, { settings: whole })
  rig.free(large)
  const nearly = rig.allocate(500 * MiB, { settings: whole })
  expect(nearly).toMatchObject({ address: large.address, bytes: large.bytes })
  rig.free(nearly)
  // Its work is not done, so it cannot go back either; the same stream can have a part of it.
  const part = rig.allocate(64 * MiB, { settings: whole })
  expect(part).toMatchObject({ address: large.address, bytes: 64 * MiB })
  end(rig, [neighbour, part])
})
