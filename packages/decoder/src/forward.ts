import type { Event, HostBuffer, Offloader, PlacedModule, Stream, TensorView } from '@spillway/core'
import type { DecoderConfig } from './config.js'
import type { Kernels } from './kernels.js'
import type { KvCache } from './kv-cache.js'
import { embeddingName, headName, layerName, normName } from './model-specs.js'
import type { Workspace } from './workspace.js'

export interface ForwardOptions {
  readonly config: DecoderConfig
  readonly offloader: Offloader
  /** What `offloader.postInit()` returned: every weight at an address that stays. */
  readonly modules: ReadonlyMap<string, PlacedModule>
  readonly kernels: Kernels
  readonly kvCache: KvCache
  readonly workspace: Workspace
  readonly stream: Stream
}

/** Which rows there are, and where logits of them go. */
export interface ForwardShape {
  /** 1 … maxRows. */
  readonly rows: number
  /** Logits from this row on are wanted; absent: none, and the last norm and the head are left out. */
  readonly logitsFrom?: number
  /** Where those logits go, f32 [rows, vocab], one after another. */
  readonly logits?: HostBuffer
  /** Recorded once they are there; of a captured forward, in every replay. */
  readonly ready?: Event
}

/** What a product reads and writes that begins with the norm of `hidden`. */
interface NormProduct {
  readonly norm: TensorView
  readonly weight: TensorView
  readonly bias?: TensorView | undefined
  readonly y: TensorView
}

/** The computation: enqueues everything, waits for nothing, changes nothing but cache and workspace. */
export class Forward {
  readonly #options: ForwardOptions
  readonly #weights: ReadonlyMap<string, TensorView>

  /** The modules are as `moduleSpecs` and `fuseLayer` left them. */
  constructor(options: ForwardOptions) {
    this.#options = options
    const weights = new Map<string, TensorView>()
    for (const [module, { parameters }] of options.modules) {
      for (const [name, { tensor }] of parameters) weights.set(`${module}.${name}`, tensor)
    }
    this.#weights = weights
  }

  /**
   * Reads tokens and their position from what `Workspace.write` has put there when the work runs, so a forward that was
   * captured serves every token. The host buffers used are free again when the stream is done.
   */
  enqueue({ rows, logitsFrom, logits, ready }: ForwardShape): void {
    const { offloader, stream, workspace, config } = this.#options
    workspace.upload(stream, rows)
    offloader.forward(stream, (scope) => {
      const inModule = (module: string, body: () => void): void => {
        scope.before(module)
        body()
        scope.after(module)
      }
      inModule(embeddingName, () => this.#embed(rows))
      for (let layer = 0; layer < config.layers; layer++) inModule(layerName(layer), () => this.#layer(layer, rows))
      if (logitsFrom === undefined || logits === undefined) return
      inModule(normName, () => this.#finalNorm(logitsFrom, rows))
      inModule(headName, () => this.#head(logitsFrom, rows, logits))
      if (ready !== undefined) stream.record(ready, { external: true })
    })
  }

  #embed(rows: number): void {
    const { kernels, stream, workspace } = this.#options
    kernels.embedding(stream, {
      tokens: workspace.tokens(rows),
      table: this.#weight(embeddingName, 'weight'),
      y: workspace.rows('hidden', rows),
    })
  }

  #layer(layer: number, rows: number): void {
    const { kernels, kvCache, workspace, stream, config } = this.#options
    const { heads, kvHeads, headDim, qkvBias, qkNorm, slidingWindows, rmsNormEps: epsilon } = config
    const weight = (name: string): TensorView => this.#weight(layerName(layer), name)
    const hidden = workspace.rows('hidden', rows)
    const cache = { position: workspace.position, keys: kvCache.keys(layer), values: kvCache.values(layer), heads }

    const qkv = workspace.rows('qkv', rows)
    this.#normLinear(rows, {
      norm: weight('input_layernorm.weight'),
      weight: weight('self_attn.qkv_proj.weight'),
      bias: qkvBias ? weight('self_attn.qkv_proj.bias') : undefined,
      y: qkv,
    })
    if (qkNorm) {
      const [qWeight, kWeight] = [weight('self_attn.q_norm.weight'), weight('self_attn.k_norm.weight')]
      kernels.qkNorm(stream, { qkv, qWeight, kWeight, heads, keyValueHeads: kvHeads, epsilon })
    }
    kernels.ropeAppend(stream, { ...cache, qkv, inverseFrequency: workspace.inverseFrequency, scaling: 1 })
    const attended = workspace.rows('attended', rows)
    const window = slidingWindows[layer]
    kernels.attention(stream, { ...cache, qkv, scale: headDim ** -0.5, window, y: attended })
    kernels.linear(stream, {
      x: attended,
      weight: weight('self_attn.o_proj.weight'),
      y: hidden,
      accumulate: true,
      parts: this.#parts(attended),
    })

    const activated = workspace.rows('activated', rows)
    this.#normSwiglu(rows, {
      norm: weight('post_attention_layernorm.weight'),
      weight: weight('mlp.gate_up_proj.weight'),
      y: activated,
    })
    kernels.linear(stream, {
      x: activated,
      weight: weight('mlp.down_proj.weight'),
      y: hidden,
      accumulate: true,
      parts: this.#parts(activated),
    })
  }

  /** y = norm(hidden) · weightᵀ + bias. */
  #normLinear(rows: number, { norm, weight, bias, y }: NormProduct): void {
    const { kernels, workspace, stream, config } = this.#options
    const x = workspace.rows('hidden', rows)
    const epsilon = config.rmsNormEps
    if (takesOneLaunch(rows)) {
      kernels.normLinear(stream, { x, norm, epsilon, weight, bias, y })
    } else {
      const normed = workspace.rows('normed', rows)
      kernels.rmsNorm(stream, { x, weight: norm, y: normed, epsilon })
      kernels.linear(stream, { x: normed, weight, bias, y, parts: this.#parts(normed) })
    }
  }

  /** y = silu(gate) · up, where gate and up are the halves of norm(hidden) · weightᵀ. */
  #normSwiglu(rows: number, { norm, weight, y }: NormProduct): void {
    const { kernels, workspace, stream, config } = this.#options
    if (takesOneLaunch(rows)) {
      const x = workspace.rows('hidden', rows)
      kernels.normSwiglu(stream, { x, norm, epsilon: config.rmsNormEps, weight, y })
    } else {
      const gateUp = workspace.rows('gateUp', rows)
      this.#normLinear(rows, { norm, weight, y: gateUp })
      kernels.siluMul(stream, { gateUp, y })
    }
  }

  #finalNorm(from: number, rows: number): void {
    const { kernels, workspace, stream, config } = this.#options
    kernels.rmsNorm(stream, {
      x: rowsFrom(workspace.rows('hidden', rows), from),
      weight: this.#weight(normName, 'weight'),
      y: rowsFrom(workspace.rows('normed', rows), from),
      epsilon: config.rmsNormEps,
    })
  }

  /** A few rows at a time, for the workspace holds no more logits; the stream keeps the copies in order. */
  #head(from: number, rows: number, to: HostBuffer): void {
    const { kernels, workspace, stream, config } = this.#options
    const weight = this.#weight(headName, 'weight')
    const rowBytes = 4 * config.vocabSize
    for (let row = from; row < rows; row += workspace.plan.logitRows) {
      const count = Math.min(workspace.plan.logitRows, rows - row)
      const logits = workspace.rows('logits', count)
      kernels.linear(stream, { x: rowsFrom(workspace.rows('normed', row + count), row), weight, y: logits })
      const bytes = count * rowBytes
      stream.copy(to, logits.buffer, { fromOffset: logits.offset, toOffset: (row - from) * rowBytes, bytes })
    }
  }

  /** Memory for `x` as a matrix library takes it. */
  #parts({ shape: [rows, columns] }: TensorView): TensorView | undefined {
    return this.#options.workspace.parts(rows as number, columns as number)
  }

  #weight(module: string, name: string): TensorView {
    return this.#weights.get(`${module}.${name}`) as TensorView
  }
}

/**
 * Whether a product and the small kernels beside it are one. With one row, as when decoding, a product waits for its
 * weight, and has time for what they compute; launched by themselves they take longer to begin and end than to compute.
 * With more rows there are faster ways for products, and a matrix library.
 */
function takesOneLaunch(rows: number): boolean {
  return rows === 1
}

/** Rows `from` and later of a contiguous f32 matrix. */
function rowsFrom(matrix: TensorView, from: number): TensorView {
  const [rows, columns] = matrix.shape as readonly [number, number]
  return { ...matrix, offset: matrix.offset + 4 * from * columns, shape: [rows - from, columns] }
}
