import {
  type BackendContext,
  type Copy,
  type DeviceBuffer,
  extentBytes,
  type HostBuffer,
  isSpillwayError,
  type Slab,
  type Stream,
  type TensorView,
} from '@spillway/core'
import type { PrefetchAddon } from './native-ring.js'
import { explainOutOfMemory } from './out-of-memory.js'
import { gatherScatter, type TensorMove } from './tensor-moves.js'

export interface SlabFilling {
  readonly addon: PrefetchAddon
  readonly context: BackendContext
  /** For error texts. */
  readonly module: string
  /** To be filled; the host slab may lie over `old`. */
  readonly offloaded: Slab<HostBuffer> | undefined
  readonly resident: Slab<DeviceBuffer> | undefined
  /** Where the bytes of every parameter of both slabs are now, by name. Borrowed until the promise settles. */
  readonly sources: ReadonlyMap<string, TensorView>
  /** Names of those that are not what they were. */
  readonly replaced: ReadonlySet<string>
  /** The host slab that is replaced. */
  readonly old: HostBuffer | undefined
  /** Device bytes that nobody else needs yet. */
  readonly roomBytes: number
}

/**
 * Gives new slabs their bytes, put together on the device: tensors that lie there go to their places in one launch, what
 * lies in host memory is copied up, and the host slab's bytes come down in one transfer. Of device memory this takes one buffer
 * as large as the host slab and, where there is room, one more for the old one, which then comes up in one transfer too
 * and is taken apart by the same launch. Nothing is written to `old` before everything else is done: whatever fails, its
 * bytes are as they were, unless the device is lost during that last transfer.
 */
export async function fillSlabs(filling: SlabFilling): Promise<void> {
  const { addon, context, offloaded, resident, sources, replaced, old, roomBytes } = filling
  const { compute } = context
  const buffers: DeviceBuffer[] = []
  const allocate = (bytes: number): DeviceBuffer => {
    const buffer = allocateStaging(filling, bytes)
    buffers.push(buffer)
    return buffer
  }
  try {
    const staged = offloaded && allocate(offloaded.buffer.bytes)
    const neededBytes = (staged?.bytes ?? 0) + (resident?.buffer.bytes ?? 0)
    const keepsOld = [...sources.values()].some(({ buffer }) => buffer === old)
    const copies: Copy[] = []
    let uploaded: DeviceBuffer | undefined
    if (old !== undefined && keepsOld && neededBytes + old.bytes <= roomBytes) {
      uploaded = unlessOutOfMemory(() => allocate(old.bytes))
      if (uploaded !== undefined) copies.push({ to: uploaded, from: old })
    }
    const moves: TensorMove[] = []
    const place = (slab: Slab<HostBuffer | DeviceBuffer>, target: DeviceBuffer): void => {
      for (const parameter of slab.parameters) {
        const bytes = extentBytes(parameter)
        if (bytes === 0) continue
        const to = slab.view(parameter, target)
        const source = sources.get(parameter.name)!
        const from = uploaded !== undefined && source.buffer === old ? { ...source, buffer: uploaded } : source
        // What is kept on the device is copied: it may not be loaded yet, and nobody may read memory that never was written.
        const inPlace =
          from.buffer === uploaded || (from.buffer.kind === 'device-buffer' && replaced.has(parameter.name))
        if (inPlace) moves.push({ from, to })
        else copies.push({ to: target, toOffset: to.offset, from: from.buffer, fromOffset: from.offset, bytes })
      }
    }
    if (offloaded !== undefined) place(offloaded, staged!)
    if (resident !== undefined) place(resident, resident.buffer)
    try {
      compute.copyBatch(copies)
      gatherScatter(addon, compute, moves)
    } finally {
      // Also when something was refused: what is borrowed must not be read any more.
      await settle(compute)
    }
    if (offloaded !== undefined) {
      compute.copy(offloaded.buffer, staged!, { bytes: offloaded.buffer.bytes })
      await settle(compute)
    }
  } finally {
    await Promise.all(buffers.map((buffer) => buffer.dispose()))
  }
}

/** What is under way can neither be called back nor left alone: only a device that is lost fails twice. */
async function settle(stream: Stream): Promise<void> {
  await stream.synchronize().catch(() => stream.synchronize())
}

/** What is free may lie in pieces. */
function unlessOutOfMemory<T>(allocate: () => T): T | undefined {
  try {
    return allocate()
  } catch (error) {
    if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY')) throw error
    return undefined
  }
}

function allocateStaging({ context, module }: SlabFilling, bytes: number): DeviceBuffer {
  try {
    const recovery = { kind: 'rebuild', rebuild() {} } as const
    return context.memory('workspace').allocate(bytes, { stream: context.compute, module, recovery })
  } catch (error) {
    throw explainOutOfMemory(
      error,
      `what replacing parameters of module ${module} takes for a while (${bytes} bytes)`,
      'Say in postLoadBytes of the memory plan that there must be room for it, or give the device more memory',
    )
  }
}
