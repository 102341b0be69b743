import type { MemorySnapshot } from '@spillway/device'
import { expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { Random } from '../order/random.js'
import { probe } from './allocator-probe.js'
import { AllocatorRig, MiB, type RigOptions } from './allocator-rig.js'
import { runRandomProgram } from './random-program.js'
import { checkReuse } from './reuse-checker.js'

const rigs: readonly RigOptions[] = [
  {},
  { limitBytes: 256 * MiB },
  { limitBytes: 300 * MiB + 12345, granuleBytes: 4096 },
  { limitBytes: 200 * MiB, mapGranuleBytes: 0 },
  { limitBytes: 64 * MiB, mapGranuleBytes: 64 * 1024 },
]

/** What a snapshot says must agree with itself and with the source. */
function checkSnapshot({ stats, segments }: MemorySnapshot, usedBytes: number): void {
  let reserved = 0
  let live = 0
  const tags: Record<string, number> = {}
  for (const segment of segments) {
    reserved += segment.bytes
    let next = segment.address
    for (const block of segment.blocks) {
      expect(block.address).toBe(next)
      next += block.bytes
      if (block.state !== 'live') continue
      live += block.bytes
      tags[block.tag!] = (tags[block.tag!] ?? 0) + block.bytes
    }
    expect(next).toBe(segment.address + segment.bytes)
    if (segment.pool !== '') expect(segment.expandable).toBe(false)
  }
  expect(stats).toMatchObject({ reservedBytes: reserved, liveBytes: live })
  expect(reserved).toBe(usedBytes)
  expect(stats.liveBytesByTag).toEqual(tags)
  const pools = Object.values(stats.pools)
  expect(pools.reduce((sum, pool) => sum + pool.reservedBytes, 0)).toBe(reserved)
  expect(pools.reduce((sum, pool) => sum + pool.liveBytes, 0)).toBe(live)
}

test('random programs of several streams: every block is its owner’s alone, and all memory is given back', () => {
  let refused = 0
  for (let seed = 0; seed < rounds(200, 5000); seed++) {
    const rig = new AllocatorRig(rigs[seed % rigs.length])
    refused += runRandomProgram(rig, new Random(seed), { operations: 300 })
    checkSnapshot(rig.snapshot(), probe.sourceUsedBytes(rig.handle))
    expect(rig.statistics().liveBytes).toBe(0)
    rig.releaseCached()
    // Nothing is live and all work is done: there is nothing that could stay.
    expect(probe.sourceUsedBytes(rig.handle), `seed ${seed}`).toBe(0)
    rig.end()
    expect(checkReuse(rig.log), `seed ${seed}`).toEqual([])
  }
  expect(refused).toBeGreaterThan(0)
})

test('snapshots agree with themselves and with the source at any time', () => {
  for (let seed = 0; seed < rounds(10, 500); seed++) {
    const rig = new AllocatorRig(rigs[seed % rigs.length])
    const random = new Random(1e6 + seed)
    const live = []
    for (let i = 0; i < 100; i++) {
      if (random.chance(60)) {
        try {
          live.push(rig.allocate(random.below(20 * MiB), { stream: random.from(1, 2), pool: random.pick(['', 'p']) }))
        } catch {
          expect(rig.statistics().outOfMemory).toBeGreaterThan(0)
        }
      } else if (live.length > 0) rig.free(live.splice(random.below(live.length), 1)[0]!)
      checkSnapshot(rig.snapshot(), probe.sourceUsedBytes(rig.handle))
    }
  }
})

test('out of memory is the last thing that happens: nothing that could be given back is left, no work is pending', () => {
  let met = 0
  for (let seed = 0; seed < rounds(20, 500); seed++) {
    const random = new Random(2e6 + seed)
    const rig = new AllocatorRig({ limitBytes: 128 * MiB, ...(random.chance(50) ? { mapGranuleBytes: 0 } : {}) })
    const live = []
    for (let i = 0; i < 200; i++) {
      const bytes = random.from(1, 24 * MiB)
      try {
        live.push(rig.allocate(bytes, { stream: random.from(1, 3), settings: { maxSplitBytes: 20 * MiB } }))
      } catch (error) {
        met++
        expect(error).toMatchObject({
          code: 'SPILLWAY_OUT_OF_MEMORY',
          details: { requestedBytes: Math.ceil(bytes / 512) * 512 },
        })
        const { segments } = rig.snapshot()
        const free = segments.flatMap(({ blocks }) => blocks).filter(({ state }) => state !== 'live')
        expect(free.every(({ state }) => state === 'idle')).toBe(true)
        expect(rig.releaseCached()).toBe(0)
        rig.free(live.splice(random.below(live.length), 1)[0]!, [1, 2])
      }
    }
    for (const block of live) rig.free(block)
    rig.completeAll()
    rig.end()
    expect(checkReuse(rig.log)).toEqual([])
  }
  expect(met).toBeGreaterThan(20)
})

test('whichever call of the source fails, and however, nothing is lost', () => {
  for (const lost of [false, true]) {
    for (let call = 1; call <= rounds(40, 200); call++) {
      const rig = new AllocatorRig({ limitBytes: 512 * MiB })
      probe.failAt(rig.handle, call, lost)
      const refused = runRandomProgram(rig, new Random(7), { operations: 150 })
      // One refusal as out of memory is made good by giving back what is cached, or by a smaller segment.
      if (lost && probe.sourceCalls(rig.handle) >= call) expect(refused).toBeGreaterThan(0)
      checkSnapshot(rig.snapshot(), probe.sourceUsedBytes(rig.handle))
      rig.end()
      expect(checkReuse(rig.log)).toEqual([])
    }
  }
})

test('several threads at one allocator', () => {
  for (let seed = 0; seed < rounds(2, 50); seed++) {
    const rig = new AllocatorRig({ limitBytes: seed % 2 === 0 ? 2 ** 34 : 96 * MiB })
    expect(probe.hammer(rig.handle, 4, 2000, seed)).toBe(0)
    expect(rig.statistics().liveBytes).toBe(0)
    rig.releaseCached()
    expect(probe.sourceUsedBytes(rig.handle)).toBe(0)
  }
})
