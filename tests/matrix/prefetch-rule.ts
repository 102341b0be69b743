import type { CheckpointLayers } from './checkpoint-layers.js'

export interface PrefetchChoice {
  readonly groupSize: number
  readonly numInGroup: number
  readonly prefetchStep: number
}

export interface PrefetchFigures {
  /** Indices of the layers that live on the host. */
  readonly offloadedLayers: readonly number[]
  readonly offloadedBytes: number
  readonly residentBytes: number
  readonly slotBytes: number
  /** Copied before the first forward: every slot's first layer. */
  readonly filledBytes: number
  /** Copied for each forward: every layer that shares its slot; one that has it for itself stays there. */
  readonly forwardBytes: number
}

/** What the rules of prefetch say about a model, written down a second time, from the checkpoint's sizes alone. */
export function prefetchFigures(
  { layerBytes, weightBytes }: CheckpointLayers,
  { groupSize, numInGroup, prefetchStep }: PrefetchChoice,
): PrefetchFigures {
  const offloadedLayers = [...layerBytes.keys()].filter((m) => m % groupSize >= groupSize - numInGroup)
  const slotCount = Math.min(prefetchStep, offloadedLayers.length)
  const occupants = Array.from({ length: slotCount }, (_, slot) =>
    offloadedLayers.filter((_, i) => i % slotCount === slot).map((m) => layerBytes[m]!),
  )
  const offloadedBytes = sum(offloadedLayers.map((m) => layerBytes[m]!))
  return {
    offloadedLayers,
    offloadedBytes,
    residentBytes: weightBytes - offloadedBytes,
    slotBytes: sum(occupants.map((bytes) => Math.max(...bytes))),
    filledBytes: sum(occupants.map(([first]) => first!)),
    forwardBytes: sum(occupants.filter(({ length }) => length > 1).flat()),
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
