import type { Device } from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import type { NativeDevice } from '@spillway/device'
import { expect, vi } from 'vitest'
import type { CheckpointLayers } from './checkpoint-layers.js'
import type { DeviceRow } from './devices.js'
import type { PlacementFigures, PlacementRow } from './placements.js'
import { type Storages, type WatchedPlacement, watchPlacement, watchShelf } from './watched-backend.js'

export interface MatrixModel {
  readonly directory: string
  readonly checkpoint: CheckpointLayers
  /** A text that one forward reads. */
  readonly prompt: string
  readonly maxTokens: number
}

/** What everything resident on a plain device gives: what every row must give. */
export interface Reference {
  readonly tokens: readonly number[]
  readonly logits: readonly Float32Array[]
  readonly plan: Model['plan']
}

export interface MatrixRow {
  readonly placement: PlacementRow
  /** With the residency backend `shelf`, and a sleep half way. */
  readonly sleeps: boolean
  readonly device: DeviceRow
}

/** Kept small: what grows with them is the workspace. */
const sizes: Pick<LoadModelOptions, 'contextLength' | 'maxRows'> = { contextLength: 48, maxRows: 32 }
const roomyBytes = 64 * 2 ** 20

export function describeRow({ placement, sleeps, device }: MatrixRow): string {
  return `${placement.name}${sleeps ? ' and shelf' : ''}, on ${device.name}`
}

export async function makeReference(model: MatrixModel, device: DeviceRow): Promise<Reference> {
  const opened = await device.open({ memoryLimitBytes: roomyBytes, seed: 0 })
  const loaded = await loadModel(model.directory, { device: opened, ...sizes })
  const tokens = await greedyTokens(loaded, model)
  const reference = { tokens, logits: await loaded.logits(tokens), plan: loaded.plan }
  await loaded.dispose()
  await opened.dispose()
  return reference
}

/** Loads, generates, sleeps and wakes where there is a shelf, computes logits; everything is held to the figures. */
export async function runRow(row: MatrixRow, model: MatrixModel, reference: Reference, seed = 0): Promise<void> {
  const { placement, device } = row
  const memoryLimitBytes = placement.memoryLimitBytes?.(reference.plan) ?? roomyBytes
  const opened = await device.open({ memoryLimitBytes, seed })
  try {
    expect(opened.checker !== undefined).toBe(device.checked)
    await useModel(row, model, reference, opened)
    await expectNothingLeft(opened)
    expect(opened.checker?.takeViolations().map(({ message }) => message) ?? []).toEqual([])
  } finally {
    await opened.dispose()
  }
}

async function useModel(
  { placement, sleeps }: MatrixRow,
  model: MatrixModel,
  reference: Reference,
  device: NativeDevice,
): Promise<void> {
  const { checkpoint, maxTokens } = model
  const watched = watchPlacement(placement.offload())
  const shelf = sleeps ? watchShelf() : undefined
  const offload = [watched.offload, ...(shelf === undefined ? [] : [shelf.offload])]
  const loaded = await loadModel(model.directory, { device, offload, pin: placement.pin, ...sizes })
  try {
    const figures = placement.figures(checkpoint)
    const copied = figures.residentBytes + figures.filledBytes
    const expected = { copied, onloaded: figures.filledBytes, graphLaunches: 0 }
    const check = (): Promise<void> => expectFigures({ loaded, watched, device, placement, figures, expected })
    /** What replays copy, only the device counts. */
    const addForwards = ({ enqueued, replayed }: { enqueued: number; replayed: number }): void => {
      expected.copied += (enqueued + replayed) * figures.forwardBytes
      expected.onloaded += enqueued * figures.forwardBytes
      expected.graphLaunches += replayed
    }
    const replays = placement.pin === 'on'
    expect(loaded.names).toEqual([placement.shownName, ...(sleeps ? ['shelf'] : [])])
    expect(loaded.decodeGraph.graph).toBe(replays)
    expect(watched.storages).toEqual(expectedStorages(checkpoint, figures, placement.pin === 'off'))
    await check()

    expect(await greedyTokens(loaded, model)).toEqual(reference.tokens)
    // The prompt, and the first token after it, which rehearses what is captured then.
    addForwards(replays ? { enqueued: 2, replayed: maxTokens - 2 } : { enqueued: maxTokens, replayed: 0 })
    await check()

    if (shelf !== undefined) {
      const { copiedBytes } = await shelf.steps().sleep({ level: 1 })
      expect(copiedBytes).toBeGreaterThanOrEqual(figures.residentBytes)
      await shelf.steps().wake()
      expected.copied += figures.residentBytes + figures.rebuiltBytes
      expected.onloaded += figures.rebuiltOnloadedBytes
      await check()
    }

    expect(await greedyTokens(loaded, model)).toEqual(reference.tokens)
    addForwards(replays ? { enqueued: 1, replayed: maxTokens - 1 } : { enqueued: maxTokens, replayed: 0 })
    expect(await loaded.logits(reference.tokens)).toEqual(reference.logits)
    addForwards({ enqueued: 1, replayed: 0 })
    await check()
  } finally {
    await loaded.dispose()
  }
}

async function greedyTokens(loaded: Model, { prompt, maxTokens }: MatrixModel): Promise<number[]> {
  const tokens: number[] = []
  for await (const step of loaded.generate(prompt, { temperature: 0, maxTokens })) tokens.push(...step.tokens)
  expect(tokens).toHaveLength(maxTokens)
  return tokens
}

function expectedStorages(
  { moduleBytes }: CheckpointLayers,
  { hostModules }: PlacementFigures,
  pageable: boolean,
): Storages {
  const hostStorage = pageable ? 'pageable' : 'pinned'
  return new Map(
    Array.from(moduleBytes, ([name, bytes]) => {
      return [name, new Set(bytes === 0 ? [] : [hostModules.includes(name) ? hostStorage : 'device'])]
    }),
  )
}

interface Expectation {
  readonly loaded: Model
  readonly watched: WatchedPlacement
  readonly device: Device
  readonly placement: PlacementRow
  readonly figures: PlacementFigures
  /** Bytes that came over the link into memory for weights, and those that the backend calls onloaded. */
  readonly expected: { readonly copied: number; readonly onloaded: number; readonly graphLaunches: number }
}

/** Rules, statistics and the device's counters agree, once everything enqueued is done. */
async function expectFigures({ loaded, watched, device, placement, figures, expected }: Expectation): Promise<void> {
  await watched.settle()
  const { offloadedBytes, residentBytes, slotBytes } = figures
  const stats = loaded.stats()
  expect(stats).toMatchObject({ offloadedBytes, residentBytes, slotBytes, onloadedBytes: expected.onloaded })
  expect(stats.pinned.pin).toBe(placement.pin === 'on')
  const { hostToDeviceBytesByTag, graphLaunches, pinnedBytes, pageableBytes } = device.counters()
  expect(graphLaunches).toBe(expected.graphLaunches)
  expect(hostToDeviceBytesByTag.weights ?? 0).toBe(expected.copied)
  const [used, unused] = placement.pin === 'on' ? [pinnedBytes, pageableBytes] : [pageableBytes, pinnedBytes]
  expect(used).toBeGreaterThanOrEqual(offloadedBytes)
  expect(unused).toBe(0)
  expect(device.budget.usedBytesByTag.weights).toBeGreaterThanOrEqual(residentBytes + slotBytes)
  expect(stats.peakDeviceBytes).toBe(device.budget.peakBytes)
}

/** Enqueued copies keep their buffers: they end soon after what enqueued them was disposed. */
async function expectNothingLeft(device: Device): Promise<void> {
  const left = (): unknown => Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
  await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000, interval: 2 })
  const { pinnedBytes, mappedBytes, pageableBytes } = device.counters()
  expect({ pinnedBytes, mappedBytes, pageableBytes }).toEqual({ pinnedBytes: 0, mappedBytes: 0, pageableBytes: 0 })
  expect(device.budget.usedBytes).toBe(0)
}
