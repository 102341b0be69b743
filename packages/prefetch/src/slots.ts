/**
 * Bytes of each slot for ring elements of these bytes, in the order of the forward. Element i goes through slot i mod
 * the number of slots, whatever its shape, so a slot is as large as the largest of those: an odd layer enlarges one slot
 * and no more. One slot per step, at most one per element.
 */
export function slotSizes(elementBytes: readonly number[], prefetchStep: number): number[] {
  const sizes = new Array<number>(Math.min(prefetchStep, elementBytes.length)).fill(0)
  for (const [i, bytes] of elementBytes.entries()) {
    const slot = i % sizes.length
    sizes[slot] = Math.max(sizes[slot]!, bytes)
  }
  return sizes
}
