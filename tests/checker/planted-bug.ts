import type { NativeDevice, OrderViolationKind } from '@spillway/device'

/** A program with one bug, and the same program without it. */
export interface PlantedBug {
  readonly name: string
  /** What the checker must say, in this order; nothing when mended. */
  readonly kinds: readonly OrderViolationKind[]
  /** Names that the report must hold. */
  readonly names: readonly string[]
  /** Ends with everything waited for and disposed. */
  program(device: NativeDevice, mended: boolean): Promise<void>
}

export const page = 4096
export const slotBytes = 4 * page

/** What the programs work with: two streams, a slot, and the host bytes that go there. */
export async function rig(device: NativeDevice) {
  const [compute, copies] = [device.createStream(), device.createStream({ priority: 'high' })]
  const slab = await device.allocateHost(slotBytes, { storage: 'pinned' })
  slab.write(new Uint8Array(slotBytes).fill(7))
  const slot = device.allocate(slotBytes, { tag: 'slot' })
  const output = device.allocate(slotBytes, { tag: 'output' })
  const event = device.createEvent()
  return {
    compute,
    copies,
    slab,
    slot,
    output,
    event,
    /** Lets `later` wait for all that `earlier` was given so far. */
    order(earlier: typeof compute, later: typeof compute): void {
      earlier.record(event)
      later.wait(event)
    },
    async end(): Promise<void> {
      await compute.synchronize()
      await copies.synchronize()
      for (const handle of [compute, copies, slab, slot, output, event]) await handle.dispose()
    },
  }
}
