import type { Recorder } from './recorder.mjs'

/** What a benchmark runs in. */
export interface Context {
  readonly device: 'host' | 'cuda'
  /** See `RunResult.quick`. */
  readonly quick: boolean
  /** Ctrl-C. */
  readonly signal: AbortSignal
  /** For the person waiting. */
  readonly progress: (text: string) => void
}

export interface Benchmark {
  /** One line, for `--list`. */
  readonly summary: string
  /** Leaves nothing on the device. What it has recorded stays when it throws. */
  readonly run: (context: Context, recorder: Recorder) => Promise<void>
}
