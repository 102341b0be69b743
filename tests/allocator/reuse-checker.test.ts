import { expect, test } from 'vitest'
import { Random } from '../order/random.js'
import { AllocatorRig, MiB } from './allocator-rig.js'
import type { MemoryEvent } from './memory-log.js'
import { runRandomProgram } from './random-program.js'
import { checkReuse } from './reuse-checker.js'

const segment: MemoryEvent = { kind: 'create', address: 2 ** 21, bytes: 2 ** 21 }
const block = (id: number, offset: number, stream = 1): MemoryEvent => ({
  kind: 'allocate',
  id,
  address: 2 ** 21 + offset,
  bytes: 1024,
  requestedBytes: 1000,
  stream,
})
const free = (id: number, ...streams: number[]): MemoryEvent => ({
  kind: 'free',
  id,
  uses: streams.map((stream) => ({ stream, position: 1 })),
})
const complete: MemoryEvent = { kind: 'complete', stream: 1, position: 1 }
const destroy: MemoryEvent = { ...segment, kind: 'destroy' }

test('the same bytes for the same stream, and for another one when the work is done, are right', () => {
  expect(checkReuse([segment, block(1, 0), free(1, 1), block(2, 0, 1)])).toEqual([])
  expect(checkReuse([segment, block(1, 0), free(1, 1), complete, block(2, 512, 2), free(2), destroy])).toEqual([])
})

test.each<[string, RegExp, readonly MemoryEvent[]]>([
  ['two live blocks', /2 at .* overlaps the live block 1/, [segment, block(1, 0), block(2, 512)]],
  ['a crooked address', /not aligned/, [segment, block(1, 256)]],
  ['no memory', /has no memory/, [segment, block(1, 2 ** 21 - 512)]],
  ['too few bytes', /has 1024 bytes, not 2000/, [segment, { ...block(1, 0), requestedBytes: 2000 } as MemoryEvent]],
  ['another stream', /2 for stream 2 while stream 1 may use it/, [segment, block(1, 0), free(1, 1), block(2, 0, 2)]],
  ['no stream', /2 for stream 0 while stream 1/, [segment, block(1, 0), free(1, 1), block(2, 512, 0)]],
  [
    'work from before the last owner',
    /3 for stream 2 while stream 1/,
    [segment, block(1, 0), free(1, 1), block(2, 0, 1), free(2), block(3, 0, 2)],
  ],
  ['a segment taken from a live block', /under the live block 1/, [segment, block(1, 0), destroy]],
  ['a segment taken from work', /under work of stream 1/, [segment, block(1, 0), free(1, 1), destroy]],
  ['freed twice', /is not live/, [segment, block(1, 0), free(1), free(1)]],
  ['a leak', /was not given back/, [segment, { kind: 'end' }]],
  ['given back twice', /which is not there/, [segment, destroy, destroy]],
])('found by hand-made logs: %s', (_, problem, log) => {
  expect(checkReuse(log).join('\n')).toMatch(problem)
})

type Damage = (log: readonly MemoryEvent[], random: Random) => MemoryEvent[]

function change(log: readonly MemoryEvent[], index: number, ...by: MemoryEvent[]): MemoryEvent[] {
  return [...log.slice(0, index), ...by, ...log.slice(index + 1)]
}
function indices(log: readonly MemoryEvent[], ...kinds: MemoryEvent['kind'][]): number[] {
  return log.flatMap(({ kind }, index) => (kinds.includes(kind) ? [index] : []))
}

/** What a broken allocator would have done, as damage to the log of a right one. */
const damages: Readonly<Record<string, Damage>> = {
  'a segment is never given back': (log, random) => change(log, random.pick(indices(log, 'destroy', 'unmap'))),
  'a block is given out twice': (log, random) => {
    const index = random.pick(indices(log, 'allocate'))
    return change(log, index, log[index]!, { ...log[index]!, id: 1e6 } as MemoryEvent)
  },
  'a block lies half a granule off': (log, random) => {
    const index = random.pick(indices(log, 'allocate'))
    const event = log[index] as MemoryEvent & { address: number }
    return change(log, index, { ...event, address: event.address + 256 } as MemoryEvent)
  },
  'no work is ever done': (log) => log.filter(({ kind }) => kind !== 'complete'),
}

test.each(Object.entries(damages))('found in the log of a random program: %s', (_, damage) => {
  for (let seed = 0; seed < 10; seed++) {
    const rig = new AllocatorRig({ limitBytes: 256 * MiB })
    runRandomProgram(rig, new Random(seed), { operations: 200 })
    rig.end()
    expect(checkReuse(rig.log)).toEqual([])
    expect(checkReuse(damage(rig.log, new Random(seed)))).not.toEqual([])
  }
})
