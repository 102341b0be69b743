// Every call of the public interface of @spillway/device, as data: what it is called on, and what it takes.
//
// A call's arguments are described by what a correct program would pass:
//   'size' | 'offset' | 'byte' | 'text' | …: a plain value (plain-values.mjs)
//   { handle: [kinds] }: an object of one of these kinds; { native: kind }: the native handle of one
//   { list: argument }: some of them
//   { options: { field: argument, … } }: an object; every field may be left out unless named in `needed`

const handle = (...kinds) => ({ handle: kinds })
const options = (fields, needed = []) => ({ options: fields, needed })
const anyBuffer = handle('device-buffer', 'host-buffer')
const copyRange = options({ toOffset: 'offset', fromOffset: 'offset', bytes: 'count' })
const fillRange = options({ offset: 'offset', bytes: 'count' })
const list = (type) => ({ list: type })
const aCopy = options({ to: anyBuffer, from: anyBuffer, toOffset: 'offset', fromOffset: 'offset', bytes: 'count' }, [
  'to',
  'from',
  'bytes',
])
const anAccess = options({ buffer: anyBuffer, mode: 'accessMode', offset: 'offset', bytes: 'count' }, [
  'buffer',
  'mode',
])
const kernelLaunch = options(
  { grid: list('count'), block: list('count'), sharedBytes: 'count', arguments: 'source', accesses: list(anAccess) },
  ['grid', 'block', 'arguments', 'accesses'],
)
const abortable = options({ signal: 'signal' })
const allocatorSettings = options({
  maxSplitSizeMb: 'megabytes',
  expandableSegments: 'boolean',
  garbageCollectionThreshold: 'fraction',
  roundupPower2Divisions: 'divisions',
})
const allocation = options({ tag: 'text', stream: handle('stream'), module: 'text', allocatorSettings }, ['tag'])
const failure = options({ at: 'failurePoint', number: 'failureNumber' }, ['at', 'number'])

const everyObject = {
  'device-buffer': ['bytes', 'pointer', 'tag', 'kind', 'storage'],
  'host-buffer': ['bytes', 'kind', 'storage'],
  device: ['kind', 'name', 'type'],
  event: ['kind'],
  graph: ['kind', 'nodeCount'],
  range: ['bytes', 'kind'],
  physical: ['bytes', 'kind'],
  stream: ['kind', 'priority'],
}

/** Class of the package, by the kind of object. */
export const classNames = {
  device: 'NativeDevice',
  stream: 'NativeStream',
  event: 'NativeEvent',
  graph: 'NativeGraph',
  'device-buffer': 'NativeDeviceBuffer',
  'host-buffer': 'NativeHostBuffer',
  range: 'AddressRange',
  physical: 'PhysicalMemory',
  virtualMemory: 'VirtualMemory',
  pool: 'MemoryPool',
}

/** Objects that hang on a device. */
export const parts = ['virtualMemory', 'budget', 'failures', 'checker']

/**
 * @typedef {object} Call
 * @property {string} name
 * @property {string} [on]      kind of object it is a method (or getter) of; else a function of the package
 * @property {string} [member]  of its prototype
 * @property {'method' | 'getter' | 'function' | 'construct'} how
 * @property {unknown[]} takes
 * @property {number} needs     how many of them a correct program always passes
 * @property {string} [makes]   kind of what it returns
 * @property {boolean} [gpu]    succeeds on a GPU only
 * @property {boolean} [fails]    always, called as it is here
 * @property {boolean} [ends]   disposes what it is called on
 * @property {number} weight    how often the fuzzer picks it
 */

/** @type {Call[]} */
export const calls = []

const method = (on, member, takes = [], { needs = takes.length, weight = 4, ...more } = {}) =>
  calls.push({ name: `${on}.${String(member)}`, on, member, how: 'method', takes, needs, weight, ...more })
const getter = (on, member) =>
  calls.push({ name: `${on}.${member}`, on, member, how: 'getter', takes: [], needs: 0, weight: 1 })
const free = (name, takes = [], { needs = takes.length, weight = 1, how = 'function', ...more } = {}) =>
  calls.push({ name, how, takes, needs, weight, ...more })

free(
  'openDevice',
  [
    'selector',
    options(
      {
        memoryLimitBytes: 'memoryLimit',
        threads: 'threads',
        linkBytesPerSecond: 'linkRate',
        linkLatencyMs: 'linkLatency',
        check: 'boolean',
        adversarialSeed: 'seed',
        injectFailure: failure,
        // Not pinnedMemory: a program that is right would have to know which device cannot pin.
        capabilities: options({ unifiedMemory: 'boolean', confidentialComputing: 'boolean', wsl: 'boolean' }),
      },
      ['memoryLimitBytes'],
    ),
  ],
  { makes: 'device', weight: 1 },
)
free('cudaDriverCalls')
free('cudaStatus')
free('systemMemory')
free('currentAllocatorSettings')
// Without its function: what that throws is the program's own, and comes through.
free('withAllocatorSettings', [allocatorSettings], { fails: true })
free('attach')
free('handleOf', [handle(...Object.keys(everyObject))], { weight: 2 })

method('device', 'counters', [], { weight: 2 })
method('device', 'createStream', [options({ priority: 'priority' })], { needs: 0, makes: 'stream', weight: 5 })
method('device', 'createEvent', [], { makes: 'event', weight: 5 })
method('device', 'allocate', ['size', allocation], { makes: 'device-buffer', weight: 8 })
method('device', 'memoryPool', ['text', allocatorSettings], { needs: 1, makes: 'pool', weight: 2 })
method('pool', 'allocate', ['size', allocation], { makes: 'device-buffer', weight: 6 })
method('pool', 'releaseCachedMemory', [], { weight: 2 })
method('device', 'releaseCachedMemory', [], { weight: 2 })
method('device', 'memoryStats', [], { weight: 1 })
method('device', 'memorySnapshot', [], { weight: 1 })
method('device', 'startMemoryTrace', [options({ events: 'count' })], { needs: 0, weight: 1 })
method('device', 'memoryTrace', [], { weight: 1 })
const hostAllocation = options({ storage: 'storage', signal: 'signal', onProgress: 'callback' }, ['storage'])
method('device', 'allocateHost', ['size', hostAllocation], { makes: 'host-buffer', weight: 8 })
// Nobody iterates: arguments are looked at when somebody does (packages/device/test/host-memory.test.ts).
method('device', 'allocateHostParts', [list('size'), hostAllocation], { weight: 1 })
method('device', 'hostMemory', [], { weight: 1 })

method('device', 'wrapStream', ['pointer'], { weight: 1, gpu: true })
method('device', 'wrapMemory', ['pointer', 'size'], { weight: 1, gpu: true })
method('device', 'loadKernel', ['source', 'text'], { weight: 1, gpu: true })

method('stream', 'record', [handle('event'), options({ external: 'boolean' })], { needs: 1, weight: 8 })
method('stream', 'wait', [handle('event'), options({ external: 'boolean' })], { needs: 1, weight: 8 })
method('stream', 'copy', [anyBuffer, anyBuffer, copyRange], { needs: 2, weight: 20 })
method('stream', 'copyBatch', [list(aCopy)], { weight: 10 })
method('stream', 'launchKernel', [handle('event'), kernelLaunch], { weight: 2, gpu: true })
method('stream', 'fill', [anyBuffer, 'byte', fillRange], { needs: 2, weight: 12 })
method('stream', 'beginCapture', [], { weight: 2 })
method('stream', 'endCapture', [], { makes: 'graph', weight: 4 })
method('stream', 'launch', [handle('graph')], { weight: 8 })
method('stream', 'synchronize', [abortable], { needs: 0, weight: 6 })
getter('stream', 'capturing')

method('host-buffer', 'write', ['source', 'offset'], { needs: 1, weight: 8 })
method('host-buffer', 'read', ['offset', 'count'], { needs: 0, weight: 6 })
method('host-buffer', 'readInto', ['source', 'offset'], { needs: 1, weight: 4 })

method('virtualMemory', 'reserve', ['granules'], { makes: 'range', weight: 4 })
method('virtualMemory', 'createPhysical', ['granules', 'text'], { makes: 'physical', weight: 4 })
method('range', 'map', ['granularOffset', handle('physical')], { weight: 14 })
method('range', 'unmap', ['granularOffset', 'granules'], { weight: 12 })
method('range', 'buffer', ['offset', 'size'], { makes: 'device-buffer', weight: 6 })

for (const member of [
  'limitBytes',
  'usedBytes',
  'peakBytes',
  'cachedBytes',
  'granuleBytes',
  'availableBytes',
  'usedBytesByTag',
])
  getter('budget', member)
method('failures', 'arm', [failure], { weight: 4 })
method('failures', 'disarm', [], { weight: 2 })
getter('failures', 'fired')
method('failures', 'passed', [], { weight: 1 })
method('checker', 'takeViolations', [], { weight: 3 })

for (const kind of Object.keys(everyObject)) {
  const weight = kind === 'device' ? 0.3 : 2
  method(kind, 'dispose', [], { ends: true, weight })
  method(kind, Symbol.asyncDispose, [], { ends: true, weight: weight / 4 })
  getter(kind, 'disposed')
}

// Classes that a program can reach but is not meant to construct: with a handle of its own it makes a second object
// for the same thing.
for (const [kind, name] of Object.entries(classNames)) {
  if (kind === 'virtualMemory' || kind === 'pool') continue
  free(`new ${name}`, [{ native: kind }, 'text'], { how: 'construct', makes: kind, weight: 1 })
}
free('new NativeKernel', [{ native: 'device' }, 'text'], { how: 'construct', weight: 1 })
free('new MemoryPool', [{ native: 'device' }, 'text', allocatorSettings], { how: 'construct', weight: 1 })
free('new VirtualMemory', [{ native: 'device' }], { how: 'construct', weight: 1 })

/** A kernel, through another addon: only with numbers, what it checks of its own arguments is not the device's. */
calls.push({
  name: 'kernel',
  on: 'stream',
  how: 'kernel',
  takes: [anyBuffer, 'offset', 'count', 'touchMode', 'boolean'],
  needs: 5,
  weight: 8,
})

/** What programs have no business calling. */
// A kernel is made on a GPU only; the last one writes files (packages/device/test/memory-trace-file.test.ts).
export const notPublic = new Set(['checker.close', 'NativeKernel', 'writeMemoryTrace'])
