import {
  type ConfiguredBackend,
  configure,
  createAutoBackend,
  none,
  type OffloadBackend,
  type PinSetting,
} from '@spillway/core'
import type { ModelPlan } from '@spillway/decoder'
import prefetch, { prefetchOptions } from '@spillway/prefetch'
import { hostSlots } from '../composition/host-slots.js'
import type { CheckpointLayers } from './checkpoint-layers.js'
import { type PrefetchChoice, prefetchFigures } from './prefetch-rule.js'

/** What a backend's rules say about a checkpoint, all in bytes and worked out apart from the backend. */
export interface PlacementFigures {
  /** Names of the modules that live on the host. */
  readonly hostModules: readonly string[]
  readonly offloadedBytes: number
  readonly residentBytes: number
  readonly slotBytes: number
  /** Copied into slots before the first forward. */
  readonly filledBytes: number
  /** Copied into slots for each forward that computes logits. */
  readonly forwardBytes: number
  /** Copied into slots when they come back after a sleep, and how much of that its statistics count as onloaded. */
  readonly rebuiltBytes: number
  readonly rebuiltOnloadedBytes: number
}

export interface PlacementRow {
  readonly name: string
  /** What the model says it runs with. */
  readonly shownName: string
  readonly offload: () => ConfiguredBackend
  readonly figures: (checkpoint: CheckpointLayers) => PlacementFigures
  readonly pin: PinSetting
  /** Default: more than anybody needs. */
  readonly memoryLimitBytes?: (plan: ModelPlan) => number
}

const smallest: PrefetchChoice = { groupSize: 1, numInGroup: 1, prefetchStep: 1 }

/** Every placement backend. A new one is a row here; the matrix does the rest. */
export const placements: readonly PlacementRow[] = [
  { name: 'none', shownName: 'none', offload: () => configure(none), figures: residentFigures, pin: 'on' },
  prefetchRow(smallest),
  prefetchRow({ groupSize: 1, numInGroup: 1, prefetchStep: 2 }, 'off'),
  prefetchRow({ groupSize: 2, numInGroup: 1, prefetchStep: 1 }),
  prefetchRow({ groupSize: 3, numInGroup: 2, prefetchStep: 8 }),
  hostSlotsRow(0),
  hostSlotsRow(2, 'off'),
  { name: 'auto, with room', shownName: 'auto (none)', offload: auto, figures: residentFigures, pin: 'on' },
  {
    name: 'auto, without room',
    shownName: 'auto (prefetch)',
    offload: auto,
    figures: (checkpoint) => ringFigures(checkpoint, smallest),
    pin: 'on',
    memoryLimitBytes: ({ weightBytes, kvCacheBytes, workspaceBytes }) =>
      Math.floor(weightBytes * 0.75) + kvCacheBytes + workspaceBytes,
  },
]

function auto(): ConfiguredBackend {
  const loadPrefetch = async (): Promise<OffloadBackend<never>> => prefetch as OffloadBackend<never>
  return configure(createAutoBackend({ loadPrefetch, options: prefetchOptions }), { ...smallest })
}

function prefetchRow(choice: PrefetchChoice, pin: PinSetting = 'on'): PlacementRow {
  const { groupSize, numInGroup, prefetchStep } = choice
  return {
    name: `prefetch ${groupSize}/${numInGroup}/${prefetchStep}, pin ${pin}`,
    shownName: 'prefetch',
    offload: () => configure(prefetch, { ...choice }),
    figures: (checkpoint) => ringFigures(checkpoint, choice),
    pin,
  }
}

function hostSlotsRow(resident: number, pin: PinSetting = 'on'): PlacementRow {
  return {
    name: `host-slots, ${resident} resident, pin ${pin}`,
    shownName: 'host-slots',
    offload: () => configure(hostSlots, { resident }),
    figures: (checkpoint) => slottedFigures(checkpoint, resident),
    pin,
  }
}

function residentFigures({ weightBytes }: CheckpointLayers): PlacementFigures {
  const copied = { slotBytes: 0, filledBytes: 0, forwardBytes: 0, rebuiltBytes: 0, rebuiltOnloadedBytes: 0 }
  return { hostModules: [], offloadedBytes: 0, residentBytes: weightBytes, ...copied }
}

function ringFigures(checkpoint: CheckpointLayers, choice: PrefetchChoice): PlacementFigures {
  const { offloadedLayers, ...figures } = prefetchFigures(checkpoint, choice)
  return {
    ...figures,
    hostModules: offloadedLayers.map((m) => `model.layers.${m}`),
    // Between forwards every slot holds its first layer.
    rebuiltBytes: figures.filledBytes,
    rebuiltOnloadedBytes: figures.filledBytes,
  }
}

/** A slot for each module but the first ones, filled before each use. */
function slottedFigures({ moduleBytes, weightBytes }: CheckpointLayers, resident: number): PlacementFigures {
  const slotted = [...moduleBytes].slice(resident)
  const sum = (bytes: readonly number[]): number => bytes.reduce((total, one) => total + one, 0)
  const offloadedBytes = sum(slotted.map(([, bytes]) => bytes))
  // A module that owns nothing has a slot of one byte.
  const slotBytes = sum(slotted.map(([, bytes]) => Math.max(bytes, 1)))
  return {
    hostModules: slotted.map(([name]) => name),
    offloadedBytes,
    residentBytes: weightBytes - offloadedBytes,
    slotBytes,
    filledBytes: 0,
    forwardBytes: slotBytes,
    rebuiltBytes: slotBytes,
    rebuiltOnloadedBytes: 0,
  }
}
