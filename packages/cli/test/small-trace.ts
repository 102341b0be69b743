import type { MemoryStatistics, MemoryTrace } from '@spillway/device'

export const MiB: number = 2 ** 20

const statistics: MemoryStatistics = {
  reservedBytes: 20 * MiB,
  liveBytes: 8 * MiB,
  requestedBytes: 8 * MiB - 100,
  peakReservedBytes: 20 * MiB,
  peakLiveBytes: 12 * MiB,
  peakRequestedBytes: 12 * MiB - 100,
  allocations: 2,
  frees: 1,
  segmentsCreated: 1,
  segmentsDestroyed: 0,
  outOfMemory: 1,
}
const block = { pool: '', stream: 1 }

/** Two blocks in one segment, of which the second is free again, and an allocation that found no memory. */
export const smallTrace: MemoryTrace = {
  format: 'spillway-memory-trace',
  version: 1,
  device: 'a device',
  limitBytes: 32 * MiB,
  lostEvents: 0,
  events: [
    {
      kind: 'createSegment',
      number: 0,
      timeMs: 5,
      tag: '',
      pool: '',
      stream: 0,
      address: 2 * MiB,
      bytes: 20 * MiB,
      requestedBytes: 0,
    },
    {
      ...block,
      kind: 'allocate',
      number: 1,
      timeMs: 6,
      tag: 'weights',
      address: 2 * MiB,
      bytes: 8 * MiB,
      requestedBytes: 8 * MiB - 100,
    },
    {
      ...block,
      kind: 'allocate',
      number: 2,
      timeMs: 7,
      tag: 'scratch',
      address: 10 * MiB,
      bytes: 4 * MiB,
      requestedBytes: 4 * MiB,
    },
    {
      ...block,
      kind: 'free',
      number: 3,
      timeMs: 8,
      tag: 'scratch',
      address: 10 * MiB,
      bytes: 4 * MiB,
      requestedBytes: 4 * MiB,
    },
    {
      ...block,
      kind: 'outOfMemory',
      number: 4,
      timeMs: 9,
      tag: 'kv_cache',
      address: 0,
      bytes: 16 * MiB,
      requestedBytes: 16 * MiB,
    },
  ],
  snapshot: {
    stats: { ...statistics, pools: { '': statistics }, liveBytesByTag: { weights: 8 * MiB } },
    segments: [
      {
        address: 2 * MiB,
        bytes: 20 * MiB,
        pool: '',
        sizeClass: 'large',
        expandable: false,
        blocks: [
          {
            address: 2 * MiB,
            bytes: 8 * MiB,
            state: 'live',
            requestedBytes: 8 * MiB - 100,
            tag: 'weights',
            streams: [1],
          },
          { address: 10 * MiB, bytes: 4 * MiB, state: 'pending', streams: [1] },
          { address: 14 * MiB, bytes: 8 * MiB, state: 'idle', streams: [] },
        ],
      },
    ],
  },
}
