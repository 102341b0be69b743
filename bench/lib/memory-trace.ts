// What an allocator is asked for, in order, for any of them to replay. Plain values: JSON keeps them. Types only.

export type TraceOperation =
  /** `stream` writes the block, as it does with whatever it is given. */
  | {
      readonly operation: 'allocate'
      readonly id: number
      readonly bytes: number
      readonly tag: string
      readonly stream: number
    }
  /** Work of another stream with the block, after all that its own stream was given so far. */
  | { readonly operation: 'use'; readonly id: number; readonly stream: number }
  /** Nothing more is enqueued with the block; what was may not be done. */
  | { readonly operation: 'free'; readonly id: number }
  /** The program waits for all that is enqueued, as for a token. */
  | { readonly operation: 'synchronize' }

export interface ReplayableTrace {
  readonly name: string
  /** A model being loaded: the time for which large blocks are kept whole. */
  readonly load: boolean
  /** Numbers of streams, from 1. */
  readonly streams: readonly number[]
  readonly operations: readonly TraceOperation[]
  /** The most that is asked for at once. */
  readonly peakRequestedBytes: number
}
