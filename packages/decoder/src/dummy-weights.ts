import type { LoadProgress } from '@spillway/checkpoint'
import { dtypeBytes, extentBytes, type HostArena, type Parameter, type Stream, throwIfAborted } from '@spillway/core'
import type { WeightDType } from './config.js'
import { Random } from './random.js'

/** A prime, so that the rows of no matrix are copies of each other at the same place. */
const patternLength = 262_139
const chunkBytes = 4 * 2 ** 20

export interface DummyOptions {
  /** All of one dtype; written through `tensor`. */
  readonly parameters: readonly Parameter[]
  readonly seed: number
  readonly host: HostArena
  readonly stream: Stream
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

/**
 * Fills parameters with seeded random weights: norms with 1, matrices with normal numbers of standard deviation
 * 1/sqrt(inputs), a bias being a column of one input, so that activations keep their size through the layers and logits
 * differ. The numbers
 * repeat after `patternLength`: making billions of new ones would take longer than reading a checkpoint.
 */
export async function fillDummyWeights(options: DummyOptions): Promise<void> {
  const { parameters, host, stream, signal, onProgress } = options
  const random = new Random(options.seed)
  const normal = Float32Array.from({ length: patternLength }, () => random.normal())
  const totalBytes = parameters.reduce((sum, parameter) => sum + extentBytes(parameter), 0)
  const patterns = new Map<string, Uint8Array>()
  let loadedBytes = 0
  onProgress?.({ loadedBytes, totalBytes })
  const staging = await host.allocate(chunkBytes, signal === undefined ? {} : { signal })
  try {
    for (const parameter of parameters) {
      const { name, tensor, shape, dtype } = parameter
      const inputs = shape[1] ?? (name.endsWith('.bias') ? 1 : undefined)
      const key = `${dtype} ${inputs}`
      const pattern = patterns.get(key) ?? patternOf(normal, dtype as WeightDType, inputs)
      patterns.set(key, pattern)
      // Counted in elements: the same weights in every dtype.
      let at = (random.uint32() % patternLength) * dtypeBytes[dtype]
      for (let done = 0; done < extentBytes(tensor); ) {
        throwIfAborted(signal, 'loading dummy weights')
        const bytes = Math.min(chunkBytes, extentBytes(tensor) - done)
        at = fillCyclically(pattern, at, bytes, (part, offset) => staging.write(part, offset))
        stream.copy(tensor.buffer, staging, { toOffset: tensor.offset + done, bytes })
        // The staging memory is written again next time.
        await stream.synchronize()
        done += bytes
        loadedBytes += bytes
        onProgress?.({ loadedBytes, totalBytes })
      }
    }
  } finally {
    await stream.synchronize().catch(() => {})
    await staging.dispose()
  }
}

/** Writes `bytes` of an endless repetition of `pattern` from `at`; returns where it goes on. */
function fillCyclically(
  pattern: Uint8Array,
  at: number,
  bytes: number,
  write: (part: Uint8Array, offset: number) => void,
): number {
  let from = at
  for (let offset = 0; offset < bytes; ) {
    const part = pattern.subarray(from, Math.min(pattern.length, from + bytes - offset))
    write(part, offset)
    offset += part.length
    from = (from + part.length) % pattern.length
  }
  return from
}

/** One period as bytes of the dtype. `inputs`: absent for norms. */
function patternOf(normal: Float32Array, dtype: WeightDType, inputs: number | undefined): Uint8Array {
  const scale = 1 / Math.sqrt(inputs ?? 1)
  const values = normal.map((value) => (inputs === undefined ? 1 : value * scale))
  if (dtype === 'f32') return new Uint8Array(values.buffer)
  const convert = dtype === 'bf16' ? bf16Of : f16Of
  return new Uint8Array(Uint16Array.from(values, convert).buffer)
}

const word = new DataView(new ArrayBuffer(4))

function bitsOf(value: number): number {
  word.setFloat32(0, value)
  return word.getUint32(0)
}

/** Round to nearest; the value is finite and far from overflow. */
function bf16Of(value: number): number {
  return (bitsOf(value) + 0x8000) >>> 16
}

/** Round to nearest; what is too small for a normal f16 becomes zero, which a random weight may well be. */
function f16Of(value: number): number {
  const bits = bitsOf(value)
  const exponent = ((bits >>> 23) & 0xff) - 112
  const sign = (bits >>> 16) & 0x8000
  if (exponent <= 0) return sign
  return sign | Math.min(0x7bff, (exponent << 10) + (((bits & 0x7fffff) + 0x1000) >>> 13))
}
