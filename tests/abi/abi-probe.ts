import { loadNative } from '@spillway/core'
import { attach, type NativeHandle, type NativeTable } from '@spillway/device'

/** tests/abi/native: an addon that meets the device over its function table only. */
export interface AbiProbe {
  attach(table: unknown, neededBytes?: number): void
  makeTable(major: number, minor: number, structSize: number, tagged: boolean): NativeTable
  makeBox(): unknown
  saxpy(
    stream: NativeHandle,
    x: NativeHandle,
    y: NativeHandle,
    count: number,
    a: number,
    xMode?: number,
    xBytes?: number,
  ): void
  cover(stream: NativeHandle, visits: NativeHandle, count: number, grain: number): void
  context(stream: NativeHandle, out: NativeHandle): void
  noTwin(stream: NativeHandle): void
  keep(buffer: NativeHandle): void
  useKept(stream: NativeHandle, to: NativeHandle): void
  letGo(): void
  fill(stream: NativeHandle, to: NativeHandle, value: number): void
  extension(device: NativeHandle, name: string, minStructSize: number): boolean
  beginCapture(stream: NativeHandle): void
  endCapture(stream: NativeHandle): number
  replay(stream: NativeHandle): void
  dropGraph(): void
  failWithError(device: NativeHandle, errorBytes: number): { status: number; block: Buffer }
  hostileCalls(device: NativeHandle, stream: NativeHandle): number[]
  notify(stream: NativeHandle): void
  notified(): number
}

export const probe: AbiProbe = loadNative<AbiProbe>({ from: import.meta.url, name: 'abi_probe' })
probe.attach(attach())
