import { formatBytes } from '@spillway/core'
import { linkPieceBytes, measureLimits } from './limits.js'
import { formatRate } from './output.js'
import { type Invocation, openSelectedDevice } from './session.js'

/** `spillway bench link`: the limits of this machine, which everything else is held against. */
export async function benchLink({ given, output, signal }: Invocation): Promise<void> {
  await using device = await openSelectedDevice(given)
  // Five buffers of the device's at once, and some room.
  const most = Math.floor(device.budget.availableBytes / 16)
  const size = given.size as number | undefined
  const mostBytes = Math.max(1, Math.min(size ?? defaultBytes(device.type), most))
  const bytes = size === undefined ? await linkPieceBytes(device, 'pinned', { mostBytes, signal }) : mostBytes
  const limits = await measureLimits(device, {
    bytes,
    memoryBytes: mostBytes,
    rounds: (given.rounds as number | undefined) ?? 5,
    signal,
    onProgress: (done, all) => output.progress(`measuring: round ${done + 1} of ${all}`),
  })
  output.endProgress()
  output.object({ device: device.name, bytes, limits })
  output.line(`${device.name}, pieces of ${formatBytes(bytes)}, median (least to most)`)
  const width = Math.max(...limits.map(({ name }) => name.length))
  for (const { name, bytesPerSecond, leastBytesPerSecond, mostBytesPerSecond } of limits) {
    const range = `${formatRate(leastBytesPerSecond)} to ${formatRate(mostBytesPerSecond)}`
    output.line(`${name.padEnd(width)}  ${formatRate(bytesPerSecond)} (${range})`)
  }
}

function defaultBytes(type: 'host' | 'cuda'): number {
  return type === 'cuda' ? 2 ** 28 : 2 ** 26
}
