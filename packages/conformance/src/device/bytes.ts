import type { DeviceBuffer, HostBuffer, HostStorage, Stream } from '@spillway/core'
import { ensure } from '../assert.js'
import { pattern } from '../model.js'
import type { Rig } from '../rig.js'

/** Host storage that the device has. */
export function hostStorages({ device: { capabilities } }: Rig): HostStorage[] {
  return [
    ...(capabilities.mappedMemory ? (['mapped'] as const) : []),
    ...(capabilities.pinnedMemory ? (['pinned'] as const) : []),
    'pageable',
  ]
}

/** Host memory with a pattern in it. */
export async function hostBuffer(
  rig: Rig,
  storage: HostStorage,
  bytes: number,
  seed: number,
): Promise<{ buffer: HostBuffer; bytes: Uint8Array }> {
  const buffer = rig.keep(await rig.device.allocateHost(bytes, { storage }))
  const content = pattern(seed, bytes)
  buffer.write(content)
  return { buffer, bytes: content }
}

export function deviceBuffer(rig: Rig, bytes: number, tag = 'test'): DeviceBuffer {
  return rig.keep(rig.device.allocate(bytes, { tag, stream: rig.compute }))
}

/** All bytes of a buffer, after what is enqueued on the compute stream. */
export async function bytesOf(rig: Rig, buffer: HostBuffer | DeviceBuffer): Promise<Uint8Array> {
  return (await rig.read([{ buffer, offset: 0, dtype: 'u8', shape: [buffer.bytes], stride: [1] }]))[0]!
}

/** The one value that all bytes have. */
export function uniform(bytes: Uint8Array, what: string): number {
  const first = bytes[0]!
  const other = bytes.findIndex((byte) => byte !== first)
  ensure(other < 0, `${what}: byte ${other} is ${bytes[other]}, byte 0 is ${first}`)
  return first
}

/** Orders `later` after everything enqueued on `earlier`. */
export function order(rig: Rig, earlier: Stream, later: Stream): void {
  const event = rig.device.createEvent()
  earlier.record(event)
  later.wait(event)
  void event.dispose()
}
