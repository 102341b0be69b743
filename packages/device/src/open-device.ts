import { availableParallelism, release } from 'node:os'
import { type DeviceCapabilities, printable, readEnvironment, readOptions, SpillwayError } from '@spillway/core'
import { addon } from './addon.js'
import { resolveAllocatorSettings } from './allocator-settings.js'
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
  /**
   * Host device: which machine it passes for, in what decides whether host memory is pinned. Default: it pins, and is
   * none of the others. Without `pinnedMemory` there is no mapped memory either; with `unifiedMemory` kernels read any
   * host memory in place.
   */
  readonly capabilities?: PretendedCapabilities
}

export type PretendedCapabilities = Partial<
  Pick<DeviceCapabilities, 'pinnedMemory' | 'unifiedMemory' | 'confidentialComputing' | 'wsl'>
>

const optionNames = [
  'memoryLimitBytes',
  'threads',
  'linkBytesPerSecond',
  'linkLatencyMs',
  'check',
  'adversarialSeed',
  'injectFailure',
  'capabilities',
] as const
const pretendedNames = ['pinnedMemory', 'unifiedMemory', 'confidentialComputing', 'wsl'] as const

/** What the NVIDIA driver shows. */
export interface CudaStatus {
  readonly available: boolean
  /** Why not; empty when available. */
  readonly reason: string
  /** 13000 is CUDA 13.0; 0 without a driver. */
  readonly driverVersion: number
  readonly gpus: readonly {
    readonly name: string
    readonly totalBytes: number
    /** What nobody uses now, other processes counted too. */
    readonly freeBytes: number
    /** 90 is compute capability 9.0. */
    readonly computeCapability: number
  }[]
}

/** Is there a GPU to use, and if not, why. Loads the driver on the first call. */
export function cudaStatus(): CudaStatus {
  return addon().cudaStatus()
}

/** How often this process has called the NVIDIA driver through Spillway: what enqueueing costs is mostly these calls. */
export function cudaDriverCalls(): number {
  return addon().cudaDriverCalls()
}

/** Memory of the machine, by the kernel's estimate and the control group's limit. */
export function systemMemory(): { totalBytes: number; availableBytes: number } {
  return addon().systemMemory()
}

/**
 * Opens a device: `host`, `cuda` or `cuda:<index>` (an NVIDIA GPU, in the driver's order; CUDA_VISIBLE_DEVICES is
 * respected), or `auto`: the first GPU, or the host device where there is none and where an option or a variable asks for
 * what only that one can do. Throws SPILLWAY_DEVICE_UNAVAILABLE with the reason, SPILLWAY_NOT_SUPPORTED for an
 * option that the device does not have, SPILLWAY_INVALID_ARGUMENT for anything else.
 */
export async function openDevice(selector = 'auto', options?: OpenDeviceOptions): Promise<NativeDevice> {
  const given = readOptions(options, 'openDevice', optionNames)
  if (selector === 'host') return openHostDevice(given)
  if (selector === 'auto')
    return asksForHost(given) || !cudaStatus().available ? openHostDevice(given) : openCudaDevice('cuda', 0, given)
  const index = typeof selector === 'string' ? /^cuda(?::(\d{1,4}))?$/.exec(selector) : null
  if (index === null) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `there is no device ${printable(selector)}; it is auto, host, cuda or cuda:<index>`,
    )
  }
  return openCudaDevice(selector, Number(index[1] ?? 0), given)
}

function asksForHost({ memoryLimitBytes: _, ...hostOnly }: OpenDeviceOptions): boolean {
  const { check, adversarialSeed } = readEnvironment()
  const asked = Object.values(hostOnly).some((value) => value !== undefined && value !== false)
  return asked || check || adversarialSeed !== undefined
}

function openCudaDevice(selector: string, index: number, given: OpenDeviceOptions): NativeDevice {
  const { available, reason, gpus } = cudaStatus()
  if (!available || index >= gpus.length) {
    const why = available ? `the driver shows ${gpus.length} GPU(s), numbered from 0` : reason
    throw new SpillwayError(
      'SPILLWAY_DEVICE_UNAVAILABLE',
      `${selector} cannot be used: ${why}. Use the host device, or let auto choose`,
    )
  }
  const { memoryLimitBytes, ...hostOnly } = given
  for (const [name, value] of Object.entries(hostOnly)) {
    if (value === undefined || value === false) continue
    throw new SpillwayError('SPILLWAY_NOT_SUPPORTED', `${name} is an option of the host device; leave it out for a GPU`)
  }
  if (memoryLimitBytes !== undefined)
    requireWithin('memoryLimitBytes', memoryLimitBytes, 1, Number.MAX_SAFE_INTEGER, true)
  const settings = resolveAllocatorSettings()
  const handle = addon().openCuda(index, memoryLimitBytes ?? 0)
  addon().setDefaultSettings(handle, settings)
  const { unifiedMemory, confidentialComputing, virtualMemory } = addon().capabilities(handle)
  const capabilities: DeviceCapabilities = {
    pinnedMemory: true,
    mappedMemory: true,
    unifiedMemory,
    confidentialComputing,
    wsl: isWsl(),
    virtualMemory,
    graphs: true,
  }
  return new NativeDevice(handle, 'cuda', capabilities, false)
}

// The driver of Windows, seen through Linux, pins little memory or none.
function isWsl(): boolean {
  return /microsoft/i.test(release())
}

function openHostDevice(given: OpenDeviceOptions): NativeDevice {
  const memoryLimitBytes = given.memoryLimitBytes ?? systemMemory().totalBytes
  const threads = given.threads ?? availableParallelism()
  requireWithin('memoryLimitBytes', memoryLimitBytes, 1, Number.MAX_SAFE_INTEGER, true)
  requireWithin('threads', threads, 1, 1024, true)
  const { linkBytesPerSecond, linkLatencyMs = 0 } = given
  if (linkBytesPerSecond !== undefined) requireWithin('linkBytesPerSecond', linkBytesPerSecond, 1, 1e15, false)
  requireWithin('linkLatencyMs', linkLatencyMs, 0, 60_000, false)
  const environment = readEnvironment()
  const { check = environment.check, adversarialSeed = environment.adversarialSeed, injectFailure } = given
  if (typeof check !== 'boolean') {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `check is true or false, not ${printable(check)}`)
  }
  if (adversarialSeed !== undefined) requireWithin('adversarialSeed', adversarialSeed, 0, 2 ** 32 - 1, true)
  const failure = injectFailure === undefined ? undefined : checkInjectedFailure(injectFailure)
  const latencySeconds = linkLatencyMs / 1000
  const rate = linkBytesPerSecond ?? 0
  const settings = resolveAllocatorSettings()
  const pretended = checkPretended(given.capabilities)
  const { pinnedMemory = true, unifiedMemory = false } = pretended
  const handle = addon().openHost(
    memoryLimitBytes,
    threads,
    rate,
    latencySeconds,
    adversarialSeed,
    check,
    pinnedMemory,
    unifiedMemory,
  )
  addon().setDefaultSettings(handle, settings)
  const capabilities: DeviceCapabilities = {
    pinnedMemory,
    mappedMemory: pinnedMemory,
    unifiedMemory,
    confidentialComputing: pretended.confidentialComputing ?? false,
    wsl: pretended.wsl ?? false,
    virtualMemory: true,
    graphs: true,
  }
  const device = new NativeDevice(handle, 'host', capabilities, check)
  if (failure !== undefined) device.failures.arm(failure)
  return device
}

function checkPretended(capabilities: PretendedCapabilities | undefined): PretendedCapabilities {
  const pretended = readOptions(capabilities, 'capabilities', pretendedNames)
  for (const [name, value] of Object.entries(pretended)) {
    if (value === undefined || typeof value === 'boolean') continue
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `capabilities.${name} is true or false, not ${printable(value)}`,
    )
  }
  return pretended
}

function requireWithin(name: string, value: number, least: number, most: number, whole: boolean): void {
  if (typeof value !== 'number' || !(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${name} must be a ${whole ? 'whole ' : ''}number from ${least} to ${most}, not ${printable(value)}`,
    )
  }
}
