import { configure, createOffloader, none, type OffloadBackend, type Offloader, type PinSetting } from '@spillway/core'
import { expect, test } from 'vitest'
import { expectCode, MiB, onDevice } from './device-rig.js'
import { meminfo, withSystemFiles } from './memory-limits.js'

const bytes = 8 * MiB

/** An offloader where 1 MiB can be pinned, and 100 MiB swapped. */
async function offloading(
  options: { pin: PinSetting; swapFree?: number; unpinned?: boolean },
  body: (offloader: Offloader) => Promise<void>,
): Promise<void> {
  const { pin, swapFree = 100 * MiB, unpinned = true } = options
  const backend = { ...none, supports: { ...none.supports, unpinned } } as OffloadBackend
  await withSystemFiles(meminfo({ available: MiB, swapFree }), () =>
    onDevice({}, async (device) => {
      const compute = device.createStream()
      const offloader = await createOffloader({ device, compute, backends: [configure(backend)], pin })
      await body(offloader)
      await offloader.dispose()
      await compute.dispose()
    }),
  )
}

test('auto: memory that cannot be pinned is pageable, and stats say why', () =>
  offloading({ pin: 'auto' }, async (offloader) => {
    const small = await offloader.host.allocate(4096)
    expect([small.storage, offloader.pin]).toEqual(['pinned', { pin: true, reason: 'the device can pin host memory' }])
    const big = await offloader.host.allocate(bytes)
    expect(big.storage).toBe('pageable')
    const { pin, reason } = offloader.stats().pinned
    expect(pin).toBe(false)
    expect(reason).toMatch(/^8(\.0)* MiB could not be pinned, and are pageable.*MemAvailable/)
    expect(offloader.pin).toEqual({ pin, reason })
    // What comes after is pageable too: one offloader, one answer.
    const later = await offloader.host.allocate(4096)
    expect([later.storage, small.storage]).toEqual(['pageable', 'pinned'])
    expect(offloader.stats().pinned.reason).toBe(reason)
    await Promise.all([small, big, later].map((buffer) => buffer.dispose()))
  }))

test.each<[string, Parameters<typeof offloading>[0]]>([
  ['pinned memory was demanded', { pin: 'on' }],
  ['there is no room for pageable memory either', { pin: 'auto', swapFree: 0 }],
  ['a backend needs pinned memory', { pin: 'auto', unpinned: false }],
])('an error with the limit when %s', (_, options) =>
  offloading(options, async (offloader) => {
    const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => offloader.host.allocate(bytes))
    expect(error.details).toMatchObject({ limit: 'MemAvailable', freeBytes: MiB })
    expect(offloader.pin.pin).toBe(true)
  }),
)

test('progress and abort reach the device', () =>
  offloading({ pin: 'off' }, async (offloader) => {
    const seen: number[] = []
    const buffer = await offloader.host.allocate(bytes, { onProgress: ({ readyBytes }) => seen.push(readyBytes) })
    expect(seen.at(-1)).toBe(bytes)
    await buffer.dispose()
    const abort = new AbortController()
    const allocation = offloader.host.allocate(bytes, { signal: abort.signal })
    abort.abort()
    await expectCode('SPILLWAY_ABORTED', () => allocation)
  }))
