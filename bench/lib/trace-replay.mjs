// @ts-check
import { openDevice, withAllocatorSettings } from './spillway.mjs'
import { using } from './using.mjs'

/** @import { AllocatorSettings, MemoryStats, NativeDevice, NativeDeviceBuffer, NativeStream } from '../../packages/device/dist/index.js' */
/** @import { Context } from './benchmark.ts' */
/** @import { ReplayableTrace, TraceOperation } from './memory-trace.ts' */

/** Of a block on the host device, whose memory should not have to be there: the allocator sees no difference. */
const hostWorkBytes = 64 * 2 ** 10

/**
 * Replays a trace on a device of its own, so that every count is the trace's. `left`: what is reserved when all is freed
 * and what was cached has been given back.
 * @param {Context} context
 * @param {ReplayableTrace} trace
 * @param {AllocatorSettings} settings
 * @returns {Promise<{ stats: MemoryStats, left: number }>}
 */
export function replayTrace(context, trace, settings) {
  return using(async (use) => {
    const device = use(await openDevice(context.device))
    const replay = use(new Replay(device, trace, context.signal))
    return await withAllocatorSettings(settings, async () => {
      for (const operation of trace.operations) await replay.do(operation)
      const stats = device.memoryStats()
      await replay.freeAll()
      device.releaseCachedMemory()
      return { stats, left: device.memoryStats().reservedBytes }
    })
  })
}

/** What a trace's program holds. */
class Replay {
  #device
  #signal
  #event
  /** @type {Map<number, NativeStream>} */
  #streams = new Map()
  /** @type {Map<number, { buffer: NativeDeviceBuffer, stream: NativeStream }>} */
  #live = new Map()
  /** @type {Promise<void>[]} */
  #disposals = []

  /**
   * @param {NativeDevice} device
   * @param {ReplayableTrace} trace
   * @param {AbortSignal} signal
   */
  constructor(device, { streams }, signal) {
    this.#device = device
    this.#signal = signal
    this.#event = device.createEvent()
    for (const stream of streams) this.#streams.set(stream, device.createStream())
  }

  /** @param {TraceOperation} one */
  do(one) {
    switch (one.operation) {
      case 'allocate': {
        const stream = this.#stream(one.stream)
        const buffer = this.#device.allocate(one.bytes, { tag: one.tag, stream })
        this.#live.set(one.id, { buffer, stream })
        this.#work(stream, buffer)
        return undefined
      }
      case 'use': {
        const { buffer, stream } = this.#block(one.id)
        const other = this.#stream(one.stream)
        stream.record(this.#event)
        other.wait(this.#event)
        this.#work(other, buffer)
        return undefined
      }
      case 'free':
        this.#disposals.push(this.#block(one.id).buffer.dispose())
        this.#live.delete(one.id)
        return undefined
      case 'synchronize':
        return this.#synchronize()
    }
  }

  async freeAll() {
    for (const { buffer } of this.#live.values()) this.#disposals.push(buffer.dispose())
    this.#live.clear()
    await this.#synchronize()
  }

  async dispose() {
    await this.freeAll()
    await this.#event.dispose()
    for (const stream of this.#streams.values()) await stream.dispose()
  }

  async #synchronize() {
    for (const stream of this.#streams.values()) await stream.synchronize({ signal: this.#signal })
    await Promise.all(this.#disposals.splice(0))
  }

  /**
   * @param {NativeStream} stream
   * @param {NativeDeviceBuffer} buffer
   */
  #work(stream, buffer) {
    const bytes = this.#device.type === 'host' ? Math.min(buffer.bytes, hostWorkBytes) : buffer.bytes
    stream.fill(buffer, 0, { bytes })
  }

  /** @param {number} number */
  #stream(number) {
    const stream = this.#streams.get(number)
    if (stream === undefined) throw new Error(`the trace has no stream ${number}`)
    return stream
  }

  /** @param {number} id */
  #block(id) {
    const block = this.#live.get(id)
    if (block === undefined) throw new Error(`the trace uses block ${id}, which is not live`)
    return block
  }
}
