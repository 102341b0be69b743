// @ts-check
import { Copy } from './copy.mjs'
import { openDevice } from './spillway.mjs'

/** @import { Context } from './benchmark.ts' */
/** @import { Recorder } from './recorder.mjs' */

export const linkName = 'link, pinned host to device'
export const deviceMemoryName = 'device memory, copy within it'
const MiB = 2 ** 20

/**
 * The limits that benchmarks are held against, to be measured in the same rounds: the link from pinned memory, and
 * device memory by copies within it, read and written bytes counted. On a device of its own, so that budget and
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
      const { linkBytes, deviceMemoryBytes } = copySizes(context, device.budget.limitBytes)
      const link = await Copy.create(device, { from: 'pinned', to: 'device', bytes: linkBytes, signal })
      const deviceMemory = await Copy.create(device, { from: 'device', to: 'device', bytes: deviceMemoryBytes, signal })
      return new Limits(context, { device, link, deviceMemory })
    } catch (error) {
      await device.dispose()
      throw error
    }
  }

  /**
   * @param {Context} context
   * @param {{ device: Awaited<ReturnType<typeof openDevice>>, link: Copy, deviceMemory: Copy }} parts
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
    return this.#link.sampler({ seconds: sampleSeconds(this.#context), signal: this.#context.signal })
  }

  /** Bytes a second. */
  get deviceMemorySampler() {
    return this.#deviceMemory.sampler({ seconds: sampleSeconds(this.#context), signal: this.#context.signal })
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
   * That the copies were done, by the bytes in their targets and by the device's counters.
   * @param {Recorder} recorder
   */
  async check(recorder) {
    const before = this.#countersBefore
    const now = this.#device.counters()
    const overLink = now.hostToDeviceBytes - before.hostToDeviceBytes
    const within = now.deviceToDeviceBytes - before.deviceToDeviceBytes
    recorder.checkEqual('bytes of the link limit', overLink, this.#link.enqueuedBytes)
    recorder.checkEqual('bytes of the device memory limit', within, this.#deviceMemory.enqueuedBytes)
    // What was not measured was not copied.
    if (overLink > 0) recorder.check(await this.#link.check('result of the link limit'))
    if (within > 0) recorder.check(await this.#deviceMemory.check('result of the device memory limit'))
  }

  async dispose() {
    await Promise.all([this.#link.dispose(), this.#deviceMemory.dispose()])
    await this.#device.dispose()
  }
}

/**
 * Large enough that starting a copy costs nothing beside it, and that no cache holds what is copied within the device.
 * @param {Context} context
 * @param {number} deviceBytes
 */
export function copySizes({ device, quick }, deviceBytes) {
  if (quick) return { linkBytes: 4 * MiB, deviceMemoryBytes: 4 * MiB }
  if (device === 'host') return { linkBytes: 64 * MiB, deviceMemoryBytes: 128 * MiB }
  return { linkBytes: 256 * MiB, deviceMemoryBytes: Math.min(1024, Math.floor(deviceBytes / 64 / MiB)) * MiB }
}

/**
 * Long beside the wait at the end of a sample, which takes tens of microseconds.
 * @param {Context} context
 */
export function sampleSeconds({ quick }) {
  return quick ? 0.004 : 0.08
}

/** @param {Context} context */
export function roundsOf({ quick }) {
  return quick ? 1 : 4
}
