import { printable, SpillwayError } from '@spillway/core'
import type {
  MemoryBlock,
  MemoryEvent,
  MemorySegment,
  MemorySnapshot,
  MemoryStatistics,
  MemoryStats,
  MemoryTrace,
} from '@spillway/device'

/** A string of this many characters is near the longest there can be. */
export const mostTraceBytes: number = 256 * 2 ** 20
const most = { events: 1_000_000, segments: 50_000, blocks: 1_000_000, names: 10_000, nameLength: 4096, streams: 4096 }

const eventKinds = ['allocate', 'free', 'createSegment', 'destroySegment', 'outOfMemory'] as const
const statisticsKeys = [
  'reservedBytes',
  'liveBytes',
  'requestedBytes',
  'peakReservedBytes',
  'peakLiveBytes',
  'peakRequestedBytes',
  'allocations',
  'frees',
  'segmentsCreated',
  'segmentsDestroyed',
  'outOfMemory',
] as const satisfies readonly (keyof MemoryStatistics)[]

/**
 * A trace from its JSON, whoever wrote it: every field that MemoryTrace has is checked and copied, others are left
 * out. Throws SPILLWAY_INVALID_MEMORY_TRACE, quoting the place in the JSON; `what` begins the sentence. Whether events
 * fit together is for MemoryHistory to say.
 */
export function readMemoryTrace(text: string, what = 'the memory trace'): MemoryTrace {
  if (text.length > mostTraceBytes) throw invalid(what, '', `is more than ${mostTraceBytes} characters`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw invalid(what, '', 'is no JSON; perhaps it was cut off while it was written', cause)
  }
  const root = new Place(what, '', json)
  if (root.field('traceEvents').value !== undefined) {
    throw invalid(what, '', 'is a trace of time, as spillway run --trace writes it: open it in https://ui.perfetto.dev')
  }
  if (root.field('format').value !== 'spillway-memory-trace') {
    throw root.field('format').wrong("'spillway-memory-trace', as spillway run --memory-trace writes it")
  }
  if (root.field('version').value !== 1) throw root.field('version').wrong('1; read it with a newer spillway')
  const names = new Names()
  let number = -1
  const events = root.field('events').list(most.events, (place): MemoryEvent => {
    const event = readEvent(place, names)
    if (event.number <= number) throw place.field('number').wrong(`more than ${number}, the one before it`)
    number = event.number
    return event
  })
  return {
    format: 'spillway-memory-trace',
    version: 1,
    device: root.field('device').text(),
    limitBytes: root.field('limitBytes').whole(),
    lostEvents: root.field('lostEvents').whole(),
    events,
    snapshot: readSnapshot(root.field('snapshot'), names),
  }
}

function readEvent(place: Place, names: Names): MemoryEvent {
  const kind = place.field('kind').value
  if (!eventKinds.some((known) => known === kind)) throw place.field('kind').wrong(`one of ${eventKinds.join(', ')}`)
  return {
    kind: kind as MemoryEvent['kind'],
    number: place.field('number').whole(),
    timeMs: place.field('timeMs').finite(),
    tag: names.of(place.field('tag')),
    pool: names.of(place.field('pool')),
    stream: place.field('stream').whole(),
    ...readRange(place),
    requestedBytes: place.field('requestedBytes').whole(),
  }
}

function readSnapshot(place: Place, names: Names): MemorySnapshot {
  let blockCount = 0
  const segments = place.field('segments').list(most.segments, (segment): MemorySegment => {
    const { address, bytes } = readRange(segment)
    let next = address
    const blocks = segment.field('blocks').list(most.blocks - blockCount, (block) => {
      const read = readBlock(block, names)
      if (read.address !== next) throw block.field('address').wrong(`${next}, where the one before it ends`)
      if (read.bytes === 0) throw block.field('bytes').wrong('at least 1')
      next += read.bytes
      return read
    })
    blockCount += blocks.length
    if (next !== address + bytes) throw segment.field('bytes').wrong(`${next - address}, the sum of its blocks`)
    const sizeClass = segment.field('sizeClass').value
    if (sizeClass !== 'small' && sizeClass !== 'large') throw segment.field('sizeClass').wrong('small or large')
    const expandable = segment.field('expandable').flag()
    return { address, bytes, pool: names.of(segment.field('pool')), sizeClass, expandable, blocks }
  })
  let end = 0
  for (const { address, bytes } of [...segments].sort((a, b) => a.address - b.address)) {
    if (address < end) throw place.field('segments').wrong(`without overlap; two have the address ${address}`)
    end = address + bytes
  }
  return { stats: readStats(place.field('stats'), names), segments }
}

function readBlock(place: Place, names: Names): MemoryBlock {
  const range = readRange(place)
  const state = place.field('state').value
  if (state !== 'live' && state !== 'idle' && state !== 'pending') {
    throw place.field('state').wrong('live, idle or pending')
  }
  const streams = place.field('streams').list(most.streams, (stream) => stream.whole())
  if (state !== 'live') return { ...range, state, streams }
  const tag = place.field('tag')
  const requested = place.field('requestedBytes')
  return {
    ...range,
    state,
    requestedBytes: requested.value === undefined ? range.bytes : requested.whole(),
    tag: tag.value === undefined ? '' : names.of(tag),
    streams,
  }
}

function readStats(place: Place, names: Names): MemoryStats {
  return {
    ...readStatistics(place),
    pools: place.field('pools').record(readStatistics, names),
    liveBytesByTag: place.field('liveBytesByTag').record((bytes) => bytes.whole(), names),
  }
}

function readStatistics(place: Place): MemoryStatistics {
  const pairs = statisticsKeys.map((key) => [key, place.field(key).whole()] as const)
  return Object.fromEntries(pairs) as Record<(typeof statisticsKeys)[number], number>
}

function readRange(place: Place): { readonly address: number; readonly bytes: number } {
  const address = place.field('address').whole()
  const bytes = place.field('bytes').whole()
  if (!Number.isSafeInteger(address + bytes)) throw place.field('bytes').wrong('a range that ends before 2^53')
  return { address, bytes }
}

/** Each different name once, and not too many: what is drawn is by name. */
class Names {
  readonly #known = new Map<string, string>()

  of(place: Place): string {
    const name = place.text()
    const known = this.#known.get(name)
    if (known !== undefined) return known
    if (this.#known.size >= most.names) throw place.wrong(`one of at most ${most.names} tags and pools`)
    this.#known.set(name, name)
    return name
  }
}

/** A value in the JSON, and where it is. */
class Place {
  readonly value: unknown
  readonly #what: string
  readonly #path: string

  constructor(what: string, path: string, value: unknown) {
    this.#what = what
    this.#path = path
    this.value = value
  }

  field(name: string): Place {
    const object = this.#object()
    const value = Object.hasOwn(object, name) ? object[name] : undefined
    return new Place(this.#what, this.#path === '' ? name : `${this.#path}.${name}`, value)
  }

  list<T>(atMost: number, read: (place: Place) => T): T[] {
    if (!Array.isArray(this.value)) throw this.wrong('a list')
    if (this.value.length > atMost) throw this.wrong(`a list of at most ${atMost}`)
    return this.value.map((value: unknown, i) => read(new Place(this.#what, `${this.#path}[${i}]`, value)))
  }

  record<T>(read: (place: Place) => T, names: Names): Record<string, T> {
    const entries = Object.entries(this.#object()).map(([name, value]) => {
      const place = new Place(this.#what, `${this.#path}[${printable(name)}]`, value)
      names.of(new Place(this.#what, `${this.#path}[${printable(name)}]`, name))
      return [name, read(place)] as const
    })
    return Object.fromEntries(entries)
  }

  whole(): number {
    const { value } = this
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw this.wrong('a whole number')
    return value
  }

  finite(): number {
    if (typeof this.value !== 'number' || !Number.isFinite(this.value)) throw this.wrong('a number')
    return this.value
  }

  flag(): boolean {
    if (typeof this.value !== 'boolean') throw this.wrong('true or false')
    return this.value
  }

  text(): string {
    if (typeof this.value !== 'string') throw this.wrong('a text')
    if (this.value.length > most.nameLength) throw this.wrong(`a text of at most ${most.nameLength} characters`)
    return this.value
  }

  wrong(rule: string): SpillwayError {
    const found = this.value === undefined ? 'missing' : printable(this.value)
    return invalid(this.#what, this.#path, `must be ${rule}; it is ${found}`)
  }

  #object(): Readonly<Record<string, unknown>> {
    if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value))
      throw this.wrong('an object')
    return this.value as Readonly<Record<string, unknown>>
  }
}

function invalid(what: string, path: string, problem: string, cause?: unknown): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_MEMORY_TRACE', `${what}: ${path === '' ? 'it' : path} ${problem}`, {
    details: { path },
    ...(cause === undefined ? {} : { cause }),
  })
}
