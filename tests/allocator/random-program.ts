import { isSpillwayError } from '@spillway/core'
import type { Random } from '../order/random.js'
import type { NativeSettings } from './allocator-probe.js'
import { type AllocatorRig, type Block, MiB } from './allocator-rig.js'

const settingsOf = (random: Random): NativeSettings => ({
  ...(random.chance(30) ? { maxSplitBytes: random.from(20, 64) * MiB } : {}),
  expandableSegments: random.chance(30),
  garbageCollectionThreshold: random.pick([0, 0, 0.5, 0.9]),
  roundupPower2Divisions: random.pick([0, 0, 1, 4, 8]),
})

function sizeOf(random: Random): number {
  const kind = random.below(10)
  if (kind === 0) return random.below(3)
  if (kind < 5) return random.from(1, MiB)
  if (kind < 8) return random.from(MiB, 12 * MiB)
  return random.from(12 * MiB, 80 * MiB)
}

export interface ProgramOptions {
  readonly operations: number
  /** One set for the whole program, as a process has; else every allocation draws its own. */
  readonly settings?: NativeSettings
}

/**
 * Allocates, uses and frees on several streams, whose work is done late and not at all before somebody waits. Ends with
 * everything free and done. Returns how many allocations found no memory.
 */
export function runRandomProgram(rig: AllocatorRig, random: Random, { operations, settings }: ProgramOptions): number {
  const streams = [1, 2, 3]
  const live: Block[] = []
  let refused = 0
  const freeOne = (index: number): void => {
    const [block] = live.splice(index, 1)
    rig.free(
      block!,
      streams.filter((stream) => (stream === block!.stream ? random.chance(80) : random.chance(25))),
    )
  }
  const allocate = (): void => {
    const request = {
      stream: random.chance(10) ? 0 : random.pick(streams),
      tag: random.pick(['weights', 'kv_cache', 'workspace']),
      pool: random.chance(20) ? 'pool' : '',
      settings: settings ?? settingsOf(random),
    }
    try {
      live.push(rig.allocate(sizeOf(random), request))
    } catch (error) {
      if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY') && !isSpillwayError(error, 'SPILLWAY_DEVICE_LOST'))
        throw error
      refused++
    }
  }
  for (let i = 0; i < operations; i++) {
    const what = random.below(100)
    if (what < 48) allocate()
    else if (what < 85) live.length > 0 && freeOne(random.below(live.length))
    else if (what < 95) {
      const stream = random.pick(streams)
      rig.complete(stream, random.from(rig.completed(stream), rig.enqueued(stream)))
    } else if (what < 98) rig.releaseCached(random.pick([undefined, '', 'pool', 'unknown']))
    else while (live.length > 0) freeOne(live.length - 1)
  }
  while (live.length > 0) freeOne(live.length - 1)
  rig.completeAll()
  return refused
}
