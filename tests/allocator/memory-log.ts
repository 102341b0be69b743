import type { sourceKinds } from './allocator-probe.js'

/** Work of a stream with a block: done once the stream has passed `position`. */
export interface Use {
  readonly stream: number
  readonly position: number
}

/** What happened, in order, as seen from outside of the allocator: what it got, what it gave, how far streams were. */
export type MemoryEvent =
  | { readonly kind: (typeof sourceKinds)[number]; readonly address: number; readonly bytes: number }
  | {
      readonly kind: 'allocate'
      readonly id: number
      readonly address: number
      readonly bytes: number
      readonly requestedBytes: number
      readonly stream: number
    }
  | { readonly kind: 'free'; readonly id: number; readonly uses: readonly Use[] }
  | { readonly kind: 'complete'; readonly stream: number; readonly position: number }
  | { readonly kind: 'end' }
