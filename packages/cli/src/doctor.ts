import { readFileSync } from 'node:fs'
import { formatBytes } from '@spillway/core'
import { Kernels } from '@spillway/decoder'
import {
  type CudaStatus,
  cudaStatus,
  currentAllocatorSettings,
  type NativeDevice,
  systemMemory,
} from '@spillway/device'
import { createRegistry } from './backends.js'
import { linkPieceBytes, measureLink } from './limits.js'
import { formatRate } from './output.js'
import { type Invocation, matrixLibraryOf, openSelectedDevice, pinDecision } from './session.js'

/** `spillway doctor`: what is here and, where something is not, why not. */
export async function doctor({ given, output, signal }: Invocation): Promise<void> {
  const device = await openSelectedDevice(given)
  try {
    const pin = pinDecision(device, given)
    const kernels = new Kernels({ device, ...matrixLibraryOf(given) })
    const report = {
      node: process.version,
      device: {
        name: device.name,
        type: device.type,
        limitBytes: device.budget.limitBytes,
        availableBytes: device.budget.availableBytes,
      },
      cuda: cudaStatus(),
      pinned: pin,
      memory: { ...systemMemory(), lockableBytes: lockableBytes() },
      allocator: allocatorSettings(),
      link: await linkRates(device, pin.pin, signal),
      kernels: kernels.describe(),
      instructionSet: kernels.instructionSet,
      matrixProducts: kernels.matrixProducts,
      backends: await describeBackends(),
    }
    output.object(report)
    for (const line of lines(report)) output.line(line)
  } finally {
    await device.dispose()
  }
}

type Report = {
  readonly node: string
  /** The one that `run` with the same options would use. */
  readonly device: {
    readonly name: string
    readonly type: 'host' | 'cuda'
    readonly limitBytes: number
    readonly availableBytes: number
  }
  readonly cuda: CudaStatus
  readonly pinned: { readonly pin: boolean; readonly reason: string }
  readonly memory: {
    readonly totalBytes: number
    readonly availableBytes: number
    readonly lockableBytes: number | 'unlimited' | 'unknown'
  }
  readonly allocator: Readonly<Record<string, unknown>>
  readonly link: LinkRates
  readonly kernels: readonly { readonly name: string; readonly image: string; readonly hostTwin: boolean }[]
  readonly instructionSet: string
  /** Who computes products of many rows, and why. */
  readonly matrixProducts: string
  readonly backends: readonly { readonly name: string; readonly available: boolean; readonly reason?: string }[]
}

function lines(report: Report): string[] {
  const { device, cuda, memory, link, kernels } = report
  const images = kernels.filter(({ image }) => image !== 'none').length
  return [
    `node      ${report.node}`,
    `device    ${device.name}: ${formatBytes(device.availableBytes)} available of a limit of ${formatBytes(device.limitBytes)}`,
    ...(cuda.available ? cuda.gpus.map(describeGpu) : [`gpu       none: ${cuda.reason}`]),
    `pinning   ${report.pinned.pin ? 'yes' : 'no'}: ${report.pinned.reason}`,
    `memory    ${formatBytes(memory.availableBytes)} available of ${formatBytes(memory.totalBytes)}; ` +
      `lockable: ${typeof memory.lockableBytes === 'number' ? formatBytes(memory.lockableBytes) : memory.lockableBytes}`,
    `allocator ${Object.entries(report.allocator)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
    `link      host to device ${formatRate(link.hostToDeviceBytesPerSecond)}, back ${formatRate(link.deviceToHostBytesPerSecond)} ` +
      `(${link.storage}, median of ${link.rounds} rounds, copies of ${formatBytes(link.bytes)})`,
    `kernels   ${kernels.length} host twins (${report.instructionSet}), ${images} with an image for a GPU`,
    `products  ${report.matrixProducts}`,
    ...report.backends.map(({ name, available, reason }) => `backend   ${name}${available ? '' : `: ${reason}`}`),
  ]
}

/** What holds for device memory in this process; JSON has no Infinity. */
function allocatorSettings(): Report['allocator'] {
  const { maxSplitSizeMb, roundupPower2Divisions, ...rest } = currentAllocatorSettings()
  const [first, ...others] = roundupPower2Divisions
  return {
    maxSplitSizeMb: Number.isFinite(maxSplitSizeMb) ? maxSplitSizeMb : 'unlimited',
    ...rest,
    roundupPower2Divisions: others.every((divisions) => divisions === first) ? first : roundupPower2Divisions,
  }
}

/** With the memory that other processes hold, whatever this one's limit is. */
function describeGpu(
  { name, freeBytes, totalBytes, computeCapability }: CudaStatus['gpus'][number],
  index: number,
): string {
  const capability = `${Math.floor(computeCapability / 10)}.${computeCapability % 10}`
  return (
    `gpu       cuda:${index}: ${name}, compute capability ${capability}, ` +
    `${formatBytes(freeBytes)} free of ${formatBytes(totalBytes)}`
  )
}

/** RLIMIT_MEMLOCK of this process, in bytes where there is a limit. */
function lockableBytes(): number | 'unlimited' | 'unknown' {
  try {
    const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? 'unknown' : soft === 'unlimited' ? soft : Number(soft)
  } catch {
    return 'unknown'
  }
}

interface LinkRates {
  readonly hostToDeviceBytesPerSecond: number
  readonly deviceToHostBytesPerSecond: number
  readonly bytes: number
  readonly rounds: number
  readonly storage: 'pinned' | 'pageable'
}

/** Copies of 64 MiB, or of less on a slow link or a small device. `spillway bench link` measures longer, and more. */
async function linkRates(device: NativeDevice, pin: boolean, signal: AbortSignal): Promise<LinkRates> {
  const [storage, rounds] = [pin ? 'pinned' : 'pageable', 3] as const
  const bytes = await linkPieceBytes(device, storage, { mostBytes: 2 ** 26, signal })
  const [up, down] = await measureLink(device, storage, { bytes, rounds, signal })
  return {
    hostToDeviceBytesPerSecond: up.bytesPerSecond,
    deviceToHostBytesPerSecond: down.bytesPerSecond,
    bytes,
    rounds,
    storage,
  }
}

async function describeBackends(): Promise<Report['backends']> {
  const registry = await createRegistry()
  return Promise.all(
    registry.known().map(async ({ name, install }) => {
      try {
        await registry.resolve(name)
        return { name, available: true }
      } catch (error) {
        const reason = install === undefined ? String(error) : `not installed; install it with: ${install}`
        return { name, available: false, reason }
      }
    }),
  )
}
