import { checkSignal, messageOf, printable, readOptions, SpillwayError, writeWhole } from '@spillway/core'
import type { MemoryTrace } from './memory-report.js'

/** What is written of a device; any NativeDevice is one. */
export interface TracedDevice {
  startMemoryTrace(options: { readonly events?: number }): void
  memoryTrace(): MemoryTrace
}

export interface MemoryTraceFileOptions {
  /** At least so long between two writes, and nine times as long as the last one took. Default 1000. */
  readonly everyMs?: number | undefined
  /** The device keeps so many of the last events. Default: as many as startMemoryTrace does. */
  readonly events?: number | undefined
  /** When it fires, the file is written a last time. */
  readonly signal?: AbortSignal | undefined
}

/** Of the time that passes, so much at most is spent writing: a trace of 100,000 events is 20 MB. */
const mostShare = 0.1

/**
 * Starts a trace of `device` and writes it to `path`, now and again and again, for `spillway memory PATH --html PAGE
 * --watch`. Who reads the file finds a whole trace, always (`writeWhole`). The file stays;
 * what this returns is closed before the device is disposed, with a last write. Throws SPILLWAY_INVALID_ARGUMENT, and
 * SPILLWAY_MEMORY_TRACE_FILE when the first write fails.
 */
export async function writeMemoryTrace(
  device: TracedDevice,
  path: string,
  options?: MemoryTraceFileOptions,
): Promise<MemoryTraceFile> {
  const { everyMs = 1000, events, signal } = readOptions(options, 'writeMemoryTrace', ['everyMs', 'events', 'signal'])
  checkSignal(signal, 'writeMemoryTrace')
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `writeMemoryTrace takes a file's path, not ${printable(path)}`)
  }
  // Timers take no more.
  if (typeof everyMs !== 'number' || !(everyMs >= 1 && everyMs < 2 ** 31)) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `writeMemoryTrace: everyMs is a number of milliseconds from 1 to 2^31, not ${printable(everyMs)}`,
    )
  }
  device.startMemoryTrace(events === undefined ? {} : { events })
  const file = new MemoryTraceFile(device, path, everyMs, signal)
  await file.open()
  return file
}

export class MemoryTraceFile implements AsyncDisposable {
  readonly path: string
  readonly #device: TracedDevice
  readonly #everyMs: number
  readonly #signal: AbortSignal | undefined
  #timer: NodeJS.Timeout | undefined
  /** Never rejects. */
  #writing: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | undefined

  /** @internal Of writeMemoryTrace. */
  constructor(device: TracedDevice, path: string, everyMs: number, signal: AbortSignal | undefined) {
    this.#device = device
    this.path = path
    this.#everyMs = everyMs
    this.#signal = signal
  }

  /** @internal */
  async open(): Promise<void> {
    await this.#write()
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (this.#signal?.aborted) this.#onAbort()
    else this.#schedule(0)
  }

  /**
   * Writes a last time; then the device keeps no events any more. Any number of calls are one. Throws what memoryTrace() throws, SPILLWAY_DISPOSED for one: the
   * file is then as it was last written; and SPILLWAY_MEMORY_TRACE_FILE.
   */
  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  readonly #onAbort = (): void => {
    // Who closes it hears what went wrong.
    this.close().catch(() => undefined)
  }

  async #finish(): Promise<void> {
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    await this.#writing
    await this.#write()
    this.#device.startMemoryTrace({ events: 0 })
  }

  #schedule(lastMs: number): void {
    if (this.#closing !== undefined) return
    const wait = Math.max(this.#everyMs, lastMs * (1 / mostShare - 1))
    this.#timer = setTimeout(() => {
      const start = performance.now()
      // A disk that is full now may have room again: the last write says whether it has.
      this.#writing = this.#write()
        .catch(() => undefined)
        .then(() => this.#schedule(performance.now() - start))
    }, wait)
    // A trace is no reason for a process to live on.
    this.#timer.unref()
  }

  async #write(): Promise<void> {
    const text = JSON.stringify(this.#device.memoryTrace())
    try {
      await writeWhole(this.path, text)
    } catch (cause) {
      throw new SpillwayError(
        'SPILLWAY_MEMORY_TRACE_FILE',
        `the memory trace cannot be written to ${printable(this.path)}: ${messageOf(cause)}`,
        { details: { path: this.path }, cause },
      )
    }
  }
}
