import type { MemoryTrace } from '@spillway/device'
import { type NativeSettings, probe } from '../allocator/allocator-probe.js'
import { AllocatorRig, type Block, MiB, type RigOptions } from '../allocator/allocator-rig.js'
import type { ReplayableTrace } from './one-stream-traces.js'

/** What the device's own allocator did in a rig, as a device tells it. */
export function memoryTraceOf(rig: AllocatorRig, limitBytes: number): MemoryTrace {
  const { events, snapshot } = probe.trace(rig.handle)
  return {
    format: 'spillway-memory-trace',
    version: 1,
    device: 'test device',
    limitBytes,
    lostEvents: events[0]?.number ?? 0,
    events,
    snapshot,
  }
}

export interface RecordOptions extends RigOptions {
  readonly settings?: NativeSettings
  readonly pool?: string
  /** Events kept; default all. */
  readonly events?: number
  /** How many blocks the stream's work is behind; default 4. */
  readonly lag?: number
  readonly onStep?: (rig: AllocatorRig) => void
}

/** How many events there were, if it was traced from the start. */
export function eventCount(rig: AllocatorRig): number {
  const { allocations, frees, segmentsCreated, segmentsDestroyed, outOfMemory } = rig.statistics()
  return allocations + frees + segmentsCreated + segmentsDestroyed + outOfMemory
}

/** Replays `trace`, as long as there is memory, with tracing on. */
export function record(trace: ReplayableTrace, options: RecordOptions = {}): MemoryTrace {
  const { settings = {}, pool = '', events = 1e6, lag = 4, limitBytes = 2 ** 40, onStep } = options
  const rig = new AllocatorRig(options)
  probe.startTrace(rig.handle, events)
  const live = new Map<number, Block>()
  try {
    for (const one of trace) {
      if (one.operation === 'allocate') {
        live.set(one.id, rig.allocate(one.bytes, { settings, tag: one.tag, pool: one.bytes < MiB ? '' : pool }))
      } else {
        rig.free(live.get(one.id)!)
        live.delete(one.id)
        rig.complete(1, Math.max(rig.completed(1), rig.enqueued(1) - lag))
      }
      onStep?.(rig)
    }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'SPILLWAY_OUT_OF_MEMORY') throw error
  }
  return memoryTraceOf(rig, limitBytes)
}
