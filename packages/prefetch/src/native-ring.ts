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
  begin(ring: NativeRing, stream: unknown): void
  before(ring: NativeRing, element: number): void
  after(ring: NativeRing, element: number): void
  end(ring: NativeRing, ok: boolean): void
  rebuild(ring: NativeRing, slot: number, stream: unknown): void
  counters(ring: NativeRing): RingCounters
  elementCounters(ring: NativeRing): readonly ElementCounters[]
  /** Begins a trace anew, or ends it: forwards outside of captures set marks. */
  trace(ring: NativeRing, on: boolean): void
  /** A mark on the stream of the open forward; `label`: of the caller's choosing. */
  mark(ring: NativeRing, kind: number, label: number): void
  /** Of marks that were reached since the last call, one after another: kind, label, milliseconds. */
  takeMarks(ring: NativeRing): Float64Array
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
