import {
  contiguousStride,
  type Device,
  type DeviceBuffer,
  type DType,
  dtypeBytes,
  elementCount,
  type Stream,
  type TensorView,
} from '@spillway/core'
import { openDevice } from '@spillway/device'
import type { Kernels } from '../src/kernels.js'

/** What weights and caches may be stored as. */
export const weightDTypes = ['f32', 'f16', 'bf16'] as const
export type WeightDType = (typeof weightDTypes)[number]

/** Numbers as the device holds them, so that a reference sees exactly what a kernel sees. */
export interface Tensor {
  readonly view: TensorView
  readonly values: Float64Array
}

const seed = 0x2545f491

/** The kernels of one device and how exact they are: what the tables of cases are run with. */
export interface KernelSubject {
  readonly rig: KernelRig
  readonly kernels: Kernels
  /** Whether all numbers of rows go through the same code, so that each row's bits do not depend on the others. */
  readonly sameForAnyRows: boolean
  /** Of ‖error‖ / ‖y‖ in matrix products. */
  readonly linearTolerance: (dtype: WeightDType, rows: number) => number
}

/** A device, one stream on it, and tensors that are gone with it. */
export class KernelRig {
  readonly #openDevice: () => Promise<Device>
  readonly #guardElements: number
  #device: Device | undefined
  #stream: Stream | undefined
  #buffers: DeviceBuffer[] = []
  #state = seed

  /**
   * Tensors start at an odd number of elements, the least that kernels may count on; `aligned`: at multiples of 128
   * bytes, as those of a model do.
   */
  constructor(
    open: () => Promise<Device> = () => openDevice('host', { memoryLimitBytes: 256 * 2 ** 20 }),
    { aligned = false }: { readonly aligned?: boolean } = {},
  ) {
    this.#openDevice = open
    this.#guardElements = aligned ? 64 : 37
  }

  /** Before all tests that use it. */
  async open(): Promise<void> {
    this.#device = await this.#openDevice()
    this.#stream = this.#device.createStream()
  }

  get device(): Device {
    if (this.#device === undefined) throw new Error('the rig is not open')
    return this.#device
  }

  get stream(): Stream {
    if (this.#stream === undefined) throw new Error('the rig is not open')
    return this.#stream
  }

  /** Launches that the device has done: it counts them when they run, not when they are enqueued. */
  async launches(): Promise<number> {
    await this.stream.synchronize()
    return this.device.counters().launches
  }

  /** The same random numbers once more. */
  restart(): void {
    this.#state = seed
  }

  /** Gives back every tensor made so far. Random numbers start anew: a test has the same ones wherever it stands. */
  async clear(): Promise<void> {
    this.restart()
    await Promise.all(this.#buffers.map((buffer) => buffer.dispose()))
    this.#buffers = []
  }

  async close(): Promise<void> {
    await this.clear()
    await this.#stream?.dispose()
    await this.#device?.dispose()
  }

  /** Uniform in (-1, 1), the same in every run. */
  random(): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return this.#state / 2 ** 31
  }

  randoms(count: number, scale = 1): Float64Array {
    return Float64Array.from({ length: count }, () => this.random() * scale)
  }

  /** On the device; memory before and behind it belongs to the same buffer and holds 0xa5. */
  async upload(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Promise<Tensor> {
    const bytes = encode(dtype, values)
    const view = this.#allocate(dtype, shape)
    const staging = await this.device.allocateHost(bytes.length, { storage: 'pinned' })
    staging.write(bytes)
    this.stream.copy(view.buffer, staging, { toOffset: view.offset, bytes: bytes.length })
    await staging.dispose()
    return { view, values: decode(dtype, bytes) }
  }

  uploadRandom(dtype: DType, shape: readonly number[], scale = 1): Promise<Tensor> {
    return this.upload(dtype, shape, this.randoms(elementCount(shape), scale))
  }

  /**
   * `times` times the same rows, one after another, made on the device: large, for what its values cost. `values` holds
   * them once.
   */
  async uploadRepeated(dtype: DType, [rows, width]: readonly [number, number], times: number): Promise<Tensor> {
    const { view, values } = await this.uploadRandom(dtype, [rows, width])
    const { buffer, offset } = this.#allocate(dtype, [rows * times, width])
    const [block, whole] = [viewBytes(view), viewBytes(view) * times]
    this.stream.copy(buffer, view.buffer, { toOffset: offset, fromOffset: view.offset, bytes: block })
    for (let done = block; done < whole; done *= 2) {
      this.stream.copy(buffer, buffer, {
        toOffset: offset + done,
        fromOffset: offset,
        bytes: Math.min(done, whole - done),
      })
    }
    const shape = [rows * times, width]
    return { view: { buffer, offset, dtype, shape, stride: contiguousStride(shape) }, values }
  }

  /** Every byte 0xff, which is NaN in every dtype we have: what a kernel leaves out shows. */
  poisoned(dtype: DType, shape: readonly number[]): TensorView {
    const view = this.#allocate(dtype, shape)
    this.stream.fill(view.buffer, 0xff, { offset: view.offset, bytes: viewBytes(view) })
    return view
  }

  /** Also checks that the memory around the tensor is as it was. */
  async download(view: TensorView): Promise<Float64Array> {
    const staging = await this.device.allocateHost(view.buffer.bytes, { storage: 'pageable' })
    this.stream.copy(staging, view.buffer)
    await this.stream.synchronize()
    const bytes = staging.read()
    await staging.dispose()
    const end = view.offset + viewBytes(view)
    for (let i = 0; i < bytes.length; i++) {
      if ((i < view.offset || i >= end) && bytes[i] !== guardByte) {
        throw new Error(`byte ${i} was written, the tensor takes ${view.offset} to ${end}`)
      }
    }
    return decode(view.dtype, bytes.slice(view.offset, end))
  }

  #allocate(dtype: DType, shape: readonly number[]): TensorView {
    const width = dtypeBytes[dtype]
    const bytes = elementCount(shape) * width
    const buffer = this.device.allocate(bytes + 2 * this.#guardElements * width, { tag: 'workspace' })
    this.#buffers.push(buffer)
    this.stream.fill(buffer, guardByte)
    return { buffer, offset: this.#guardElements * width, dtype, shape, stride: contiguousStride(shape) }
  }
}

const guardByte = 0xa5

/** ‖actual − expected‖ / ‖expected‖, over all elements. NaN when any of either is. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} elements, expected ${expected.length}`)
  let error = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    error += ((actual[i] as number) - (expected[i] as number)) ** 2
    norm += (expected[i] as number) ** 2
  }
  return Math.sqrt(error / norm)
}

/** How many elements are not the same number; NaN is the same as NaN. toEqual takes seconds for what this does at once. */
export function differences(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} elements, expected ${expected.length}`)
  let count = 0
  for (let i = 0; i < expected.length; i++) if (!Object.is(actual[i], expected[i])) count++
  return count
}

function viewBytes(view: TensorView): number {
  return elementCount(view.shape) * dtypeBytes[view.dtype]
}

const word = new Uint32Array(1)
const float = new Float32Array(word.buffer)

function encode(dtype: DType, values: ArrayLike<number>): Uint8Array {
  switch (dtype) {
    case 'f32':
      return new Uint8Array(Float32Array.from(values).buffer)
    case 'i32':
      return new Uint8Array(Int32Array.from(values).buffer)
    case 'f16':
      return new Uint8Array(Uint16Array.from(values, halfBits).buffer)
    case 'bf16':
      return new Uint8Array(Uint16Array.from(values, bfloatBits).buffer)
    default:
      throw new Error(`no test uses ${dtype}`)
  }
}

function decode(dtype: DType, bytes: Uint8Array): Float64Array {
  const buffer = Uint8Array.from(bytes).buffer
  switch (dtype) {
    case 'f32':
      return Float64Array.from(new Float32Array(buffer))
    case 'i32':
      return Float64Array.from(new Int32Array(buffer))
    case 'f16':
      return Float64Array.from(new Uint16Array(buffer), halfValue)
    case 'bf16':
      return Float64Array.from(new Uint16Array(buffer), (bits) => {
        word[0] = bits << 16
        return float[0] as number
      })
    default:
      throw new Error(`no test uses ${dtype}`)
  }
}

/** The nearest f16 or bf16, ties to even; written from the definition, unlike the kernels' bit operations. */
export function rounded(dtype: DType, value: number): number {
  return decode(dtype, encode(dtype, [value]))[0] as number
}

function bfloatBits(value: number): number {
  float[0] = value
  const bits = word[0] as number
  if (Number.isNaN(value)) return 0x7fc0
  const low = bits & 0xffff
  const high = bits >>> 16
  return low > 0x8000 || (low === 0x8000 && (high & 1) === 1) ? high + 1 : high
}

function halfBits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude >= 65520) return sign | 0x7c00
  // 10 bits of fraction from 2^-14 on; below, steps of 2^-24.
  const exponent = Math.max(Math.floor(Math.log2(Math.max(magnitude, 2 ** -30))), -14)
  const steps = magnitude / 2 ** (exponent - 10)
  const down = Math.floor(steps)
  const rest = steps - down
  const whole = rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down
  // A whole of 1024 and up carries the implicit bit, and a carry of the fraction into the exponent is as it should be.
  return sign | (whole + (exponent + 14) * 1024)
}

function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}
