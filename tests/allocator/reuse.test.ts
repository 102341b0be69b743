import { expect, test } from 'vitest'
import { probe } from './allocator-probe.js'
import { AllocatorRig, MiB } from './allocator-rig.js'
import { checkReuse } from './reuse-checker.js'

test('the same stream has a block again at once, another one when the work is done, and nobody waits', () => {
  const rig = new AllocatorRig()
  const first = rig.allocate(12 * MiB, { stream: 1 })
  rig.free(first)
  const other = rig.allocate(12 * MiB, { stream: 2 })
  expect(other.address).not.toBe(first.address)
  const same = rig.allocate(12 * MiB, { stream: 1 })
  expect(same.address).toBe(first.address)
  rig.free(same)
  expect(rig.completed(1)).toBe(0)
  rig.complete(1)
  expect(rig.allocate(12 * MiB, { stream: 2 }).address).toBe(first.address)
  expect(probe.sourceCalls(rig.handle)).toBe(2)
})

test('work that was left of an earlier owner still counts when a later one had none', () => {
  const rig = new AllocatorRig({ limitBytes: 4 * MiB })
  const first = rig.allocate(2 * MiB, { stream: 1 })
  rig.free(first, [1])
  const second = rig.allocate(2 * MiB, { stream: 1 })
  expect(second.address).toBe(first.address)
  rig.free(second, [])
  const third = rig.allocate(2 * MiB, { stream: 2 })
  expect(third.address).not.toBe(first.address)
  expect(rig.completed(1)).toBe(0)
  rig.free(third, [])
  rig.completeAll()
  rig.end()
  expect(checkReuse(rig.log)).toEqual([])
})

test('a block that two streams use is free for one of them when the other one’s work is done', () => {
  const rig = new AllocatorRig()
  const block = rig.allocate(12 * MiB, { stream: 1 })
  rig.free(block, [1, 2])
  expect(rig.allocate(12 * MiB, { stream: 1 }).address).not.toBe(block.address)
  rig.complete(2)
  expect(rig.allocate(12 * MiB, { stream: 1 }).address).toBe(block.address)
})

test('neighbours that wait for different work serve who may have both', () => {
  const rig = new AllocatorRig()
  const blocks = [1, 2, 3, 4].map(() => rig.allocate(5 * MiB, { stream: 1 }))
  rig.free(blocks[0]!)
  rig.complete(1)
  rig.free(blocks[1]!)
  rig.free(blocks[2]!, [2])
  rig.free(blocks[3]!)
  expect(rig.allocate(10 * MiB, { stream: 2 }).address, 'for stream 2 only 5 MiB are free').not.toBe(blocks[0]!.address)
  expect(rig.allocate(10 * MiB, { stream: 1 }).address).toBe(blocks[0]!.address)
})

test('what its own stream may have again lies together at once: the best fit is found among whole pieces', () => {
  const rig = new AllocatorRig()
  const blocks = [1, 2, 3, 4].map(() => rig.allocate(5 * MiB, { stream: 1 }))
  rig.free(rig.allocate(12 * MiB, { stream: 1 }))
  rig.free(blocks[0]!)
  rig.complete(1)
  expect(rig.releaseCached(), 'the first two are known to be done').toBe(12 * MiB)
  rig.free(rig.allocate(12 * MiB, { stream: 1 }))
  rig.free(blocks[1]!)
  expect(rig.allocate(10 * MiB, { stream: 1 }).address).toBe(blocks[0]!.address)
})

test('what waits for another stream lies apart, or work that is long done would wait for what is beside it', () => {
  for (const settings of [{}, { expandableSegments: true }]) {
    const rig = new AllocatorRig()
    const [first, second] = [1, 2].map(() => rig.allocate(10 * MiB, { stream: 1, settings }))
    rig.free(first!, [1, 2])
    rig.completeAll()
    rig.free(second!, [1, 2])
    rig.complete(1)
    expect(rig.allocate(10 * MiB, { stream: 1, settings }).address).toBe(first!.address)
  }
})

test('a block that waited for another stream is found by the next request, before a larger one is cut up', () => {
  const rig = new AllocatorRig()
  const large = rig.allocate(40 * MiB)
  const fits = rig.allocate(12 * MiB)
  rig.free(large)
  rig.free(fits, [1, 2])
  rig.completeAll()
  expect(rig.allocate(12 * MiB).address).toBe(fits.address)
})

test('segments that grow: each stream has its own, and the free parts of others’ before it grows', () => {
  const rig = new AllocatorRig()
  const settings = { expandableSegments: true }
  const weights = rig.allocate(40 * MiB, { stream: 1, settings })
  const kept = rig.allocate(40 * MiB, { stream: 1, settings })
  const scratch = rig.allocate(10 * MiB, { stream: 2, settings })
  expect(rig.snapshot().segments).toHaveLength(2)
  rig.free(scratch)
  rig.free(weights)
  rig.completeAll()
  const small = rig.allocate(8 * MiB, { stream: 2, settings })
  expect(small.address, 'its own').toBe(scratch.address)
  expect(rig.allocate(20 * MiB, { stream: 2, settings }).address, 'of the other one').toBe(weights.address)
  const { reservedBytes } = rig.statistics()
  expect(reservedBytes).toBe(90 * MiB)
  expect(rig.allocate(40 * MiB, { stream: 2, settings }).address).toBe(small.address + small.bytes)
  expect(kept.address).toBe(weights.address + weights.bytes)
})

test('the end of a segment that grows is left for what fits nowhere else', () => {
  const rig = new AllocatorRig()
  const settings = { expandableSegments: true }
  const hole = rig.allocate(40 * MiB, { settings })
  const kept = rig.allocate(2 * MiB, { settings })
  rig.free(rig.allocate(10 * MiB, { settings }))
  rig.free(hole)
  expect(rig.allocate(8 * MiB, { settings }).address).toBe(hole.address)
  expect(rig.allocate(50 * MiB, { settings }).address).toBe(kept.address + kept.bytes)
  expect(rig.statistics().reservedBytes).toBe(92 * MiB)
})

test('memory for no stream is memory that no work uses', () => {
  const rig = new AllocatorRig()
  const block = rig.allocate(12 * MiB, { stream: 1 })
  rig.free(block)
  const idle = rig.allocate(12 * MiB, { stream: 0 })
  expect(idle.address).not.toBe(block.address)
  rig.complete(1)
  expect(rig.allocate(12 * MiB, { stream: 0 }).address).toBe(block.address)
})

test('before it fails, an allocation waits for the work that holds what is free', () => {
  const rig = new AllocatorRig({ limitBytes: 16 * MiB })
  rig.free(rig.allocate(16 * MiB, { stream: 1 }))
  expect(rig.completed(1)).toBe(0)
  const block = rig.allocate(16 * MiB, { stream: 2 })
  expect(rig.completed(1)).toBe(1)
  rig.free(block, [])
  rig.end()
  expect(checkReuse(rig.log)).toEqual([])
})

test('small and large blocks lie in segments of their own, pools too', () => {
  const rig = new AllocatorRig()
  rig.allocate(1000)
  rig.allocate(3 * MiB)
  rig.allocate(1000, { pool: 'a' })
  rig.allocate(100 * MiB + 1)
  const segments = rig.snapshot().segments.map(({ bytes, pool, sizeClass }) => [bytes / MiB, pool, sizeClass])
  expect(segments).toEqual([
    [2, '', 'small'],
    [20, '', 'large'],
    [102, '', 'large'],
    [2, 'a', 'small'],
  ])
})

test('where the usual segment does not fit, one of just the block does', () => {
  const rig = new AllocatorRig({ limitBytes: 4 * MiB, granuleBytes: 4096 })
  rig.allocate(3 * MiB)
  rig.allocate(1000)
  expect(rig.snapshot().segments.map(({ bytes }) => bytes)).toEqual([4096, 3 * MiB])
})

test('requests are rounded up to steps between powers of two', () => {
  const rig = new AllocatorRig()
  const bytes = (requested: number, roundupPower2Divisions: number) =>
    rig.allocate(requested, { settings: { roundupPower2Divisions } }).bytes
  expect(bytes(1, 0)).toBe(512)
  expect(bytes(513, 4)).toBe(1024)
  expect(bytes(1200, 4)).toBe(1536)
  expect(bytes(5 * MiB, 4)).toBe(5 * MiB)
  expect(bytes(5 * MiB + 1, 4)).toBe(6 * MiB)
  expect(bytes(9 * MiB, 1)).toBe(9 * MiB)
  expect(() => bytes(2 ** 53 - 1, 4)).toThrow(expect.objectContaining({ code: 'SPILLWAY_OUT_OF_MEMORY' }))
})

test('above the garbage collection threshold what is free longest goes back before more is taken', () => {
  const settings = { garbageCollectionThreshold: 0.5 }
  const rig = new AllocatorRig({ limitBytes: 400 * MiB })
  const blocks = [50, 60, 70].map((size) => rig.allocate(size * MiB, { settings }))
  for (const block of blocks) rig.free(block)
  rig.completeAll()
  rig.allocate(80 * MiB, { settings })
  expect(rig.snapshot().segments.map(({ bytes }) => bytes / MiB)).toEqual([60, 70, 80].slice(1))
})

test('an expandable segment grows by what is missing and gives back its end', () => {
  const rig = new AllocatorRig({ limitBytes: 256 * MiB })
  const settings = { expandableSegments: true }
  const blocks = [30, 40, 50].map((size) => rig.allocate(size * MiB, { settings }))
  expect(rig.statistics().reservedBytes).toBe(120 * MiB)
  rig.free(blocks[2]!)
  rig.complete(1)
  rig.allocate(70 * MiB, { settings })
  expect(rig.statistics().reservedBytes, 'the 50 MiB and 20 more').toBe(140 * MiB)
  rig.free(blocks[1]!)
  rig.complete(1)
  expect(rig.releaseCached(), 'a hole stays').toBe(0)
  const small = rig.allocate(1000, { settings })
  expect(rig.snapshot().segments).toMatchObject([
    { bytes: 2 * MiB, expandable: true },
    { bytes: 140 * MiB, expandable: true },
  ])
  rig.free(small)
  rig.complete(1)
  expect(rig.releaseCached()).toBe(2 * MiB)
})
