import type { DeviceBuffer, HostBuffer, TensorView } from '@spillway/core'
import { Kernels } from '@spillway/decoder'
import type { NativeDevice, NativeStream } from '@spillway/device'

/** How fast bytes move here; all that Spillway does is measured against these. */
export interface LimitRate {
  readonly name: string
  /** Median of the rounds. */
  readonly bytesPerSecond: number
  readonly leastBytesPerSecond: number
  readonly mostBytesPerSecond: number
}

export interface LimitOptions {
  /** Of one copy. */
  readonly bytes: number
  readonly rounds: number
  readonly signal: AbortSignal
  readonly onProgress?: (done: number, all: number) => void
}

interface Subject {
  readonly name: string
  readonly bytes: number
  readonly enqueue: () => void
}

/** So long that the wait at its end, some tens of microseconds, does not count. */
const sampleMs = 40
const inputs = 4096
const pieceMs = 10

/**
 * So many bytes as the link moves in some milliseconds, of at most `mostBytes` and what the device has room for: measuring
 * with pieces of it takes well below a second, whatever the link.
 */
export async function linkPieceBytes(
  device: NativeDevice,
  storage: 'pinned' | 'pageable',
  { mostBytes, signal }: { readonly mostBytes: number; readonly signal: AbortSignal },
): Promise<number> {
  const most = Math.max(1, Math.min(mostBytes, Math.floor(device.budget.availableBytes / 8)))
  const least = Math.min(2 ** 16, most)
  const options = { bytes: least, rounds: 1, signal }
  await using bench = new Bench(device)
  const [roughly] = await measure(bench, (await bench.copies(storage, options)).slice(0, 1), options)
  return Math.min(most, Math.max(least, Math.round((roughly!.bytesPerSecond * pieceMs) / 1000)))
}

/** The link by copies alone, each way. `storage`: of the host memory. */
export async function measureLink(
  device: NativeDevice,
  storage: 'pinned' | 'pageable',
  options: LimitOptions,
): Promise<readonly [up: LimitRate, down: LimitRate]> {
  await using bench = new Bench(device)
  const [up, down] = await measure(bench, await bench.copies(storage, options), options)
  return [up as LimitRate, down as LimitRate]
}

/** What a step of decoding cannot be faster than. */
export interface StepLimits {
  /** From host memory of this storage to the device. */
  readonly linkBytesPerSecond: number
  readonly storage: 'pinned' | 'pageable'
  /** Device memory, read by a kernel. */
  readonly deviceBytesPerSecond: number
}

/** In well below a second, whatever the link. */
export async function measureStepLimits(
  device: NativeDevice,
  storage: StepLimits['storage'],
  signal: AbortSignal,
): Promise<StepLimits> {
  const room = Math.max(1, Math.floor(device.budget.availableBytes / 8))
  const rateOf = async (wanted: number, subjectOf: (bench: Bench, options: LimitOptions) => Promise<Subject>) => {
    const options = { bytes: Math.min(wanted, room), rounds: 3, signal }
    await using bench = new Bench(device)
    const [limit] = await measure(bench, [await subjectOf(bench, options)], options)
    return limit!.bytesPerSecond
  }
  const pieceBytes = await linkPieceBytes(device, storage, { mostBytes: 2 ** 26, signal })
  return {
    linkBytesPerSecond: await rateOf(pieceBytes, async (bench, options) => (await bench.copies(storage, options))[0]!),
    storage,
    // More than caches hold.
    deviceBytesPerSecond: await rateOf(device.type === 'cuda' ? 2 ** 28 : 2 ** 26, (bench, options) => {
      return bench.reading('device memory', 'device', options)
    }),
  }
}

/**
 * Everything that a backend may come up against: copies of all kinds, and kernels that read. `memoryBytes`: of a piece that
 * does not cross the link, and has to be more than caches hold.
 */
export async function measureLimits(
  device: NativeDevice,
  { memoryBytes, ...options }: LimitOptions & { readonly memoryBytes: number },
): Promise<LimitRate[]> {
  await using bench = new Bench(device)
  const inMemory = { ...options, bytes: memoryBytes }
  const subjects = [
    ...(await bench.copies('pinned', options)),
    await bench.bothWays(options),
    ...(await bench.copies('pageable', options)).slice(0, 1),
    await bench.reading('mapped host memory, read by a kernel', 'mapped', options),
    await bench.reading('device memory, read by a kernel', 'device', inMemory),
    bench.within(inMemory),
  ]
  return await measure(bench, subjects, options)
}

/** What is measured, and all that it takes. */
class Bench implements AsyncDisposable {
  readonly #device: NativeDevice
  readonly streams: readonly [NativeStream, NativeStream]
  readonly #handles: AsyncDisposable[] = []

  constructor(device: NativeDevice) {
    this.#device = device
    this.streams = [this.#keep(device.createStream()), this.#keep(device.createStream())]
  }

  async copies(storage: 'pinned' | 'pageable', { bytes, signal }: LimitOptions): Promise<Subject[]> {
    const [stream] = this.streams
    const host = await this.#host(storage, bytes, signal)
    const device = this.#allocate(bytes)
    return [
      { name: `${storage} host to device`, bytes, enqueue: () => stream.copy(device, host) },
      { name: `device to ${storage} host`, bytes, enqueue: () => stream.copy(host, device) },
    ]
  }

  async bothWays({ bytes, signal }: LimitOptions): Promise<Subject> {
    const [up, down] = this.streams
    const [from, to] = [await this.#host('pinned', bytes, signal), await this.#host('pinned', bytes, signal)]
    const [target, source] = [this.#allocate(bytes), this.#allocate(bytes)]
    const enqueue = (): void => {
      up.copy(target, from)
      down.copy(to, source)
    }
    return { name: 'both ways at once, each', bytes, enqueue }
  }

  /** The decoder's product of a matrix with one row, which reads every byte of it once. */
  async reading(name: string, storage: 'device' | 'mapped', { bytes, signal }: LimitOptions): Promise<Subject> {
    const rows = Math.max(1, Math.floor(bytes / 2 / inputs))
    const weights =
      storage === 'device' ? this.#allocate(2 * rows * inputs) : await this.#host(storage, 2 * rows * inputs, signal)
    const [x, y] = [this.#allocate(4 * inputs), this.#allocate(4 * rows)]
    const kernels = new Kernels()
    const views = {
      x: view(x, 'f32', 1, inputs),
      weight: view(weights, 'bf16', rows, inputs),
      y: view(y, 'f32', 1, rows),
    }
    for (const buffer of [x, weights]) this.streams[0].fill(buffer, 1)
    return { name, bytes: 2 * rows * inputs, enqueue: () => kernels.linear(this.streams[0], views) }
  }

  within({ bytes }: LimitOptions): Subject {
    const [to, from] = [this.#allocate(bytes), this.#allocate(bytes)]
    // Each byte is read and written.
    return { name: 'copy within device memory', bytes: 2 * bytes, enqueue: () => this.streams[0].copy(to, from) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.streams.map((stream) => stream.synchronize().catch(() => undefined)))
    await Promise.all(this.#handles.map((handle) => handle[Symbol.asyncDispose]()))
  }

  async #host(storage: 'pinned' | 'pageable' | 'mapped', bytes: number, signal: AbortSignal): Promise<HostBuffer> {
    const buffer = this.#keep(await this.#device.allocateHost(bytes, { storage, signal }))
    // Memory that was never written may be one page of zeros.
    const piece = new Uint8Array(Math.min(bytes, 2 ** 20)).fill(1)
    for (let offset = 0; offset < bytes; offset += piece.length) {
      buffer.write(piece.subarray(0, Math.min(piece.length, bytes - offset)), offset)
    }
    return buffer
  }

  #allocate(bytes: number): DeviceBuffer {
    return this.#keep(this.#device.allocate(bytes, { tag: 'workspace' }))
  }

  #keep<T extends AsyncDisposable>(handle: T): T {
    this.#handles.push(handle)
    return handle
  }
}

/** Rounds of A B C … C B A: what drifts meanwhile falls on all alike. */
async function measure(
  { streams }: Bench,
  subjects: readonly Subject[],
  { rounds, signal, onProgress }: LimitOptions,
): Promise<LimitRate[]> {
  const wait = async (): Promise<void> => {
    await Promise.all(streams.map((stream) => stream.synchronize({ signal })))
  }
  const time = async ({ enqueue }: Subject, count: number): Promise<number> => {
    await wait()
    const start = performance.now()
    for (let i = 0; i < count; i++) enqueue()
    await wait()
    return performance.now() - start
  }
  const counts = new Map<Subject, number>()
  for (const subject of subjects) {
    // Once for the memory to be touched, once to see how long it takes.
    await time(subject, 1)
    counts.set(subject, Math.max(1, Math.ceil(sampleMs / Math.max(await time(subject, 1), 0.01))))
  }
  const rates = new Map<Subject, number[]>(subjects.map((subject) => [subject, []]))
  for (let round = 0; round < rounds; round++) {
    onProgress?.(round, rounds)
    for (const subject of round % 2 === 0 ? subjects : [...subjects].reverse()) {
      const count = counts.get(subject) as number
      rates.get(subject)?.push((subject.bytes * count * 1000) / (await time(subject, count)))
    }
  }
  return subjects.map((subject) => {
    const sorted = (rates.get(subject) as number[]).sort((a, b) => a - b)
    const at = (index: number): number => Math.round(sorted[index] as number)
    return {
      name: subject.name,
      bytesPerSecond: at(Math.floor(rounds / 2)),
      leastBytesPerSecond: at(0),
      mostBytesPerSecond: at(rounds - 1),
    }
  })
}

function view(
  buffer: DeviceBuffer | HostBuffer,
  dtype: TensorView['dtype'],
  rows: number,
  columns: number,
): TensorView {
  return { buffer, offset: 0, dtype, shape: [rows, columns], stride: [columns, 1] }
}
