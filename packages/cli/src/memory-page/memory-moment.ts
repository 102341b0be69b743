import type { MemoryBlock } from '@spillway/device'
import type { MemoryHistory } from './memory-history.js'
import type { LiveBlock, ReservedRange } from './undoable-state.js'

/** What one stretch of a segment was. */
export interface MomentBlock {
  readonly address: number
  readonly bytes: number
  /** free: idle or pending; which, only the snapshot knows. */
  readonly state: MemoryBlock['state'] | 'free'
  /** Live. */
  readonly block?: LiveBlock
  /** Pending: whose work uses it. */
  readonly streams?: readonly number[]
}

export interface MomentSegment extends ReservedRange {
  /** By address, without gaps. */
  readonly blocks: readonly MomentBlock[]
}

/** All that is known of one moment. */
export interface MemoryMoment {
  readonly segments: readonly MomentSegment[]
  readonly reservedBytes: number
  readonly liveBytes: number
  readonly requestedBytes: number
  /** Reserved and not live. */
  readonly cachedBytes: number
  /** Of stretches without a live block in one segment: how many there are of each size. */
  readonly freeSizes: ReadonlyMap<number, number>
  /** The longest of them. */
  readonly largestFreeBytes: number
  /** 1 - largest free / all free; 0 when nothing is free. */
  readonly fragmentation: number
  /** Live and not asked for. */
  readonly roundingBytes: number
  /** The largest first. */
  readonly liveBytesByTag: ReadonlyMap<string, number>
}

export function memoryMoment(history: MemoryHistory, moment: number): MemoryMoment {
  const { segments, live } = history.at(moment)
  const blocks = [...live.values()].sort((a, b) => a.address - b.address)
  const free = moment >= history.events.length ? freeBlocks(history) : []
  const byTag = new Map<string, number>()
  for (const { tag, bytes } of blocks) byTag.set(tag, (byTag.get(tag) ?? 0) + bytes)
  const freeSizes = new Map<number, number>()
  let [at, freeAt] = [0, 0]
  const cut = segments.map((segment): MomentSegment => {
    const pieces: MomentBlock[] = []
    const end = segment.address + segment.bytes
    const addFree = (from: number, to: number): void => {
      freeSizes.set(to - from, (freeSizes.get(to - from) ?? 0) + 1)
      while (freeAt < free.length && (free[freeAt] as MemoryBlock).address < from) freeAt++
      let next = from
      for (; free[freeAt]?.address === next && next < to; freeAt++) {
        const { address, bytes, state, streams } = free[freeAt] as MemoryBlock
        pieces.push({ address, bytes, state, ...(state === 'pending' ? { streams } : {}) })
        next += bytes
      }
      if (next < to) pieces.push({ address: next, bytes: to - next, state: 'free' })
    }
    let next = segment.address
    // Blocks of a trace that contradicts itself may lie outside of segments, or in each other.
    for (; at < blocks.length && (blocks[at] as LiveBlock).address < end; at++) {
      const block = blocks[at] as LiveBlock
      const [from, to] = [Math.max(block.address, next), Math.min(block.address + block.bytes, end)]
      if (to <= from) continue
      if (from > next) addFree(next, from)
      pieces.push({ address: from, bytes: to - from, state: 'live', block })
      next = to
    }
    if (next < end) addFree(next, end)
    return { ...segment, blocks: pieces }
  })
  const largestFreeBytes = [...freeSizes.keys()].reduce((most, bytes) => Math.max(most, bytes), 0)
  const reservedBytes = history.reservedBytes[moment] as number
  const liveBytes = history.liveBytes[moment] as number
  const requestedBytes = history.requestedBytes[moment] as number
  const cachedBytes = Math.max(0, reservedBytes - liveBytes)
  return {
    segments: cut,
    reservedBytes,
    liveBytes,
    requestedBytes,
    cachedBytes,
    freeSizes,
    largestFreeBytes,
    fragmentation: cachedBytes === 0 ? 0 : Math.max(0, 1 - largestFreeBytes / cachedBytes),
    roundingBytes: Math.max(0, liveBytes - requestedBytes),
    liveBytesByTag: new Map([...byTag].sort((a, b) => b[1] - a[1])),
  }
}

export interface FreeSizes {
  /** From half of it, exclusive, to it. */
  readonly upToBytes: number
  readonly count: number
  readonly bytes: number
}

/** By powers of two, the largest first: what an allocation of some size may hope for. */
export function groupFreeSizes({ freeSizes }: MemoryMoment): readonly FreeSizes[] {
  const groups = new Map<number, FreeSizes>()
  for (const [size, count] of freeSizes) {
    const upToBytes = 2 ** Math.ceil(Math.log2(size))
    const before = groups.get(upToBytes) ?? { upToBytes, count: 0, bytes: 0 }
    groups.set(upToBytes, { upToBytes, count: before.count + count, bytes: before.bytes + size * count })
  }
  return [...groups.values()].sort((a, b) => b.upToBytes - a.upToBytes)
}

function freeBlocks({ trace }: MemoryHistory): readonly MemoryBlock[] {
  const blocks = trace.snapshot.segments.flatMap((segment) => segment.blocks)
  return blocks.filter(({ state }) => state !== 'live').sort((a, b) => a.address - b.address)
}
