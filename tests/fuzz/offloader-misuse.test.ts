// Core's offloader, where it takes devices, streams, buffers and what engines pass with them: everything hostile in each
// place is a coded error or is taken, and nothing is left when the offloader is disposed.
import { configure, createOffloader, type Offloader } from '@spillway/core'
import type { NativeDevice, NativeStream } from '@spillway/device'
import { expect, test } from 'vitest'
import { onDevice } from '../../packages/device/test/device-rig.js'
import { shelf } from '../composition/shelf.js'
import { layers } from '../composition/specs.js'
import { hostileValues } from './hostile-values.mjs'

interface Rig {
  readonly device: NativeDevice
  readonly compute: NativeStream
  readonly offloader: Offloader
}
/** `state`: how far the offloader is when the call is made. */
type Place = [name: string, state: 'new' | 'wrapped' | 'ready', call: (rig: Rig, value: never) => unknown]

const spec = () => layers(1)[0]!
const parameter = () => spec().parameters[0]!
const view = (rig: Rig) => rig.offloader.modules.get('layers.0')!.parameters.get('up')!.tensor
const replace = (rig: Rig, tensor: object) => {
  const { name: _, ...layout } = parameter()
  return rig.offloader.replaceParameters('layers.0', new Map([['up', { ...layout, tensor } as never]]))
}

const places: Place[] = [
  ['createOffloader', 'new', (_, value) => created(createOffloader(value))],
  [
    'createOffloader, device',
    'new',
    ({ compute }, device) => created(createOffloader({ device, compute, backends: [] })),
  ],
  [
    'createOffloader, compute',
    'new',
    ({ device }, compute) => created(createOffloader({ device, compute, backends: [] })),
  ],
  ['createOffloader, backends', 'new', (rig, backends) => created(createOffloader({ ...rig, backends }))],
  ['createOffloader, a backend', 'new', (rig, value) => created(createOffloader({ ...rig, backends: [value] }))],
  ['createOffloader, pin', 'new', (rig, pin) => created(createOffloader({ ...rig, backends: [], pin }))],
  ['createOffloader, plan', 'new', (rig, plan) => created(createOffloader({ ...rig, backends: [], plan }))],
  [
    'createOffloader, plan.kvCacheBytes',
    'new',
    (rig, kvCacheBytes) =>
      created(createOffloader({ ...rig, backends: [], plan: { kvCacheBytes, workspaceBytes: 0 } })),
  ],
  [
    'createOffloader, environment',
    'new',
    (rig, environment) => created(createOffloader({ ...rig, backends: [], environment })),
  ],
  [
    'createOffloader, environment.pinMemoryDisabledBy',
    'new',
    (rig, pinMemoryDisabledBy) =>
      created(createOffloader({ ...rig, backends: [], environment: { pinMemoryDisabledBy } })),
  ],
  ['wrapModules', 'new', ({ offloader }, specs) => offloader.wrapModules(specs)],
  ['wrapModules, a module', 'new', ({ offloader }, value) => offloader.wrapModules([value])],
  ['wrapModules, options', 'new', ({ offloader }, value) => offloader.wrapModules(layers(1), value)],
  ['wrapModules, prefix', 'new', ({ offloader }, prefix) => offloader.wrapModules(layers(1), { prefix })],
  ['wrapModules, signal', 'new', ({ offloader }, signal) => offloader.wrapModules(layers(1), { signal })],
  [
    'wrapModules, a parameter',
    'new',
    ({ offloader }, value) => offloader.wrapModules([{ ...spec(), parameters: [value] }]),
  ],
  ...(['name', 'order', 'role', 'parameters'] as const).map(
    (field): Place => [
      `wrapModules, a module's ${field}`,
      'new',
      ({ offloader }, value) => offloader.wrapModules([{ ...spec(), [field]: value }]),
    ],
  ),
  ...(['name', 'dtype', 'shape', 'stride', 'use', 'tiedTo'] as const).map(
    (field): Place => [
      `wrapModules, a parameter's ${field}`,
      'new',
      ({ offloader }, value) =>
        offloader.wrapModules([{ ...spec(), parameters: [{ ...parameter(), [field]: value }] }]),
    ],
  ),
  ['memory', 'wrapped', ({ offloader }, tag) => offloader.memory(tag)],
  ['memory.allocate, bytes', 'wrapped', (rig, bytes) => allocate(rig, bytes, {})],
  [
    'memory.allocate, options',
    'wrapped',
    ({ offloader }, value) => disposed(offloader.memory('x').allocate(4096, value)),
  ],
  ['memory.allocate, stream', 'wrapped', (rig, stream) => allocate(rig, 4096, { stream })],
  ['memory.allocate, module', 'wrapped', (rig, module) => allocate(rig, 4096, { module })],
  ['memory.allocate, recovery', 'wrapped', (rig, recovery) => allocate(rig, 4096, { recovery })],
  ['host.allocate, bytes', 'wrapped', async ({ offloader }, bytes) => disposed(await offloader.host.allocate(bytes))],
  [
    'host.allocate, options',
    'wrapped',
    async ({ offloader }, value) => disposed(await offloader.host.allocate(16, value)),
  ],
  [
    'host.allocate, signal',
    'wrapped',
    async ({ offloader }, signal) => disposed(await offloader.host.allocate(16, { signal })),
  ],
  ['replaceParameters, module', 'wrapped', ({ offloader }, module) => offloader.replaceParameters(module, new Map())],
  ['replaceParameters, next', 'wrapped', ({ offloader }, next) => offloader.replaceParameters('layers.0', next)],
  [
    'replaceParameters, a name',
    'wrapped',
    ({ offloader }, name) => offloader.replaceParameters('layers.0', new Map([[name, null]])),
  ],
  [
    'replaceParameters, a replacement',
    'wrapped',
    ({ offloader }, value) => offloader.replaceParameters('layers.0', new Map([['up', value]])),
  ],
  ['replaceParameters, tensor', 'wrapped', replace],
  ...(['buffer', 'offset', 'dtype', 'shape', 'stride'] as const).map(
    (field): Place => [
      `replaceParameters, tensor.${field}`,
      'wrapped',
      (rig, value) => replace(rig, { ...view(rig), [field]: value }),
    ],
  ),
  ['beginForward', 'ready', ({ offloader }, stream) => offloader.beginForward(stream).end(true)],
  ['forward, stream', 'ready', ({ offloader }, stream) => offloader.forward(stream, () => undefined)],
  ['forward, body', 'ready', ({ offloader, compute }, body) => offloader.forward(compute, body)],
  ['before', 'ready', ({ offloader, compute }, module) => offloader.forward(compute, (scope) => scope.before(module))],
  [
    'after',
    'ready',
    ({ offloader, compute }, module) =>
      offloader.forward(compute, (scope) => {
        scope.before('layers.0')
        scope.after(module)
      }),
  ],
  ['end', 'ready', ({ offloader, compute }, ok) => offloader.beginForward(compute).end(ok)],
  ['planKernel', 'ready', ({ offloader }, operation) => offloader.planKernel(operation)],
  ['residency.source', 'ready', ({ offloader }, tag) => offloader.residency!.source(tag)],
  ['residency.use, tag', 'ready', ({ offloader }, tag) => offloader.residency!.use(tag, () => undefined)],
  ['residency.use, function', 'ready', ({ offloader }, fn) => offloader.residency!.use('weights', fn)],
  ['residency.sleep', 'ready', ({ offloader }, options) => offloader.residency!.sleep(options)],
  ['residency.sleep, level', 'ready', ({ offloader }, level) => offloader.residency!.sleep({ level })],
  ['residency.sleep, tags', 'ready', ({ offloader }, tags) => offloader.residency!.sleep({ level: 1, tags })],
  ['residency.sleep, after', 'ready', ({ offloader }, after) => offloader.residency!.sleep({ level: 1, after })],
  ['residency.sleep, signal', 'ready', ({ offloader }, signal) => offloader.residency!.sleep({ level: 1, signal })],
  ['residency.wake', 'ready', ({ offloader }, options) => offloader.residency!.wake(options)],
  ['residency.wake, tags', 'ready', ({ offloader }, tags) => offloader.residency!.wake({ tags })],
  ['residency.discard', 'ready', ({ offloader }, tags) => offloader.residency!.discard(tags)],
  ['residency.fence', 'ready', ({ offloader }, module) => offloader.residency!.fence(module)],
  ['residency.epoch', 'ready', ({ offloader }, tag) => offloader.residency!.epoch(tag)],
  ['settledStats', 'ready', ({ offloader }, options) => offloader.settledStats(options)],
  ['settledStats, signal', 'ready', ({ offloader }, signal) => offloader.settledStats({ signal })],
]

const created = async (offloader: Promise<Offloader>) => (await offloader).dispose()
const disposed = (buffer: { dispose(): Promise<void> }) => buffer.dispose()
const allocate = ({ offloader, compute }: Rig, bytes: number, more: object) =>
  disposed(
    offloader.memory('kv_cache').allocate(bytes, { stream: compute, recovery: { kind: 'copy' }, ...more } as never),
  )

/** Undefined when the call succeeded or failed with a coded error. */
async function problem(call: () => unknown): Promise<string | undefined> {
  try {
    await call()
    return undefined
  } catch (error) {
    const { name, code, message } = error as { name: unknown; code: unknown; message: unknown }
    const coded = name === 'SpillwayError' && /^SPILLWAY_(?!INTERNAL)/.test(String(code)) && /\w/.test(String(message))
    return coded ? undefined : `${String(name)}: ${String(message)}`
  }
}

// What a program's own function throws is passed on as it is; a function is no misuse.
const isFunction = (place: string, what: string) =>
  /^(forward, body|residency.use, function)$/.test(place) && /function|class|a proxy whose traps/.test(what)

test.each(places)('%s', async (place, state, call) => {
  const problems = new Map<string, string[]>()
  const note = (problem: string, what: string) => problems.set(problem, [...(problems.get(problem) ?? []), what])
  await onDevice({}, async (device) => {
    const compute = device.createStream()
    const backends = place.startsWith('residency') ? [configure(shelf)] : []
    for (const [what, make] of hostileValues) {
      if (isFunction(place, what)) continue
      const offloader = await createOffloader({ device, compute, backends })
      if (state !== 'new') await offloader.wrapModules(layers(1))
      if (state === 'ready') await offloader.postInit()
      const found = await problem(() => call({ device, compute, offloader }, make() as never))
      if (found !== undefined) note(found, what)
      const left = await problem(() => offloader.dispose())
      if (left !== undefined) note(`dispose: ${left}`, what)
      await compute.synchronize()
      const { usedBytes } = device.budget
      if (usedBytes > 0) note(`${usedBytes} bytes are left`, what)
    }
    await compute.dispose()
  })
  expect([...problems].map(([problem, values]) => `${problem} (given ${values.join(', ')})`).join('\n')).toBe('')
})
