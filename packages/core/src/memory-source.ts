import type { MemorySource, ResidencySteps, Tag } from './backend.js'
import { reading, readOptions } from './call-options.js'
import type { Device, DeviceBuffer, HostBuffer } from './device.js'
import { SpillwayError } from './errors.js'
import { printable } from './printable.js'
import { misbehaved } from './steps-check.js'

/**
 * What was allocated and not yet disposed, by tag. Holds the buffers: it is how core finds, names and frees what a
 * backend left behind. Counts when asked, so a dispose needs no report.
 */
export class LiveBuffers<B extends DeviceBuffer | HostBuffer> {
  readonly #byTag = new Map<string, Set<B>>()
  #added = 0

  add(tag: string, buffer: B): void {
    let buffers = this.#byTag.get(tag)
    if (buffers === undefined) {
      buffers = new Set()
      this.#byTag.set(tag, buffers)
    }
    buffers.add(buffer)
    // Now and then, so that a caller that allocates and disposes for hours does not fill the set.
    if (++this.#added % 256 === 0) this.#forgetDisposed()
  }

  bytes(tag?: string): number {
    this.#forgetDisposed()
    let sum = 0
    for (const [key, buffers] of this.#byTag) {
      if (tag !== undefined && tag !== key) continue
      for (const buffer of buffers) sum += buffer.bytes
    }
    return sum
  }

  /** Disposes what is left and returns how many bytes that was. */
  async disposeAll(): Promise<number> {
    const bytes = this.bytes()
    const left = [...this.#byTag.values()].flatMap((buffers) => [...buffers])
    this.#byTag.clear()
    await Promise.all(left.map((buffer) => buffer.dispose()))
    return bytes
  }

  #forgetDisposed(): void {
    for (const buffers of this.#byTag.values()) {
      for (const buffer of buffers) if (buffer.disposed) buffers.delete(buffer)
    }
  }
}

/** Device memory with nothing between: no residency backend. `Recovery` has nobody to read it. */
function deviceSource(device: Device, tag: Tag): MemorySource {
  return {
    tag,
    allocate: (bytes, { stream, module }) =>
      device.allocate(bytes, module === undefined ? { tag, stream } : { tag, stream, module }),
  }
}

export interface SourceOptions {
  readonly device: Device
  readonly residency: ResidencySteps | undefined
  readonly live: LiveBuffers<DeviceBuffer>
  /** Throws when the offloader is disposed. */
  readonly check: () => void
  /** Who is named when a buffer is not what was asked for. */
  readonly provider: string
}

/** The residency backend's pool when there is one, else the device; arguments and result checked, live bytes counted. */
export function countedSource(options: SourceOptions, tag: Tag): MemorySource {
  if (typeof tag !== 'string' || tag === '' || tag.length > 100) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `a memory tag is a short name such as weights, not ${printable(tag)}`,
    )
  }
  const { device, residency, live, check, provider } = options
  const inner = residency === undefined ? deviceSource(device, tag) : residency.source(tag)
  const source: MemorySource = {
    tag,
    allocate(bytes, options) {
      check()
      const { stream, module, recovery } = readOptions(options, 'allocate', ['stream', 'module', 'recovery'])
      if (!Number.isSafeInteger(bytes) || bytes < 1) {
        throw new SpillwayError(
          'SPILLWAY_INVALID_ARGUMENT',
          `device memory comes in whole bytes, not ${printable(bytes)}`,
        )
      }
      const kind: unknown = reading('allocate', () => recovery?.kind)
      if (recovery === undefined || (kind !== 'copy' && kind !== 'backed' && kind !== 'rebuild')) {
        throw new SpillwayError(
          'SPILLWAY_INVALID_ARGUMENT',
          `an allocation says how its contents come back after a sleep: copy, backed or rebuild, not ${printable(kind)}`,
        )
      }
      if (stream === undefined) {
        throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', 'an allocation names the stream that uses it first')
      }
      const buffer = inner.allocate(bytes, module === undefined ? { stream, recovery } : { stream, module, recovery })
      if (buffer.bytes < bytes || buffer.storage !== 'device') {
        void buffer.dispose()
        throw misbehaved(provider, `asked for ${bytes} bytes of ${tag}, it gave ${buffer.bytes} of ${buffer.storage}`)
      }
      live.add(tag, buffer)
      return buffer
    },
  }
  return Object.freeze(source)
}
