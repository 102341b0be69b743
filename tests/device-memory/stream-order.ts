import type { NativeDevice, NativeDeviceBuffer, NativeStream, OpenDeviceOptions } from '@spillway/device'
import { Random } from '../order/random.js'

const KiB = 2 ** 10

interface Item {
  readonly buffer: NativeDeviceBuffer
  readonly value: number
  /** Its last work is here. */
  stream: number
}

/**
 * Random allocations and frees on several streams, whose work nobody waits for until the end: every buffer is filled
 * with a value of its own and copied from, after an event, on another stream. Returns the buffers whose bytes were not
 * theirs: memory that somebody else had too early. turnover: how often memory was used, on average.
 */
export async function runRandomAllocations(
  open: (options: OpenDeviceOptions) => Promise<NativeDevice>,
  seed: number,
  steps: number,
): Promise<{ wrong: string[]; turnover: number }> {
  const random = new Random(seed)
  const device = await open({ memoryLimitBytes: 64 * KiB * KiB })
  const streams: NativeStream[] = [device.createStream(), device.createStream(), device.createStream()]
  const seen = await device.allocateHost(steps * 16, { storage: 'pinned' })
  const expected: number[] = []
  const live: Item[] = []
  let allocatedBytes = 0
  const settings = random.chance(30) ? { allocatorSettings: { expandableSegments: true } } : {}

  const allocate = (): void => {
    const stream = random.below(streams.length)
    const bytes = random.pick([512, 4 * KiB, 100 * KiB, 700 * KiB, 1500 * KiB]) + random.below(2000)
    const buffer = device.allocate(bytes, { tag: 'random', stream: streams[stream]!, ...settings })
    allocatedBytes += bytes
    const value = random.below(250)
    streams[stream]!.fill(buffer, value)
    live.push({ buffer, value, stream })
  }
  // On any stream, after the work before it.
  const read = (item: Item): void => {
    const stream = random.below(streams.length)
    if (stream !== item.stream) {
      const event = device.createEvent()
      streams[item.stream]!.record(event)
      streams[stream]!.wait(event)
      void event.dispose()
    }
    const fromOffset = random.below(item.buffer.bytes - 16)
    streams[stream]!.copy(seen, item.buffer, { toOffset: expected.length * 16, fromOffset, bytes: 16 })
    expected.push(item.value)
    item.stream = stream
  }
  for (let step = 0; step < steps; step++) {
    if (live.length === 0 || random.chance(50)) allocate()
    const at = random.below(live.length)
    if (random.chance(50)) read(live[at]!)
    if (live.length > 12 || random.chance(40)) void live.splice(at, 1)[0]!.buffer.dispose()
    if (random.chance(2)) await random.pick(streams).synchronize()
    if (random.chance(2)) device.releaseCachedMemory()
  }
  for (const stream of streams) await stream.synchronize()
  const bytes = seen.read()
  const wrong = expected.flatMap((value, i) => {
    const got = bytes.subarray(i * 16, i * 16 + 16)
    return got.every((byte) => byte === value) ? [] : [`read ${i}: ${got.join(' ')}, not ${value}`]
  })
  const { peakReservedBytes } = device.memoryStats()
  await Promise.all([...live.map(({ buffer }) => buffer), seen, ...streams].map((one) => one.dispose()))
  device.releaseCachedMemory()
  const { usedBytes, cachedBytes } = device.budget
  if (usedBytes !== 0 || cachedBytes !== 0) wrong.push(`${usedBytes} used and ${cachedBytes} cached bytes are left`)
  const { reservedBytes } = device.memoryStats()
  if (reservedBytes !== 0) wrong.push(`${reservedBytes} bytes are still reserved`)
  await device.dispose()
  return { wrong, turnover: allocatedBytes / peakReservedBytes }
}
