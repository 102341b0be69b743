// What the oracle says of small programs whose answer anybody can see: it is the measure of the checker, which must
// say the same.
import { describe, expect, test } from 'vitest'
import { certainConflict, mistakes } from './mutation.js'
import { judge } from './oracle.js'
import { granuleBytes as G, type Program, type Span, type Step } from './program.js'
import { type Outcome, ProgramRunner } from './run-program.js'

const [host, one, two, low, high, alias] = [0, 1, 2, 3, 4, 5].map((buffer) => ({ buffer, offset: 0, bytes: 64 })) as [
  Span,
  Span,
  Span,
  Span,
  Span,
  Span,
]
const part = ({ buffer }: Span, offset: number, bytes: number): Span => ({ buffer, offset, bytes })
const fill = (stream: number, to: Span): Step => ({ do: 'fill', stream, to, value: 1 })
const copy = (stream: number, to: Span, from: Span): Step => ({ do: 'copy', stream, to, from })
const record = (stream: number, event: number): Step => ({ do: 'record', stream, event })
const wait = (stream: number, event: number): Step => ({ do: 'wait', stream, event })
const external = (stream: number, event: number): Step => ({ do: 'wait', stream, event, external: true })
const recordAtReplay = (stream: number, event: number): Step => ({ do: 'record', stream, event, external: true })
const ask = (stream: number, promise: number): Step => ({ do: 'synchronize', stream, promise })
const settle = (promise: number): Step => ({ do: 'await', promise })
const read = (from: Span): Step => ({ do: 'read', from })
const write = (to: Span): Step => ({ do: 'write', to, value: 1 })
const begin = (stream: number): Step => ({ do: 'beginCapture', stream })
const end = (stream: number, graph: number): Step => ({ do: 'endCapture', stream, graph })
const launch = (stream: number, graph: number): Step => ({ do: 'launch', stream, graph })
const map = (range: number, offset: number, physical: number): Step => ({ do: 'map', range, offset, physical })
const unmap = (range: number, offset: number, bytes: number = G): Step => ({ do: 'unmap', range, offset, bytes })
const dispose = (kind: 'stream' | 'event' | 'buffer' | 'graph', id: number): Step => ({ do: 'dispose', kind, id })

function program(steps: readonly Step[]): Program {
  return {
    buffers: [
      { kind: 'host', bytes: 64, storage: 'pinned' },
      { kind: 'device', bytes: 64 },
      { kind: 'device', bytes: 64 },
      { kind: 'range', bytes: 64, range: 0, offset: 0 },
      { kind: 'range', bytes: 64, range: 0, offset: G - 32 },
      { kind: 'range', bytes: 64, range: 1, offset: 0 },
    ],
    ranges: [2, 1],
    physicals: [1, 1],
    priorities: ['normal'],
    steps,
  }
}

/** Pairs of steps without an order: `0-3`, of a graph's operation `1@5`, step 1 as launched by step 5. */
function unordered(steps: readonly Step[]): string[] {
  const { illegal, conflicts } = judge(program(steps))
  if (illegal) return [illegal.message]
  const name = (step: number, launched: number | undefined) =>
    launched === undefined ? `${step}` : `${step}@${launched}`
  const pairs = conflicts.map(
    ({ earlier, later }) => `${name(earlier.step, earlier.launch)}-${name(later.step, later.launch)}`,
  )
  return [...new Set(pairs)]
}

async function run(steps: readonly Step[]): Promise<Outcome> {
  const runner = await ProgramRunner.open({ check: true })
  const outcome = await runner.run(program(steps))
  await runner.close()
  return outcome
}

async function expectUnordered(steps: readonly Step[], pairs: readonly string[]): Promise<void> {
  expect(unordered(steps)).toEqual(pairs)
  const { accusations, refused } = await run(steps)
  expect(mistakes(program(steps), accusations)).toEqual([])
  expect(accusations.length > 0).toBe(pairs.length > 0)
  expect(refused === undefined || steps[refused.step]?.do === 'unmap').toBe(true)
}

const fork = [begin(0), record(0, 0), wait(1, 0)]
const join = [record(1, 1), wait(0, 1), end(0, 0)]

describe('streams and events', () => {
  test.each<[string, Step[], string[]]>([
    ['a stream is in order', [fill(0, one), fill(0, one)], []],
    ['two streams are not', [fill(0, one), fill(1, one)], ['0-1']],
    ['two reads need no order', [copy(0, host, one), copy(1, two, one)], []],
    ['nor do bytes next to each other', [fill(0, part(one, 0, 8)), fill(1, part(one, 8, 8))], []],
    ['one common byte does', [fill(0, part(one, 0, 9)), fill(1, part(one, 8, 8))], ['0-1']],
    ['a wait orders', [fill(0, one), record(0, 0), wait(1, 0), fill(1, one)], []],
    ['for what was recorded', [record(0, 0), fill(0, one), wait(1, 0), fill(1, one)], ['1-3']],
    ['and only after the wait', [fill(0, one), record(0, 0), fill(1, one), wait(1, 0)], ['0-2']],
    ['through a third stream', [fill(0, one), record(0, 0), wait(2, 0), record(2, 1), wait(1, 1), fill(1, one)], []],
    ['an event never recorded orders nothing', [fill(0, one), wait(1, 0), record(0, 0), fill(1, one)], ['0-3']],
    [
      'a wait means the record made last before it',
      [fill(0, one), record(0, 0), fill(0, two), record(0, 0), wait(1, 0), fill(1, one), fill(1, two)],
      [],
    ],
    ['which may be of another stream', [fill(0, one), record(0, 0), record(2, 0), wait(1, 0), fill(1, one)], ['0-4']],
    [
      'recording again does not move an earlier wait',
      [fill(0, one), record(0, 0), wait(1, 0), fill(0, two), record(0, 0), fill(1, one), fill(1, two)],
      ['3-6'],
    ],
    [
      'a disposed event has been waited for',
      [fill(0, one), record(0, 0), wait(1, 0), dispose('event', 0), fill(1, one)],
      [],
    ],
    ['another stream of the same life is another', [fill(0, one), dispose('stream', 0), fill(1, one)], ['0-2']],
    ['nor does time make order', [fill(0, one), dispose('stream', 0), { do: 'pause' }, fill(1, one)], ['0-3']],
    ['memory that comes after disposed memory is new', [fill(0, one), dispose('buffer', 1), fill(1, two)], []],
    [
      'every pair counts, not only neighbours',
      [fill(0, one), fill(1, one), record(1, 0), wait(2, 0), fill(2, one)],
      ['0-1', '0-4'],
    ],
  ])('%s', (_, steps, pairs) => expectUnordered(steps, pairs))
})

describe('the host', () => {
  test.each<[string, Step[], string[]]>([
    ['what it enqueues comes after what it did', [write(host), copy(0, one, host), copy(1, two, host)], []],
    ['reads of enqueued work it must wait for', [copy(0, host, one), read(host)], ['0-1']],
    ['writes, too', [copy(0, one, host), write(host)], ['0-1']],
    ['asking is not waiting', [copy(0, host, one), ask(0, 0), read(host), settle(0)], ['0-2']],
    ['waiting is', [copy(0, host, one), ask(0, 0), settle(0), read(host)], []],
    ['for what was enqueued before it asked', [ask(0, 0), copy(0, host, one), settle(0), read(host)], ['1-3']],
    ['of that stream', [copy(0, host, one), ask(1, 0), settle(0), read(host)], ['0-3']],
    ['or of those it waited for', [copy(0, host, one), record(0, 0), wait(1, 0), ask(1, 0), settle(0), read(host)], []],
    ['then all that it enqueues comes later', [fill(0, one), ask(0, 0), settle(0), fill(1, one)], []],
  ])('%s', (_, steps, pairs) => expectUnordered(steps, pairs))

  test('a promise may settle before it is awaited: a conflict is certain only when no await is in between', () => {
    const steps = [copy(0, host, one), ask(0, 0), ask(1, 1), settle(1), read(host)]
    expect(unordered(steps)).toEqual(['0-4'])
    expect(certainConflict(program(steps))).toBeUndefined()
    expect(certainConflict(program(steps.filter((step) => step.do !== 'await')))?.later.step).toBe(3)
  })
})

describe('graphs', () => {
  test.each<[string, Step[], string[]]>([
    ['recording touches nothing', [begin(0), fill(0, one), end(0, 0), fill(1, one)], []],
    ['a launch does', [begin(0), fill(0, one), end(0, 0), launch(0, 0), fill(1, one)], ['1@3-4']],
    ['after its stream', [fill(2, one), begin(0), fill(0, one), end(0, 0), launch(2, 0), fill(2, one)], []],
    [
      'not after the stream that was captured',
      [fill(0, one), begin(0), fill(0, one), end(0, 0), launch(2, 0), fill(0, one)],
      ['0-2@4', '2@4-5'],
    ],
    ['launches of one graph are in order', [begin(0), fill(0, one), end(0, 0), launch(0, 0), launch(1, 0)], []],
    [
      'of two graphs they are not',
      [begin(0), fill(0, one), end(0, 0), begin(0), fill(0, one), end(0, 1), launch(0, 0), launch(1, 1)],
      ['1@6-4@7'],
    ],
    [
      'nor is what comes between two launches, elsewhere',
      [begin(0), fill(0, one), end(0, 0), launch(0, 0), fill(1, one), launch(2, 0)],
      ['1@3-4', '4-1@5'],
    ],
    ['branches are not in order', [...fork, fill(0, one), fill(1, one), ...join, launch(2, 0)], ['3@8-4@8']],
    [
      'a branch comes after the fork',
      [begin(0), fill(0, one), record(0, 0), wait(1, 0), fill(1, one), ...join, launch(2, 0)],
      [],
    ],
    [
      'what follows comes after the join',
      [...fork, fill(1, one), record(1, 1), wait(0, 1), fill(0, one), end(0, 0), launch(2, 0)],
      [],
    ],
    [
      'edges between branches',
      [...fork, fill(0, one), record(0, 2), wait(1, 2), fill(1, one), ...join, launch(2, 0)],
      [],
    ],
    [
      'the end comes after every branch',
      [...fork, fill(1, one), ...join, launch(2, 0), record(2, 3), wait(3, 3), fill(3, one)],
      [],
    ],
    [
      'an external wait is done at every launch, for the record made last',
      [
        begin(0),
        external(0, 0),
        fill(0, one),
        end(0, 0),
        fill(1, one),
        record(1, 0),
        launch(2, 0),
        fill(1, one),
        launch(2, 0),
      ],
      ['2@6-7', '7-2@8'],
    ],
    [
      'and orders only what follows it in the graph',
      [
        ...fork,
        fill(0, one),
        external(1, 5),
        fill(1, two),
        ...join,
        fill(2, one),
        fill(2, two),
        record(2, 5),
        launch(3, 0),
      ],
      ['9-3@12'],
    ],
    [
      'an external record is made at every launch, for what is before it',
      [
        begin(0),
        fill(0, one),
        recordAtReplay(0, 0),
        fill(0, two),
        end(0, 0),
        wait(3, 0),
        fill(3, one),
        launch(0, 0),
        wait(1, 0),
        fill(1, one),
        fill(1, two),
        launch(2, 0),
        wait(1, 0),
        fill(1, one),
      ],
      ['6-1@7', '6-9', '3@7-10', '6-1@11', '9-1@11', '10-3@11', '6-13'],
    ],
    ['an edge of the capture is none outside', [...fork, fill(1, two), ...join, fill(0, one), fill(1, one)], ['7-8']],
  ])('%s', (_, steps, pairs) => expectUnordered(steps, pairs))
})

describe('virtual memory', () => {
  const both = [map(0, 0, 0), map(0, G, 1), map(1, 0, 0)]
  test.each<[string, Step[], string[]]>([
    ['two buffers over one range', [...both, fill(0, low), fill(1, part(high, 0, 32))], []],
    ['share bytes', [...both, fill(0, part(low, 0, 64)), fill(1, { buffer: 3, offset: 60, bytes: 4 })], ['3-4']],
    ['two addresses of the same memory', [...both, fill(0, low), fill(1, alias)], ['3-4']],
    [
      'memory that moved keeps its order',
      [map(0, 0, 0), map(0, G, 1), fill(0, low), ask(0, 0), settle(0), unmap(0, 0), map(1, 0, 0), fill(1, alias)],
      [],
    ],
    ['unmapping what is in use', [...both, fill(0, low), unmap(0, 0)], ['3-4']],
    ['is not unmapping it elsewhere', [...both, fill(0, low), unmap(1, 0)], []],
    ['nor the piece next to it', [...both, fill(0, low), unmap(0, G)], []],
    ['a buffer across two pieces needs both', [...both, fill(0, high), unmap(0, G)], ['3-4']],
    ['as far as it is touched', [...both, fill(0, part(high, 0, 32)), unmap(0, G)], []],
    ['it is legal when the host has waited', [...both, fill(0, low), ask(0, 0), settle(0), unmap(0, 0)], []],
    [
      'a graph touches what is mapped when it is launched',
      [
        map(0, 0, 0),
        map(0, G, 1),
        begin(0),
        fill(0, low),
        end(0, 0),
        unmap(0, 0),
        unmap(0, G),
        map(0, 0, 1),
        map(1, 0, 0),
        fill(1, alias),
        launch(0, 0),
      ],
      [],
    ],
  ])('%s', (_, steps, pairs) => expectUnordered(steps, pairs))

  test('work anywhere on a range may make the device refuse to unmap any part of it', () => {
    const { busy, conflicts } = judge(program([...both, fill(0, low), unmap(0, G)]))
    expect([busy.length, conflicts.length]).toEqual([1, 0])
    const waited = judge(program([...both, fill(0, low), ask(0, 0), settle(0), unmap(0, G)]))
    expect(waited.busy).toEqual([])
  })
})

test.each<[string, Step[]]>([
  ['a branch that is not joined', [...fork, fill(1, one), end(0, 0)]],
  ['ending what another stream began', [...fork, end(1, 0)]],
  ['an event from outside', [record(1, 0), begin(0), wait(0, 0)]],
  ['an event of a capture that has ended', [begin(0), record(0, 0), end(0, 0), wait(1, 0)]],
  [
    'an external wait for an event of a capture',
    [begin(0), external(0, 0), end(0, 0), begin(1), record(1, 0), end(1, 1), launch(0, 0)],
  ],
  ['an external wait and an external record of one event', [begin(0), external(0, 0), recordAtReplay(0, 0)]],
  ['a wait in the capture for its external record', [begin(0), recordAtReplay(0, 0), wait(0, 0)]],
  ['launching in a capture', [begin(0), end(0, 0), begin(0), launch(0, 0)]],
  ['using what is disposed', [fill(0, one), dispose('buffer', 1), fill(0, one)]],
  ['a copy onto itself', [copy(0, part(one, 0, 8), part(one, 4, 8))]],
  ['memory that is not mapped', [map(0, 0, 0), fill(0, high)]],
  ['unmapping half of a piece', [map(0, 0, 0), unmap(0, 0, G / 2)]],
  ['mapping twice at one place', [map(0, 0, 0), map(0, 0, 1)]],
])('not legal: %s', async (_, steps) => {
  expect(unordered(steps)).toEqual([expect.stringMatching(`^step ${steps.length - 1}: `)])
  expect((await run(steps)).refused?.step).toBe(steps.length - 1)
})

test.each<[string, Step[], number]>([
  ['a capture that is not ended', [begin(0)], 1],
  ['waiting for a captured stream', [begin(0), ask(0, 0)], 1],
  [
    'a copy onto itself at another address',
    [map(0, 0, 0), map(1, 0, 0), copy(0, part(low, 0, 8), part(alias, 4, 8))],
    2,
  ],
])('not legal, though no call is refused at once: %s', (_, steps, at) => {
  expect(unordered(steps)).toEqual([expect.stringMatching(`^step ${at}: `)])
})
