import type { Explanation, OffloaderStats } from '@spillway/core'

/** What `run --json --explain` prints. */
export interface ExplainedRun {
  readonly tokens: readonly number[]
  readonly stats: OffloaderStats
  readonly explanation: {
    readonly limits: { readonly linkBytesPerSecond: number; readonly deviceBytesPerSecond: number }
    readonly before: Explanation
    readonly after?: Explanation
    readonly measuredTokens?: number
  }
  readonly trace?: string | null
}

/** An event of a Chrome trace that has a begin and an end. */
export interface Span {
  readonly ph: string
  readonly cat: string
  readonly tid: number
  readonly ts: number
  readonly dur: number
  readonly args: { readonly module: string; readonly bytes?: number }
}
