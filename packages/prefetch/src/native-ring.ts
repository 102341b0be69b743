import { loadNative } from '@spillway/core'
import { attach } from '@spillway/device'

/** A ring of native/ring.hpp. */
export type NativeRing = object & { readonly nativeRing: never }

export interface RingCounters {
  /** Copies into slots enqueued outside of captures. What a replayed graph copies is not seen here. */
  readonly onloads: number
  /** Bytes of those. */
  readonly onloadedBytes: number
  /** Copies recorded into captures. */
  readonly capturedOnloads: number
  /** Copies, recorded ones included, that began only when their layer was about to run. */
  readonly demandOnloads: number
  /** Forwards that did not leave the slots as the next one expects them, so that they had to be filled again. */
  readonly resets: number
  /** That began, captured ones included. */
  readonly forwards: number
  /** Of those: broken off. */
  readonly failedForwards: number
}

/** Of one element; captured copies are not counted. */
export interface ElementCounters {
  readonly onloads: number
  /** Of those: begun only when the layer was about to run. */
  readonly demandOnloads: number
}

/** Streams and buffers are the handles that `handleOf` of @spillway/device returns. */
export interface PrefetchAddon {
  attach(table: unknown): void
  createRing(
    copyStream: unknown,
    slabs: readonly unknown[],
    bytes: readonly number[],
    slots: readonly unknown[],
  ): NativeRing
  start(ring: NativeRing, stream: unknown): void
  /** Returns whether the forward is timed: then the caller may set marks of its own. */
  begin(ring: NativeRing, stream: unknown): boolean
  before(ring: NativeRing, element: number): void
  after(ring: NativeRing, element: number): void
  end(ring: NativeRing, ok: boolean): void
  rebuild(ring: NativeRing, slot: number, stream: unknown): void
  counters(ring: NativeRing): RingCounters
  elementCounters(ring: NativeRing): readonly ElementCounters[]
  /**
   * Milliseconds of link and of wait for each element, one after another, of the forward or replay measured last. NaN: not
   * measured yet. Waits for nothing.
   */
  elementTimes(ring: NativeRing): Float64Array
  /** False: its device takes no times. */
  canTime(ring: NativeRing): boolean
  /** Begins a trace anew: from now on every forward is timed. */
  beginTrace(ring: NativeRing): void
  /**
   * Ends it. Of marks that were reached since, in order: kind, label, milliseconds. Those of forwards outside of captures,
   * and of the last replay of each of the last captured forwards.
   */
  endTrace(ring: NativeRing): Float64Array
  /** A mark on the stream of the open forward, if it is timed; `label`: an element's, or a number past them. */
  mark(ring: NativeRing, kind: number, label: number): void
  close(ring: NativeRing): void
  /** One launch for a list of tensors; `gatherScatter` of tensor-moves says what is in them. */
  gatherScatter(stream: unknown, tensors: readonly (readonly unknown[])[]): void
}

/** The addon, attached to the function table of @spillway/device. Loading it again costs nothing. */
export function loadAddon(): PrefetchAddon {
  const addon = loadNative<PrefetchAddon>({ from: import.meta.url, name: 'prefetch' })
  addon.attach(attach())
  return addon
}
