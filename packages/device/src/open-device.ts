import { availableParallelism } from 'node:os'
import { type DeviceCapabilities, readEnvironment, SpillwayError } from '@spillway/core'
import { addon } from './addon.js'
import { NativeDevice } from './device.js'
import { checkInjectedFailure, type InjectedFailure } from './failure-injection.js'

export interface OpenDeviceOptions {
  /** Cap on physical device bytes. Default, on the host device: the memory of the machine. */
  readonly memoryLimitBytes?: number
  /** Host device: threads that host twins share. Default: one a processor. */
  readonly threads?: number
  /** Host device: rate of the link, each way. Default: as fast as the processor copies. */
  readonly linkBytesPerSecond?: number
  /** Host device: added to every copy over the link. */
  readonly linkLatencyMs?: number
  /**
   * Host device: check that streams, events and waits order every access after those it conflicts with, and that
   * kernels touch what they declare. Several times slower. Default: the variable SPILLWAY_CHECK.
   */
  readonly check?: boolean
  /**
   * Host device, a whole number below 2^32: do nothing before somebody waits for it, and then in the worst order that
   * events allow, drawn from this seed; tear copies, hand freed memory out again at once. One program and one seed
   * always give one order. Default: the variable SPILLWAY_ADVERSARIAL_SEED, or work as fast as possible.
   */
  readonly adversarialSeed?: number
  /** Host device: the first failure to inject; more through `device.failures`. */
  readonly injectFailure?: InjectedFailure
}

/** Is there a GPU to use, and if not, why. Loads the driver on the first call. */
export function cudaStatus(): { available: boolean; reason: string } {
  return addon().cudaStatus()
}

/** Memory of the machine, by the kernel's estimate and the control group's limit. */
export function systemMemory(): { totalBytes: number; availableBytes: number } {
  return addon().systemMemory()
}

/**
 * Opens a device: `host`, `cuda`, `cuda:<index>`, or `auto` (a GPU when one can be used, else the host device).
 * Throws SPILLWAY_DEVICE_UNAVAILABLE with the reason, SPILLWAY_INVALID_ARGUMENT for anything else.
 */
export async function openDevice(selector = 'auto', options: OpenDeviceOptions = {}): Promise<NativeDevice> {
  if (/^cuda(:\d+)?$/.test(selector)) {
    throw new SpillwayError(
      'SPILLWAY_DEVICE_UNAVAILABLE',
      `${selector} cannot be used: ${cudaStatus().reason}. Use the host device, or let auto choose`,
    )
  }
  if (selector !== 'host' && selector !== 'auto') {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `there is no device '${selector}'; it is auto, host, cuda or cuda:<index>`,
    )
  }
  return openHostDevice(options)
}

function openHostDevice(options: OpenDeviceOptions): NativeDevice {
  const memoryLimitBytes = options.memoryLimitBytes ?? systemMemory().totalBytes
  const threads = options.threads ?? availableParallelism()
  requireWithin('memoryLimitBytes', memoryLimitBytes, 1, Number.MAX_SAFE_INTEGER, true)
  requireWithin('threads', threads, 1, 1024, true)
  const { linkBytesPerSecond = 0, linkLatencyMs = 0 } = options
  if (options.linkBytesPerSecond !== undefined) requireWithin('linkBytesPerSecond', linkBytesPerSecond, 1, 1e15, false)
  requireWithin('linkLatencyMs', linkLatencyMs, 0, 60_000, false)
  const environment = readEnvironment()
  const { check = environment.check, adversarialSeed = environment.adversarialSeed, injectFailure } = options
  if (typeof check !== 'boolean') {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `check is true or false, not ${String(check)}`)
  }
  if (adversarialSeed !== undefined) requireWithin('adversarialSeed', adversarialSeed, 0, 2 ** 32 - 1, true)
  if (injectFailure !== undefined) checkInjectedFailure(injectFailure)
  const latencySeconds = linkLatencyMs / 1000
  const handle = addon().openHost(memoryLimitBytes, threads, linkBytesPerSecond, latencySeconds, adversarialSeed, check)
  const capabilities: DeviceCapabilities = {
    pinnedMemory: true,
    mappedMemory: true,
    unifiedMemory: false,
    confidentialComputing: false,
    wsl: false,
    virtualMemory: true,
    graphs: true,
  }
  const device = new NativeDevice(handle, 'host', capabilities, check)
  if (injectFailure !== undefined) device.failures.arm(injectFailure)
  return device
}

function requireWithin(name: string, value: number, least: number, most: number, whole: boolean): void {
  if (typeof value !== 'number' || !(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${name} must be a ${whole ? 'whole ' : ''}number from ${least} to ${most}, not ${String(value)}`,
    )
  }
}
