import { describe, expect, test } from 'vitest'
import { layoutAddresses, rowBytesFor, uniteRanges } from '../src/memory-page/address-layout.js'
import { tagColor } from '../src/memory-page/tag-colors.js'
import { readMemoryTrace } from '../src/memory-trace.js'
import { MiB, smallTrace } from './small-trace.js'

const read = (value: unknown): unknown => readMemoryTrace(JSON.stringify(value), 'it.json')
/** The small trace with `value` at `path`. */
function changed(path: readonly (string | number)[], value: unknown): unknown {
  const trace = structuredClone(smallTrace) as unknown as Record<string | number, unknown>
  const place = path.slice(0, -1).reduce((inner, key) => inner[key] as Record<string | number, unknown>, trace)
  place[path.at(-1)!] = value
  return trace
}

test('a trace is read as it was written, without what no trace has', () => {
  expect(read(smallTrace)).toEqual(smallTrace)
  expect(read({ ...smallTrace, more: 1 })).toEqual(smallTrace)
  const strange = '__proto__'
  const pools = JSON.parse(`{ "${strange}": ${JSON.stringify(smallTrace.snapshot.stats.pools[''])} }`) as object
  const own = read(changed(['snapshot', 'stats', 'pools'], pools)) as typeof smallTrace
  expect(Object.keys(own.snapshot.stats.pools)).toEqual([strange])
})

test.each<[string, unknown, string]>([
  ['', null, 'it must be an object; it is null'],
  ['', { traceEvents: [] }, 'run --trace writes it: open it in https://ui.perfetto.dev'],
  ['format', changed(['format'], 'x'), "format must be 'spillway-memory-trace'"],
  ['version', changed(['version'], 2), 'version must be 1; read it with a newer spillway'],
  ['limitBytes', changed(['limitBytes'], -1), 'limitBytes must be a whole number; it is -1'],
  ['device', changed(['device'], 7), 'device must be a text; it is 7'],
  ['events', changed(['events'], {}), 'events must be a list'],
  ['events', changed(['events'], Array(1_000_001).fill(0)), 'events must be a list of at most 1000000'],
  ['events[1].kind', changed(['events', 1, 'kind'], 'alloc'), 'events[1].kind must be one of allocate, free'],
  ['events[1].number', changed(['events', 1, 'number'], 0), 'events[1].number must be more than 0'],
  ['events[0].timeMs', changed(['events', 0, 'timeMs'], null), 'events[0].timeMs must be a number; it is null'],
  ['events[1].tag', changed(['events', 1, 'tag'], 'x'.repeat(5000)), 'events[1].tag must be a text of at most 4096'],
  ['events[0].bytes', changed(['events', 0, 'bytes'], 2 ** 53 - 1), 'events[0].bytes must be a range that ends before'],
  ['snapshot', changed(['snapshot'], undefined), 'snapshot must be an object; it is missing'],
  [
    'snapshot.stats.pools[""].frees',
    changed(['snapshot', 'stats', 'pools', '', 'frees'], 0.5),
    'whole number; it is 0.5',
  ],
  [
    'snapshot.stats.liveBytesByTag["weights"]',
    changed(['snapshot', 'stats', 'liveBytesByTag', 'weights'], 'a'),
    'whole',
  ],
  ['snapshot.segments[0].bytes', changed(['snapshot', 'segments', 0, 'bytes'], 5), 'the sum of its blocks'],
  [
    'snapshot.segments[0].blocks[1].address',
    changed(['snapshot', 'segments', 0, 'blocks', 1, 'address'], 5),
    'where the',
  ],
  ['snapshot.segments[0].sizeClass', changed(['snapshot', 'segments', 0, 'sizeClass'], 'tiny'), 'small or large'],
  ['snapshot.segments[0].blocks[0].state', changed(['snapshot', 'segments', 0, 'blocks', 0, 'state'], 1), 'live, idle'],
  ['snapshot.segments', changed(['snapshot', 'segments', 1], smallTrace.snapshot.segments[0]), 'without overlap'],
])('%s is checked', (path, trace, message) => {
  expect(() => read(trace)).toThrow(
    expect.objectContaining({
      code: 'SPILLWAY_INVALID_MEMORY_TRACE',
      message: expect.stringContaining(message) as string,
      details: { path },
    }),
  )
})

test('what is no JSON, and too many names', () => {
  expect(() => readMemoryTrace('{"format":"spillway', 'it.json')).toThrow(
    /it\.json: it is no JSON; perhaps it was cut off/,
  )
  const events = Array.from({ length: 20_000 }, (_, number) => ({ ...smallTrace.events[0], number, tag: `${number}` }))
  expect(() => read({ ...smallTrace, events })).toThrow(/one of at most 10000 tags and pools/)
})

describe('the picture', () => {
  test('a tag has one colour, whatever else there is; others have others', () => {
    const names = [
      'weights',
      'kv_cache',
      'workspace',
      'runtime',
      'loading',
      'scratch',
      'slot',
      '',
      'a',
      'b',
      'layer.1',
      'layer.2',
    ]
    expect(new Set(names.map(tagColor)).size).toBe(names.length)
    expect(names.map(tagColor)).toEqual([...names].reverse().map(tagColor).reverse())
    expect(tagColor('weights')).toBe('oklch(0.72 0.14 255)')
    expect(tagColor('toString')).toMatch(/^oklch\(0\.72 0\.\d\d \d+\)$/)
  })

  test('ranges lie in rows to scale: those that fit in one are whole, longer ones begin one', () => {
    const range = (address: number, bytes: number) => ({ address, bytes })
    const { rows, parts } = layoutAddresses([range(0, 60), range(100, 30), range(200, 20), range(300, 250)], 100, 5)
    expect(parts).toEqual([
      { index: 0, row: 0, x: 0, address: 0, bytes: 60 },
      { index: 1, row: 0, x: 65, address: 100, bytes: 30 },
      { index: 2, row: 1, x: 0, address: 200, bytes: 20 },
      { index: 3, row: 2, x: 0, address: 300, bytes: 100 },
      { index: 3, row: 3, x: 0, address: 400, bytes: 100 },
      { index: 3, row: 4, x: 0, address: 500, bytes: 50 },
    ])
    expect(rows).toBe(5)
    expect(layoutAddresses([], 100, 5)).toEqual({ rowBytes: 100, rows: 0, parts: [] })
    expect(layoutAddresses([range(0, 100)], 100, 5).rows).toBe(1)
  })

  test('rows are as many as asked for, about, and as full as a round scale makes them', () => {
    const ranges = Array.from({ length: 40 }, (_, i) => ({ address: i * 2 ** 30, bytes: 530 * MiB }))
    const rowBytes = rowBytesFor(ranges, 22)
    // Of 1 GiB rows, each has one, and nearly half of the room is empty.
    expect(rowBytes).toBe(1.25 * 1024 * MiB)
    expect(layoutAddresses(ranges, rowBytes, 0).rows).toBe(20)
    expect(rowBytesFor([], 22)).toBe(4096)
  })

  test('ranges that overlap at different times are one place; of different pools they are not', () => {
    const range = (address: number, bytes: number, pool = '') => ({ address, bytes, pool })
    expect(uniteRanges([range(50, 20), range(0, 10), range(5, 10), range(60, 30), range(60, 5, 'mine')])).toEqual([
      range(0, 15),
      range(50, 40),
      range(60, 5, 'mine'),
    ])
  })
})
