import {
  type Copy,
  type CopyRange,
  checkSignal,
  type DeviceBuffer,
  type Event,
  type Graph,
  type HostBuffer,
  readOptions,
  SpillwayError,
  type Stream,
  type StreamPriority,
  throwIfAborted,
} from '@spillway/core'
import { addon, type NativeHandle } from './addon.js'
import { readList, restBytes } from './call-options.js'
import { type KernelLaunch, type NativeKernel, readLaunch } from './kernel.js'
import { handleOf, NativeObject } from './native-object.js'

export const priorities: readonly StreamPriority[] = ['low', 'normal', 'high']

export class NativeEvent extends NativeObject implements Event {
  readonly kind = 'event'

  constructor(handle: NativeHandle) {
    super(handle)
  }
}

export class NativeGraph extends NativeObject implements Graph {
  readonly kind = 'graph'
  readonly nodeCount: number

  constructor(handle: NativeHandle) {
    super(handle)
    this.nodeCount = addon().nodeCount(handle)
  }
}

export class NativeStream extends NativeObject implements Stream {
  readonly kind = 'stream'
  readonly priority: StreamPriority

  constructor(handle: NativeHandle, priority: StreamPriority) {
    super(handle)
    this.priority = priority
  }

  get capturing(): boolean {
    return addon().capturing(handleOf(this))
  }

  record(event: Event, options?: { external?: boolean }): void {
    const { external } = readOptions(options, 'record', ['external'])
    addon().record(handleOf(this), handleOf(event), external === true)
  }

  wait(event: Event, options?: { external?: boolean }): void {
    const { external } = readOptions(options, 'wait', ['external'])
    addon().wait(handleOf(this), handleOf(event), external === true)
  }

  copy(to: HostBuffer | DeviceBuffer, from: HostBuffer | DeviceBuffer, range?: CopyRange): void {
    addon().copy(handleOf(this), ...copyOf(to, from, readOptions(range, 'copy', rangeNames)))
  }

  copyBatch(copies: readonly Copy[]): void {
    const stream = handleOf(this)
    addon().copyBatch(stream, readList(copies, 'copyBatch').flatMap(readCopy))
  }

  /** GPU: a kernel that `NativeDevice.loadKernel` loaded. Legal in a capture. */
  launchKernel(kernel: NativeKernel, launch: KernelLaunch): void {
    const stream = handleOf(this)
    const handle = handleOf(kernel)
    const { shape, bytes, accesses } = readLaunch(launch)
    addon().kernelLaunch(stream, handle, shape, bytes, accesses)
  }

  fill(to: HostBuffer | DeviceBuffer, byte: number, range?: { offset?: number; bytes?: number }): void {
    const target = handleOf(to)
    const { offset = 0, bytes } = readOptions(range, 'fill', ['offset', 'bytes'])
    addon().fill(handleOf(this), target, offset, bytes ?? restBytes(to.bytes, offset), byte)
  }

  beginCapture(): void {
    addon().beginCapture(handleOf(this))
  }

  endCapture(): NativeGraph {
    return new NativeGraph(addon().endCapture(handleOf(this)))
  }

  launch(graph: Graph): void {
    addon().launchGraph(handleOf(this), handleOf(graph))
  }

  async synchronize(options?: { signal?: AbortSignal }): Promise<void> {
    const { signal } = readOptions(options, 'synchronize', ['signal'])
    checkSignal(signal, 'synchronize')
    throwIfAborted(signal, 'waiting for a stream')
    const done = addon().notify(handleOf(this))
    if (signal === undefined) return done
    let stop: (() => void) | undefined
    const aborted = new Promise<never>((_, reject) => {
      stop = () =>
        reject(
          new SpillwayError('SPILLWAY_ABORTED', 'waiting for a stream was aborted by its signal; its work goes on', {
            cause: signal.reason,
          }),
        )
      signal.addEventListener('abort', stop, { once: true })
    })
    try {
      await Promise.race([done, aborted])
    } finally {
      if (stop !== undefined) signal.removeEventListener('abort', stop)
    }
  }
}

const rangeNames = ['toOffset', 'fromOffset', 'bytes'] as const

function copyOf(
  to: HostBuffer | DeviceBuffer,
  from: HostBuffer | DeviceBuffer,
  { toOffset = 0, fromOffset = 0, bytes }: CopyRange,
): [NativeHandle, number, NativeHandle, number, number] {
  const target = handleOf(to)
  const source = handleOf(from)
  const rest = Math.min(restBytes(to.bytes, toOffset), restBytes(from.bytes, fromOffset))
  return [target, toOffset, source, fromOffset, bytes ?? rest]
}

function readCopy(copy: Copy): [NativeHandle, number, NativeHandle, number, number] {
  const { to, from, ...range } = readOptions(copy, 'copyBatch', ['to', 'from', ...rangeNames] as const)
  return copyOf(to, from, range)
}
