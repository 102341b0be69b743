/**
 * Bytes of each slot for ring elements of these bytes, in the order of the forward. Element i goes through slot i mod
 * the number of slots, whatever its shape, so a slot is as large as the largest of those: an odd layer enlarges one slot
 * and no more. There are `prefetchStep` slots, at most one per element; more of them where that takes fewer bytes, since
 * then large layers share a slot and small ones another, as with every second layer large and a step of 3. Bytes are
 * compared as `physicalBytes` says they are taken from the device.
 */
export function slotSizes(
  elementBytes: readonly number[],
  prefetchStep: number,
  physicalBytes: (bytes: number) => number = (bytes) => bytes,
): number[] {
  const least = physicalBytes(elementBytes.reduce((min, bytes) => Math.min(min, bytes), Number.POSITIVE_INFINITY))
  let best: number[] | undefined
  let bestBytes = Number.POSITIVE_INFINITY
  for (let count = Math.min(prefetchStep, elementBytes.length); count * least < bestBytes; count++) {
    if (count > elementBytes.length) break
    const sizes = new Array<number>(count).fill(0)
    for (const [i, bytes] of elementBytes.entries()) sizes[i % count] = Math.max(sizes[i % count]!, bytes)
    const bytes = sizes.reduce((sum, size) => sum + physicalBytes(size), 0)
    if (bytes < bestBytes) {
      best = sizes
      bestBytes = bytes
    }
  }
  return best ?? []
}
