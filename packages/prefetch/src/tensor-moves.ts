import { dtypeBytes, type Stream, type TensorView } from '@spillway/core'
import { handleOf } from '@spillway/device'
import type { PrefetchAddon } from './native-ring.js'

/** Both of one dtype and shape, in memory that the device reaches; strides may differ. */
export interface TensorMove {
  readonly from: TensorView
  readonly to: TensorView
}

/**
 * Enqueues the copy of every element to its place: gathers tensors into a slab, scatters a slab, or both, in one launch
 * for up to 23 tensors or so. Bytes between elements are left as they are. What is written overlaps nothing that is
 * read, nor what another tensor writes. Throws SPILLWAY_INVALID_ARGUMENT naming the tensor by its place in the list,
 * SPILLWAY_NOT_SUPPORTED for a layout of more than six dimensions that cannot be joined, and SPILLWAY_NO_KERNELS where
 * the addon was built without device code.
 */
export function gatherScatter(addon: PrefetchAddon, stream: Stream, moves: readonly TensorMove[]): void {
  addon.gatherScatter(
    handleOf(stream),
    moves.map(({ from, to }) => [
      handleOf(from.buffer),
      from.offset,
      from.stride,
      handleOf(to.buffer),
      to.offset,
      to.stride,
      to.shape,
      dtypeBytes[to.dtype],
    ]),
  )
}
