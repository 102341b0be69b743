import { describe, expect, test } from 'vitest'
import type { ReplayableTrace } from '../../bench/lib/memory-trace.js'
import { memoryTraces } from '../../bench/lib/memory-traces.mjs'
import { rounds } from '../nightly.js'
import type { NativeSettings } from './allocator-probe.js'
import { AllocatorRig, type Block, MiB } from './allocator-rig.js'
import { checkReuse } from './reuse-checker.js'

const ways: Readonly<Record<string, NativeSettings>> = {
  default: {},
  expandable: { expandableSegments: true },
}
/** Peak reserved ÷ peak requested, by default and in expandable segments: at most. */
const bounds: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  random: { default: 1.3, expandable: 1.21 },
  'random, two streams': { default: 1.4, expandable: 1.4 },
  decoder: { default: 1.04, expandable: 1.01 },
  'decoder, image encoder on another stream': { default: 1.13, expandable: 1.1 },
  'decoder, weights from another stream': { default: 1.3, expandable: 1.3 },
  'load, 8B quantized': { default: 1.03, expandable: 1.03 },
  'load, experts repacked': { default: 1.06, expandable: 1.06 },
}

interface Replayed {
  readonly ratio: number
  readonly segmentsCreated: number
}

/** `lag`: how many of a stream's blocks its work is behind, until the program waits. */
function replay(trace: ReplayableTrace, way: NativeSettings, lag: number): Replayed {
  const rig = new AllocatorRig()
  const settings = trace.load ? { ...way, maxSplitBytes: 20 * MiB } : way
  const live = new Map<number, { readonly block: Block; readonly users: Set<number> }>()
  for (const one of trace.operations) {
    if (one.operation === 'allocate') {
      const { id, bytes, tag, stream } = one
      live.set(id, { block: rig.allocate(bytes, { settings, tag, stream }), users: new Set([stream]) })
    } else if (one.operation === 'use') live.get(one.id)!.users.add(one.stream)
    else if (one.operation === 'free') {
      const { block, users } = live.get(one.id)!
      live.delete(one.id)
      rig.free(block, [...users])
      for (const stream of users) rig.complete(stream, Math.max(rig.completed(stream), rig.enqueued(stream) - lag))
    } else rig.completeAll()
  }
  const { peakReservedBytes, peakRequestedBytes, segmentsCreated } = rig.statistics()
  expect(peakRequestedBytes).toBe(trace.peakRequestedBytes)
  for (const { block, users } of live.values()) rig.free(block, [...users])
  rig.completeAll()
  rig.end()
  if (rig.log.length < 20_000) expect(checkReuse(rig.log)).toEqual([])
  return { ratio: peakReservedBytes / peakRequestedBytes, segmentsCreated }
}

describe.each(memoryTraces({ scale: 1, length: rounds(0.2, 1) }))('$name', (trace) => {
  test.each(Object.entries(ways))('%s', (way, settings) => {
    for (const lag of [0, 20]) {
      const { ratio, segmentsCreated } = replay(trace, settings, lag)
      console.log(`${trace.name}, ${way}, ${lag} behind: ${ratio.toFixed(3)} x requested, ${segmentsCreated} segments`)
      expect(ratio).toBeLessThanOrEqual(bounds[trace.name]![way]!)
    }
  })
})
