import type { Random } from '../order/random.js'

/** One stream's allocations and frees, for any allocator to replay. Plain values: JSON keeps them. */
type TraceOperation =
  | { readonly operation: 'allocate'; readonly id: number; readonly bytes: number; readonly tag: string }
  | { readonly operation: 'free'; readonly id: number }
export type ReplayableTrace = readonly TraceOperation[]

const KiB = 2 ** 10
const MiB = 2 ** 20

class TraceWriter {
  readonly operations: TraceOperation[] = []
  #next = 0

  allocate(bytes: number, tag: string): number {
    const id = this.#next++
    this.operations.push({ operation: 'allocate', id, bytes, tag })
    return id
  }

  free(...ids: number[]): void {
    for (const id of ids) this.operations.push({ operation: 'free', id })
  }
}

/** Blocks of all sizes that live for a random time: `count` allocations, at most 200 at once. */
export function randomTrace(random: Random, count: number): ReplayableTrace {
  const trace = new TraceWriter()
  const live: number[] = []
  for (let i = 0; i < count; i++) {
    // Each power of two is as likely as the next, as sizes in programs are.
    const power = random.from(9, 26)
    live.push(trace.allocate(random.from(2 ** power, 2 ** (power + 1)), 'random'))
    while (live.length > 200 || (live.length > 0 && random.chance(40))) {
      trace.free(live.splice(random.below(live.length), 1)[0]!)
    }
  }
  return trace.operations
}

/** A decoder of 8 billion parameters: weights and cache, then prefills of different lengths, each with decode steps. */
export function decoderTrace(random: Random, prompts: number): ReplayableTrace {
  const [layers, width, hidden, vocabulary] = [32, 4096, 14336, 128256]
  const trace = new TraceWriter()
  trace.allocate(2 * vocabulary * width, 'weights')
  for (let layer = 0; layer < layers; layer++) {
    for (const columns of [width * 1.5, width, hidden * 2, hidden]) trace.allocate(2 * width * columns, 'weights')
    trace.allocate(2 * width, 'weights')
    trace.allocate(128 * MiB, 'kv_cache')
  }
  const forward = (rows: number): void => {
    let residual = trace.allocate(2 * rows * width, 'workspace')
    for (let layer = 0; layer < layers; layer++) {
      const normed = trace.allocate(2 * rows * width, 'workspace')
      const projections = trace.allocate(3 * rows * width, 'workspace')
      trace.free(normed)
      const attended = trace.allocate(2 * rows * width, 'workspace')
      trace.free(projections)
      const gate = trace.allocate(4 * rows * hidden, 'workspace')
      trace.free(attended)
      const active = trace.allocate(2 * rows * hidden, 'workspace')
      trace.free(gate)
      const next = trace.allocate(2 * rows * width, 'workspace')
      trace.free(active, residual)
      residual = next
    }
    const logits = trace.allocate(4 * vocabulary, 'workspace')
    trace.free(residual, logits)
  }
  for (let prompt = 0; prompt < prompts; prompt++) {
    forward(random.from(16, 4096))
    for (let step = 0; step < 8; step++) forward(1)
  }
  return trace.operations
}

/**
 * A mixture-of-experts load with repacking: each layer's weights come in pieces, are gathered, repacked into less by way
 * of scratch, and what they were read into is freed. Sizes differ a little between layers.
 */
export function modelLoadTrace(random: Random, layers: number): ReplayableTrace {
  const trace = new TraceWriter()
  for (let layer = 0; layer < layers; layer++) {
    const odd = random.below(8) * 64 * KiB
    for (const [storedBytes, packedBytes] of [
      [530 * MiB, 270 * MiB],
      [265 * MiB + odd, 135 * MiB + odd],
      [48 * MiB, 25 * MiB],
    ] as const) {
      const stored = trace.allocate(storedBytes, 'loading')
      const scales = trace.allocate(storedBytes / 128, 'loading')
      for (let piece = 0; piece < 8; piece++) trace.free(trace.allocate(random.from(4, 16) * MiB, 'scratch'))
      trace.free(stored)
      trace.allocate(packedBytes, 'weights')
      trace.allocate(packedBytes / 64, 'weights')
      trace.free(scales)
    }
    trace.allocate(2 * 4096 * (random.below(4) + 1), 'weights')
  }
  return trace.operations
}
