import { expect, test } from 'vitest'
import { probe } from './allocator-probe.js'
import { AllocatorRig, MiB } from './allocator-rig.js'

test('a trace has the last events, with tags, pools and streams, and says how many it lost', () => {
  const rig = new AllocatorRig({ limitBytes: 64 * MiB })
  const events = () => probe.trace(rig.handle).events
  rig.allocate(1, { tag: 'before' })
  expect(events()).toEqual([])
  probe.startTrace(rig.handle, 100)
  const block = rig.allocate(1000, { tag: 'weights', pool: 'mine', stream: 3 })
  rig.free(block, [])
  rig.releaseCached()
  expect(() => rig.allocate(65 * MiB, { tag: 'kv_cache' })).toThrow()
  const all = events()
  const { address } = block
  expect(all).toMatchObject([
    { kind: 'createSegment', pool: 'mine', address, bytes: 2 * MiB, number: 0 },
    { kind: 'allocate', tag: 'weights', pool: 'mine', stream: 3, address, bytes: 1024, requestedBytes: 1000 },
    { kind: 'free', tag: 'weights', pool: 'mine', stream: 3, address, bytes: 1024, requestedBytes: 1000 },
    { kind: 'destroySegment', pool: 'mine', address, bytes: 2 * MiB },
    { kind: 'outOfMemory', tag: 'kv_cache', pool: '', stream: 1, bytes: 65 * MiB },
  ])
  const times = all.map(({ timeMs }) => timeMs)
  expect(times).toEqual([...times].sort((a, b) => a - b))

  probe.startTrace(rig.handle, 3)
  for (let i = 0; i < 5; i++) rig.free(rig.allocate(1000 + i, { tag: `${i}` }), [])
  expect(events().map(({ kind, tag, number }) => [kind, tag, number])).toEqual([
    ['free', '3', 7],
    ['allocate', '4', 8],
    ['free', '4', 9],
  ])
  probe.startTrace(rig.handle, 0)
  rig.allocate(1)
  expect(events()).toEqual([])
})
