// @ts-check
// Programs whose memory is worth looking at, written down as traces: the same seed, the same bytes.
import { Random } from './random.mjs'
import { TraceWriter } from './trace-writer.mjs'

/** @import { ReplayableTrace } from './memory-trace.ts' */
/** @typedef {{ scale: number, length: number }} TraceSize */

const KiB = 2 ** 10
const MiB = 2 ** 20

/**
 * `scale`: what all sizes are multiplied by; with 1 the traces take 5 to 45 GiB. `length`: 1 is the whole program, less
 * is a shorter one of the same kind.
 * @param {TraceSize} size
 * @returns {ReplayableTrace[]}
 */
export function memoryTraces(size) {
  return [
    randomTrace(size),
    twoStreamTrace(size),
    decoderTrace(size),
    encoderTrace(size),
    offloadTrace(size),
    quantizingLoadTrace(size),
    expertsLoadTrace(size),
  ]
}

/**
 * At least one.
 * @param {number} count
 * @param {number} length
 */
function part(count, length) {
  return Math.max(1, Math.round(count * length))
}

/** From 512 bytes to 1 GiB, each power of two as likely as the next. @param {Random} random */
function anySize(random) {
  const power = random.from(9, 29)
  return random.from(2 ** power, 2 ** (power + 1))
}

/** For how many more allocations a block lives: most are temporary, some stay for a while, a few for long. @param {Random} random */
function anyLifetime(random) {
  const kind = random.below(10)
  if (kind < 6) return random.from(1, 8)
  return kind < 9 ? random.from(10, 300) : random.from(500, 3000)
}

/** Sizes and lifetimes of all kinds. @param {TraceSize} size */
function randomTrace({ scale, length }) {
  const random = new Random(1)
  const trace = new TraceWriter(scale)
  /** @type {{ id: number, until: number }[]} */
  let live = []
  for (let i = 0; i < part(6000, length); i++) {
    live = freeWhere(trace, live, ({ until }) => until <= i)
    live.push({ id: trace.allocate(anySize(random), 'random'), until: i + anyLifetime(random) })
    if (i % 100 === 99) trace.synchronize()
  }
  trace.free(...live.map(({ id }) => id))
  return trace.end('random')
}

/**
 * Two streams that are busy in turn and hand blocks to each other: a fifth of them is used by both.
 * @param {TraceSize} size
 */
function twoStreamTrace({ scale, length }) {
  const random = new Random(2)
  const trace = new TraceWriter(scale)
  /** @type {{ id: number, until: number }[]} */
  let live = []
  let stream = 1
  for (let i = 0; i < part(6000, length); i++) {
    live = freeWhere(trace, live, ({ until }) => until <= i)
    if (random.chance(2)) stream = 3 - stream
    const id = trace.allocate(anySize(random), 'random', stream)
    if (random.chance(20)) trace.use(id, 3 - stream)
    live.push({ id, until: i + anyLifetime(random) })
    if (i % 100 === 99) trace.synchronize()
  }
  trace.free(...live.map(({ id }) => id))
  return trace.end('random, two streams')
}

/**
 * @template {{ id: number }} T
 * @param {TraceWriter} trace
 * @param {readonly T[]} live
 * @param {(one: T) => boolean} over
 */
function freeWhere(trace, live, over) {
  for (const one of live) if (over(one)) trace.free(one.id)
  return live.filter((one) => !over(one))
}

/** Of Llama 3.1 8B. */
const shape = { layers: 32, width: 4096, cached: 1024, hidden: 14336, vocabulary: 128256 }
const { layers, width, cached, hidden, vocabulary } = shape
/** Rows and columns of a layer's matrices, as they are multiplied: some are several of the checkpoint's in one. */
const matrices = [(width + 2 * cached) * width, width * width, 2 * hidden * width, hidden * width]

/** A decoder in bf16 whose keys and values are gathered anew for each token, as eager decoders do. */
class DecoderProgram {
  #trace
  /** Keys and values by layer. @type {[number, number][]} */
  #cache = []

  /**
   * @param {TraceWriter} trace
   * @param {boolean} resident whether the layers' weights are there all the time
   */
  constructor(trace, resident) {
    this.#trace = trace
    trace.allocate(2 * vocabulary * width, 'weights')
    trace.allocate(2 * vocabulary * width, 'weights')
    for (let layer = 0; layer < layers; layer++) {
      if (resident) for (const elements of matrices) trace.allocate(2 * elements, 'weights')
      trace.allocate(2 * width, 'weights')
      trace.allocate(2 * width, 'weights')
    }
  }

  /**
   * All layers, over `rows` tokens of each of `sequences` that are `context` long then, and the next token on the host.
   * @param {{ sequences: number, rows: number, context: number, eachLayer?: (layer: number) => void }} options
   */
  forward({ sequences, rows, context, eachLayer }) {
    const trace = this.#trace
    const tokens = sequences * rows
    /** @param {number} columns */
    const activation = (columns, bytesEach = 2) => trace.allocate(bytesEach * tokens * columns, 'workspace')
    let residual = activation(width)
    for (let layer = 0; layer < layers; layer++) {
      eachLayer?.(layer)
      const normed = activation(width)
      const projections = activation(width + 2 * cached)
      trace.free(normed)
      const cacheBytes = 2 * sequences * context * cached
      const [keys, values] = [trace.allocate(cacheBytes, 'kv_cache'), trace.allocate(cacheBytes, 'kv_cache')]
      trace.free(...(this.#cache[layer] ?? []))
      this.#cache[layer] = [keys, values]
      const attended = activation(width)
      trace.free(projections)
      const projected = activation(width)
      trace.free(attended, residual)
      residual = projected
      const normedAgain = activation(width)
      const gateAndUp = activation(2 * hidden)
      trace.free(normedAgain)
      const active = activation(hidden)
      trace.free(gateAndUp)
      const down = activation(width)
      trace.free(active, residual)
      residual = down
    }
    const logits = trace.allocate(2 * sequences * vocabulary, 'workspace')
    const probabilities = trace.allocate(4 * sequences * vocabulary, 'workspace')
    trace.free(residual, logits, probabilities)
    trace.synchronize()
  }

  forget() {
    this.#trace.free(...this.#cache.flat())
    this.#cache = []
  }
}

/** Batches of different prompts, each with some tokens after it. @param {TraceSize} size */
function decoderTrace({ scale, length }) {
  const random = new Random(3)
  const trace = new TraceWriter(scale)
  const decoder = new DecoderProgram(trace, true)
  for (let batch = 0; batch < part(6, length); batch++) {
    const sequences = random.pick([1, 2, 4, 8])
    const prompt = random.from(16, 2048)
    decoder.forward({ sequences, rows: prompt, context: prompt })
    for (let token = 1; token <= 12; token++) decoder.forward({ sequences, rows: 1, context: prompt + token })
    decoder.forget()
  }
  return trace.end('decoder')
}

/** Images go through an encoder on a stream of its own, then with text through a decoder. @param {TraceSize} size */
function encoderTrace({ scale, length }) {
  const random = new Random(4)
  const trace = new TraceWriter(scale)
  const decoder = new DecoderProgram(trace, true)
  const [encoderLayers, encoderWidth] = [24, 1280]
  for (let layer = 0; layer < encoderLayers; layer++) {
    trace.allocate(2 * 12 * encoderWidth * encoderWidth, 'weights', 2)
  }
  for (let batch = 0; batch < part(6, length); batch++) {
    const patches = random.from(1, 8) * 6400
    const activation = (/** @type {number} */ columns) => trace.allocate(2 * patches * columns, 'workspace', 2)
    let residual = activation(encoderWidth)
    for (let layer = 0; layer < encoderLayers; layer++) {
      const projections = activation(3 * encoderWidth)
      const attended = activation(encoderWidth)
      trace.free(projections, residual)
      const inner = activation(4 * encoderWidth)
      const active = activation(4 * encoderWidth)
      trace.free(inner)
      residual = activation(encoderWidth)
      trace.free(active, attended)
    }
    const embedded = trace.allocate((2 * patches * width) / 4, 'workspace', 2)
    trace.free(residual)
    trace.use(embedded, 1)
    trace.free(embedded)
    const prompt = patches / 8 + random.from(16, 512)
    decoder.forward({ sequences: 1, rows: prompt, context: prompt })
    for (let token = 1; token <= 4; token++) decoder.forward({ sequences: 1, rows: 1, context: prompt + token })
    decoder.forget()
  }
  return trace.end('decoder, image encoder on another stream')
}

/** Weights come layer by layer, on a stream of their own and one layer ahead, into memory that was just allocated. @param {TraceSize} size */
function offloadTrace({ scale, length }) {
  const random = new Random(5)
  const trace = new TraceWriter(scale)
  const decoder = new DecoderProgram(trace, false)
  const load = () => matrices.map((elements) => trace.allocate(2 * elements, 'weights', 2))
  let next = load()
  const eachLayer = () => {
    const weights = next
    next = load()
    for (const id of weights) trace.use(id, 1)
    trace.free(...weights)
  }
  for (let batch = 0; batch < part(4, length); batch++) {
    const prompt = random.from(16, 2048)
    decoder.forward({ sequences: 2, rows: prompt, context: prompt, eachLayer })
    for (let token = 1; token <= 6; token++) {
      decoder.forward({ sequences: 2, rows: 1, context: prompt + token, eachLayer })
    }
    decoder.forget()
  }
  trace.free(...next)
  return trace.end('decoder, weights from another stream')
}

/**
 * A dense model of 8 billion parameters in bf16: what is multiplied together is read in parts and put together, then
 * quantized to fp8 by way of scratch. Layer by layer.
 * @param {TraceSize} size
 */
function quantizingLoadTrace({ scale, length }) {
  const random = new Random(6)
  const trace = new TraceWriter(scale)
  /** @param {readonly number[]} parts elements of the checkpoint's tensors */
  const load = (parts) => {
    const elements = parts.reduce((sum, one) => sum + one)
    const read = parts.map((one) => trace.allocate(2 * one, 'loading'))
    const whole = parts.length === 1 ? read : [trace.allocate(2 * elements, 'loading')]
    if (parts.length > 1) trace.free(...read)
    for (let piece = 0; piece < 4; piece++) trace.free(trace.allocate(random.from(4, 16) * MiB, 'scratch'))
    trace.allocate(elements, 'weights')
    trace.allocate(elements / 32, 'weights')
    trace.free(...whole)
  }
  trace.allocate(2 * vocabulary * width, 'weights')
  for (let layer = 0; layer < part(layers, length); layer++) {
    load([width * width, cached * width, cached * width])
    load([width * width])
    load([hidden * width, hidden * width])
    load([hidden * width])
    for (let norm = 0; norm < 2; norm++) trace.allocate(2 * width, 'weights')
    trace.synchronize()
  }
  trace.allocate(2 * vocabulary * width, 'weights')
  return trace.end('load, 8B quantized', { load: true })
}

/**
 * A mixture of experts of 70 billion parameters, quantized in its checkpoint: experts are read one by one into one
 * tensor, which is then repacked into less, by way of scratch. Sizes differ a little between layers.
 * @param {TraceSize} size
 */
function expertsLoadTrace({ scale, length }) {
  const random = new Random(7)
  const trace = new TraceWriter(scale)
  for (let layer = 0; layer < part(80, length); layer++) {
    const odd = random.below(8) * 64 * KiB
    for (const [storedBytes, packedBytes, experts] of /** @type {const} */ ([
      [530 * MiB, 270 * MiB, 16],
      [265 * MiB + odd, 135 * MiB + odd, 16],
      [48 * MiB, 25 * MiB, 1],
    ])) {
      const stored = trace.allocate(storedBytes, 'loading')
      const scales = trace.allocate(storedBytes / 128, 'loading')
      for (let expert = 0; expert < experts; expert++) trace.free(trace.allocate(storedBytes / experts, 'loading'))
      for (let piece = 0; piece < 4; piece++) trace.free(trace.allocate(random.from(4, 16) * MiB, 'scratch'))
      // Most loaders repack into new memory; some free first, because there is not enough for both.
      if (layer % 2 === 0) trace.free(stored)
      trace.allocate(packedBytes, 'weights')
      trace.allocate(packedBytes / 64, 'weights')
      if (layer % 2 === 1) trace.free(stored)
      trace.free(scales)
    }
    trace.allocate(2 * 4096 * (random.below(4) + 1), 'weights')
    trace.synchronize()
  }
  return trace.end('load, experts repacked', { load: true })
}
