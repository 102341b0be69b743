import {
  configure,
  createAutoBackend,
  createOffloader,
  type OffloadBackend,
  type Offloader,
  SpillwayError,
} from '@spillway/core'
import { expect, test } from 'vitest'
import { contents, type Fixture, loadAll, physicalBytes, rejected, thrown, withDevice } from './device-fixture.js'
import { hostSlots } from './host-slots.js'
import { shelf } from './shelf.js'
import { layerBytes, layerSlabBytes, layers } from './specs.js'

const plan = { kvCacheBytes: 3000, workspaceBytes: 500 }
const page = 4096
// By hand: four slabs of a page each, caches and workspace of one each, and room for the old and new parameters of one module during post-load processing.
const everything = 4 * page + 2 * page + 2 * page

interface Made {
  readonly offloader: Offloader
  readonly loads: () => number
}
async function create(
  { device, compute }: Fixture,
  load = async (): Promise<unknown> => hostSlots,
  config = {},
): Promise<Made> {
  let loads = 0
  const auto = createAutoBackend({
    options: hostSlots.options,
    loadPrefetch: () => {
      loads++
      return load() as Promise<OffloadBackend<never>>
    },
  })
  const offloader = await createOffloader({ device, compute, backends: [configure(auto, config)], plan })
  return { offloader, loads: () => loads }
}

test('keeps everything resident when it just fits, and does not load prefetch', () =>
  withDevice(async (fixture) => {
    const { offloader, loads } = await create(fixture)
    expect(offloader.names).toEqual(['auto'])
    await offloader.wrapModules(layers(4))
    expect(offloader.names).toEqual(['auto (none)'])
    expect(loads()).toBe(0)
    await offloader.postInit()
    expect(offloader.stats()).toMatchObject({ offloadedBytes: 0, residentBytes: 4 * layerBytes })
    expect(fixture.device.budget.usedBytes).toBe(4 * physicalBytes(layerSlabBytes))
    await offloader.dispose()
  }, everything))

test('offloads when one byte is missing', () =>
  withDevice(async (fixture) => {
    const { offloader, loads } = await create(fixture)
    await offloader.wrapModules(layers(4))
    expect(offloader.names).toEqual(['auto (host-slots)'])
    expect(loads()).toBe(1)
    await loadAll(fixture, offloader.modules.values())
    await offloader.postInit()
    expect(offloader.stats()).toMatchObject({ offloadedBytes: 4 * layerBytes, residentBytes: 0 })
    const { tensor, storage } = offloader.modules.get('layers.2')!.parameters.get('down')!
    expect(storage).toBe('pinned')
    offloader.forward(fixture.compute, (scope) => {
      scope.before('layers.2')
      scope.after('layers.2')
    })
    expect(await fixture.read(tensor)).toEqual(contents('layers.2.down', 400))
    await offloader.dispose()
  }, everything - 1))

test('counts what others use already', () =>
  withDevice(async (fixture) => {
    const other = fixture.device.allocate(1, { tag: 'other', stream: fixture.compute })
    const { offloader } = await create(fixture)
    await offloader.wrapModules(layers(4))
    expect(offloader.names).toEqual(['auto (host-slots)'])
    await offloader.dispose()
    await other.dispose()
  }, everything))

test('hands the options on', () =>
  withDevice(async (fixture) => {
    const { offloader } = await create(fixture, undefined, { resident: 1 })
    await offloader.wrapModules(layers(4))
    await offloader.postInit()
    expect(offloader.stats()).toMatchObject({ offloadedBytes: 3 * layerBytes, residentBytes: layerBytes })
    await offloader.dispose()
  }, everything - 1))

test('later calls go to whom it chose, and so does a second try after a failure', () =>
  withDevice(async (fixture) => {
    const { offloader, loads } = await create(fixture)
    const small = layers(6)
    await offloader.wrapModules(small.slice(0, 4))
    await offloader.wrapModules(small.slice(4))
    expect(offloader.names).toEqual(['auto (none)'])
    expect(loads()).toBe(0)
    await offloader.dispose()
    const again = await create(fixture)
    const aborted = await rejected(again.offloader.wrapModules(layers(9), { signal: AbortSignal.abort() }))
    expect(aborted.code).toBe('SPILLWAY_ABORTED')
    expect(again.offloader.names).toEqual(['auto'])
    await again.offloader.wrapModules(layers(9))
    expect(again.offloader.names).toEqual(['auto (host-slots)'])
    await again.offloader.dispose()
  }, everything))

test('a prefetch that does not load says why it was needed, and keeps its code', () =>
  withDevice(async (fixture) => {
    const { offloader } = await create(fixture, async () => {
      throw new SpillwayError('SPILLWAY_UNKNOWN_BACKEND', 'install it with: npm install x')
    })
    const error = await rejected(offloader.wrapModules(layers(4)))
    expect(error.code).toBe('SPILLWAY_UNKNOWN_BACKEND')
    expect(error.message).toMatch(/do not fit.*npm install x/)
    await offloader.dispose()
    const { offloader: other } = await create(fixture, () => Promise.reject(new Error('boom')))
    expect((await rejected(other.wrapModules(layers(4)))).code).toBe('SPILLWAY_BACKEND_FAILED')
    await other.dispose()
  }, 4 * page))

test('what it loads must be a placement backend', () =>
  withDevice(async (fixture) => {
    const { offloader } = await create(fixture, async () => shelf)
    expect((await rejected(offloader.wrapModules(layers(4)))).code).toBe('SPILLWAY_BACKEND_INVALID')
    await offloader.dispose()
  }, 4 * page))

test('a chosen backend without support for graphs refuses a capture', () =>
  withDevice(async (fixture) => {
    const { compute } = fixture
    const { offloader } = await create(fixture, async () => ({
      ...hostSlots,
      supports: { ...hostSlots.supports, graphs: false },
    }))
    await offloader.wrapModules(layers(4))
    await offloader.postInit()
    compute.beginCapture()
    const error = thrown(() => offloader.beginForward(compute))
    await compute.endCapture().dispose()
    expect(error.code).toBe('SPILLWAY_NOT_SUPPORTED')
    expect(error.message).toContain('host-slots')
    offloader.beginForward(compute).end(true)
    await offloader.dispose()
  }, everything - 1))

test('a chosen backend that needs pinned memory is refused where memory is not pinned', () =>
  withDevice(async ({ device, compute }) => {
    const picky = { ...hostSlots, supports: { ...hostSlots.supports, unpinned: false } }
    const auto = createAutoBackend({
      options: hostSlots.options,
      loadPrefetch: async () => picky as OffloadBackend<never>,
    })
    await using offloader = await createOffloader({ device, compute, backends: [configure(auto)], pin: 'off', plan })
    expect((await rejected(offloader.wrapModules(layers(4)))).code).toBe('SPILLWAY_PIN_REQUIRED')
  }, 4 * page))

test('options that have no effect, because everything fits, are a warning', () =>
  withDevice(async (fixture) => {
    const seen: (Error & { code?: string })[] = []
    const listen = (warning: Error): number => seen.push(warning)
    process.on('warning', listen)
    const { offloader } = await create(fixture, undefined, { resident: 1 })
    await offloader.wrapModules(layers(4))
    const { offloader: plain } = await create(fixture)
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', listen)
    expect(seen).toHaveLength(1)
    expect(seen[0]).toMatchObject({ name: 'SpillwayWarning', code: 'SPILLWAY_OPTION_IGNORED' })
    expect(seen[0]!.message).toMatch(/auto keeps everything on the device.*--resident.*backend prefetch/)
    await offloader.dispose()
    await plain.dispose()
  }, everything))
