// @ts-check
import { Copy } from './copy.mjs'
import { Reading } from './reading.mjs'
import { openDevice } from './spillway.mjs'

/** @import { Context } from './benchmark.ts' */
/** @import { Recorder } from './recorder.mjs' */

export const linkName = 'link, pinned host to device'
export const deviceMemoryName = 'device memory, read by a kernel'
const MiB = 2 ** 20

/**
 * The limits that benchmarks are held against, to be measured in the same rounds: the link, by copies from pinned memory,
 * and device memory, read by a kernel, which is faster than a copy within it. On a device of its own, so that budget and
 * counters of what is measured stay clean. Dispose it.
 */
export class Limits {
  #device
  #link
  #deviceMemory
  #countersBefore
  #context

  /** @param {Context} context */
  static async open(context) {
    const { signal } = context
    const device = await openDevice(context.device)
    try {
      const { linkBytes, readBytes } = limitSizes(context, device.budget.limitBytes)
      const link = await Copy.create(device, { from: 'pinned', to: 'device', bytes: linkBytes, signal })
      const deviceMemory = await Reading.create(device, { from: 'device', bytes: readBytes, signal })
      return new Limits(context, { device, link, deviceMemory })
    } catch (error) {
      await device.dispose()
      throw error
    }
  }

  /**
   * @param {Context} context
   * @param {{ device: Awaited<ReturnType<typeof openDevice>>, link: Copy, deviceMemory: Reading }} parts
   */
  constructor(context, { device, link, deviceMemory }) {
    this.#context = context
    this.#device = device
    this.#link = link
    this.#deviceMemory = deviceMemory
    this.#countersBefore = device.counters()
  }

  /** Bytes a second. */
  get linkSampler() {
    return this.#link.sampler({ seconds: limitSeconds(this.#context), signal: this.#context.signal })
  }

  /** Bytes a second. */
  get deviceMemorySampler() {
    return this.#deviceMemory.sampler({ seconds: limitSeconds(this.#context), signal: this.#context.signal })
  }

  /**
   * @param {Recorder} recorder
   * @param {readonly number[]} samples
   */
  static recordLink(recorder, samples) {
    return recorder.figure(linkName, 'bytes/s', samples)
  }

  /**
   * @param {Recorder} recorder
   * @param {readonly number[]} samples
   */
  static recordDeviceMemory(recorder, samples) {
    return recorder.figure(deviceMemoryName, 'bytes/s', samples)
  }

  /**
   * That it was done, by the device's counters and by what came of it.
   * @param {Recorder} recorder
   */
  async check(recorder) {
    const before = this.#countersBefore
    const now = this.#device.counters()
    const overLink = now.hostToDeviceBytes - before.hostToDeviceBytes
    const launches = now.launches - before.launches
    // Without samples there is nothing to see.
    if (this.#link.enqueuedBytes > 0) {
      recorder.checkEqual('bytes of the link limit', overLink, this.#link.enqueuedBytes)
      recorder.check(await this.#link.check('result of the link limit'))
    }
    if (this.#deviceMemory.launches > 0) {
      recorder.checkEqual('launches of the device memory limit', launches, this.#deviceMemory.launches)
      recorder.check(await this.#deviceMemory.check('result of the device memory limit'))
    }
  }

  async dispose() {
    await Promise.all([this.#link.dispose(), this.#deviceMemory.dispose()])
    await this.#device.dispose()
  }
}

/**
 * So large that starting a copy costs nothing beside it, and that no cache holds a part worth mentioning.
 * @param {Context} context
 * @param {number} deviceBytes
 */
export function limitSizes({ device, quick }, deviceBytes) {
  if (quick) return { linkBytes: 4 * MiB, copyBytes: 4 * MiB, readBytes: 4 * MiB }
  if (device === 'host') return { linkBytes: 64 * MiB, copyBytes: 128 * MiB, readBytes: 128 * MiB }
  const most = Math.floor(deviceBytes / 32 / MiB) * MiB
  const [linkBytes, readBytes] = [Math.min(1024 * MiB, most), Math.min(4096 * MiB, most)]
  return { linkBytes, copyBytes: linkBytes, readBytes }
}

/**
 * A wait ends up to a millisecond late (packages/device/native/cuda/stream_queue.cc). Of a limit that would be a gift to
 * what is held against it: of 80 ms it was almost a hundredth.
 * @param {Context} context
 */
function limitSeconds({ quick }) {
  return quick ? 0.004 : 0.5
}

/**
 * Of what is held against limits.
 * @param {Context} context
 */
export function sampleSeconds({ quick }) {
  return quick ? 0.004 : 0.08
}

/** @param {Context} context */
export function roundsOf({ quick }) {
  return quick ? 1 : 4
}
