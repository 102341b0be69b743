import { describe, expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { Random } from '../order/random.js'
import type { NativeSettings } from './allocator-probe.js'
import { AllocatorRig, type Block, MiB } from './allocator-rig.js'
import { decoderTrace, modelLoadTrace, type ReplayableTrace, randomTrace } from './replayable-traces.js'
import { checkReuse } from './reuse-checker.js'

const traces: Readonly<Record<string, (random: Random) => ReplayableTrace>> = {
  random: (random) => randomTrace(random, rounds(3000, 30_000)),
  decoder: (random) => decoderTrace(random, rounds(4, 40)),
  'model load': (random) => modelLoadTrace(random, rounds(12, 48)),
}
const ways: Readonly<Record<string, NativeSettings>> = {
  default: {},
  'whole blocks': { maxSplitBytes: 20 * MiB },
  expandable: { expandableSegments: true },
  'whole blocks, expandable': { maxSplitBytes: 20 * MiB, expandableSegments: true },
}
/** Peak reserved ÷ peak requested: at most. */
const bounds: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  random: { default: 1.3, 'whole blocks': 1.4, expandable: 1.2, 'whole blocks, expandable': 1.2 },
  decoder: { default: 1.02, 'whole blocks': 1.14, expandable: 1.01, 'whole blocks, expandable': 1.01 },
  'model load': { default: 1.26, 'whole blocks': 1.17, expandable: 1.06, 'whole blocks, expandable': 1.06 },
}

interface Replayed {
  readonly ratio: number
  readonly segmentsCreated: number
}

/** `lag`: how many blocks the stream's work is behind. */
function replay(trace: ReplayableTrace, settings: NativeSettings, lag: number): Replayed {
  const rig = new AllocatorRig()
  const live = new Map<number, Block>()
  for (const one of trace) {
    if (one.operation === 'allocate') live.set(one.id, rig.allocate(one.bytes, { settings, tag: one.tag }))
    else {
      rig.free(live.get(one.id)!)
      live.delete(one.id)
      rig.complete(1, Math.max(rig.completed(1), rig.enqueued(1) - lag))
    }
  }
  const { peakReservedBytes, peakRequestedBytes, segmentsCreated } = rig.statistics()
  for (const block of live.values()) rig.free(block)
  rig.completeAll()
  rig.end()
  if (trace.length < 10_000) expect(checkReuse(rig.log)).toEqual([])
  return { ratio: peakReservedBytes / peakRequestedBytes, segmentsCreated }
}

describe.each(Object.entries(traces))('%s', (name, make) => {
  test.each(Object.entries(ways))('%s', (way, settings) => {
    const trace = make(new Random(1))
    for (const lag of [0, 100]) {
      const { ratio, segmentsCreated } = replay(trace, settings, lag)
      console.log(`${name}, ${way}, work ${lag} behind: ${ratio.toFixed(3)} x requested, ${segmentsCreated} segments`)
      expect(ratio).toBeLessThanOrEqual(bounds[name]![way]!)
    }
  })
})
