import { configure, createOffloader, extentBytes, none, type Offloader, type Replacement } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { contents, copyOut, type Fixture, loadAll, physicalBytes, rejected, withDevice } from './device-fixture.js'
import { layerBytes, layerSlabBytes, layers, module, parameter } from './specs.js'

const create = ({ device, compute }: Fixture): Promise<Offloader> =>
  createOffloader({
    device,
    compute,
    backends: [configure(none)],
    pin: 'auto',
    environment: { pinMemoryDisabledBy: undefined },
  })

test('one exact slab per module on the device, loaded in place and read back in a forward', () =>
  withDevice(async (fixture) => {
    const { device, compute } = fixture
    await using offloader = await create(fixture)
    const placed = await offloader.wrapModules(layers(3))
    expect(device.budget.usedBytesByTag.weights).toBe(3 * physicalBytes(layerSlabBytes))
    expect(device.counters().liveHandles['device-buffer']).toBe(3)
    expect(placed.map(({ spec }) => spec.name)).toEqual(['layers.0', 'layers.1', 'layers.2'])
    for (const { parameters } of placed) {
      expect(parameters.get('up')!.tensor.buffer.bytes).toBe(layerSlabBytes)
      expect(
        [...parameters.values()].map(({ storage, tensor }) => [storage, tensor.buffer.kind, tensor.offset]),
      ).toEqual([
        ['device', 'device-buffer', 0],
        ['device', 'device-buffer', 1024],
      ])
    }
    await loadAll(fixture, placed)
    const ready = await offloader.postInit()
    expect(ready).toBe(offloader.modules)
    expect(device.budget.usedBytes).toBe(3 * physicalBytes(layerSlabBytes))

    const out = await device.allocateHost(1000, { storage: 'pinned' })
    for (const [name, { parameters }] of ready) {
      offloader.forward(compute, (scope) => {
        scope.before(name)
        copyOut(compute, out, parameters.get('up')!.tensor)
        scope.after(name)
      })
      await compute.synchronize()
      expect(out.read()).toEqual(contents(`${name}.up`, 1000))
    }
    await out.dispose()
    expect(await offloader.settledStats()).toEqual({
      offloadedBytes: 0,
      residentBytes: 3 * layerBytes,
      slotBytes: 0,
      onloadedBytes: 0,
      peakDeviceBytes: 3 * physicalBytes(layerSlabBytes),
      pinned: { pin: true, reason: expect.any(String) },
    })
  }))

test('no backend at all is none', () =>
  withDevice(async ({ device, compute }) => {
    await using offloader = await createOffloader({ device, compute, backends: [] })
    expect(offloader.names).toEqual(['none'])
  }))

test.each([0, 1, 2, 3])('out of memory at module %i: nothing of that call is left, a smaller one works', (fits) =>
  withDevice(
    async (fixture) => {
      const { device } = fixture
      await using offloader = await create(fixture)
      const error = await rejected(offloader.wrapModules(layers(4)))
      expect(error.code).toBe('SPILLWAY_OUT_OF_MEMORY')
      expect(error.details.requestedBytes).toBeGreaterThanOrEqual(layerSlabBytes)
      expect(device.budget.usedBytes).toBe(0)
      expect(device.counters().liveHandles['device-buffer'] ?? 0).toBe(0)
      expect(offloader.modules.size).toBe(0)
      if (fits === 0) return
      await offloader.wrapModules(layers(fits))
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(fits * layerBytes)
    },
    fits * physicalBytes(layerSlabBytes) + 100,
  ),
)

test('an out-of-memory second call leaves the first one as it was', () =>
  withDevice(async (fixture) => {
    await using offloader = await create(fixture)
    await offloader.wrapModules(layers(1))
    const late = module('late', 9, [parameter('w', [10_000])])
    expect((await rejected(offloader.wrapModules([late]))).code).toBe('SPILLWAY_OUT_OF_MEMORY')
    await loadAll(fixture, offloader.modules.values())
    await offloader.postInit()
    expect([...offloader.modules.keys()]).toEqual(['layers.0'])
  }, physicalBytes(layerSlabBytes, 40_000) - 1))

test('an aborted signal ends wrapModules with nothing placed', () =>
  withDevice(async (fixture) => {
    await using offloader = await create(fixture)
    const error = await rejected(offloader.wrapModules(layers(2), { signal: AbortSignal.abort('changed my mind') }))
    expect(error).toMatchObject({ code: 'SPILLWAY_ABORTED', cause: 'changed my mind' })
    expect(fixture.device.budget.usedBytes).toBe(0)
    expect(offloader.modules.size).toBe(0)
  }))

test('modules without parameters and parameters without elements', () =>
  withDevice(async (fixture) => {
    await using offloader = await create(fixture)
    await offloader.wrapModules([module('a', 0, []), module('b', 1, [parameter('w', [0, 4]), parameter('v', [1])])])
    await offloader.postInit()
    expect(offloader.stats().residentBytes).toBe(4)
    expect(fixture.device.budget.usedBytes).toBe(physicalBytes(4))
    expect(offloader.modules.get('b')!.parameters.get('v')!.tensor.buffer.bytes).toBe(4)
    expect(offloader.modules.get('a')!.parameters.size).toBe(0)
    expect(extentBytes(offloader.modules.get('b')!.parameters.get('w')!.tensor)).toBe(0)
  }))

describe('replaceParameters', () => {
  test('fuses, keeps, adds and deletes; bytes arrive from the device and from the host', () =>
    withDevice(async (fixture) => {
      const { device } = fixture
      await using offloader = await create(fixture)
      await offloader.wrapModules([
        module('m', 0, [
          parameter('q', [8, 4]),
          parameter('k', [4, 4]),
          parameter('norm', [5]),
          parameter('gone', [3]),
        ]),
      ])
      await loadAll(fixture, offloader.modules.values())
      const old = offloader.modules.get('m')!
      const oldSlab = old.parameters.get('q')!.tensor.buffer

      // A fused tensor made on the host, and a strided view of the old device memory.
      const fused = await offloader.host.allocate(192)
      fused.write(contents('fused', 192))
      const half = {
        ...old.parameters.get('q')!.tensor,
        offset: old.parameters.get('q')!.tensor.offset + 16,
        shape: [3, 2],
        stride: [4, 1],
      }
      const next = new Map<string, Replacement | null>([
        ['q', null],
        ['k', null],
        ['gone', null],
        ['qk', { tensor: { buffer: fused, offset: 0, dtype: 'f32', shape: [12, 4], stride: [4, 1] }, use: 'linear' }],
        ['half', { tensor: half, use: 'other' }],
      ])
      const placed = await offloader.replaceParameters('m', next)
      await fused.dispose()

      expect([...placed.parameters.keys()]).toEqual(['norm', 'qk', 'half'])
      expect(placed.spec.parameters.map(({ name, use }) => [name, use])).toEqual([
        ['norm', 'linear'],
        ['qk', 'linear'],
        ['half', 'other'],
      ])
      expect(placed.parameters.get('half')).toMatchObject({ shape: [3, 2], stride: [4, 1], storage: 'device' })
      expect(oldSlab.disposed).toBe(true)
      expect(device.budget.usedBytesByTag.weights).toBe(physicalBytes(512 + 40))
      expect(placed.parameters.get('norm')!.tensor.buffer.bytes).toBe(512 + 40)
      expect(offloader.stats().residentBytes).toBe(20 + 192 + 40)
      expect(await fixture.read(placed.parameters.get('norm')!.tensor)).toEqual(contents('m.norm', 20))
      expect(await fixture.read(placed.parameters.get('qk')!.tensor)).toEqual(contents('fused', 192))
      expect(await fixture.read(placed.parameters.get('half')!.tensor)).toEqual(contents('m.q', 128).subarray(16, 56))
      expect((await offloader.postInit()).get('m')).toEqual(placed)
    }))

  test('of and by parameters without elements', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await offloader.wrapModules([module('m', 0, [parameter('empty', [0]), parameter('w', [2])])])
      await loadAll(fixture, offloader.modules.values())
      const { tensor } = offloader.modules.get('m')!.parameters.get('empty')!
      await offloader.replaceParameters('m', new Map([['other', { tensor, use: 'other' as const }]]))
      const { parameters } = offloader.modules.get('m')!
      expect([...parameters.keys()]).toEqual(['empty', 'w', 'other'])
      expect(await fixture.read(parameters.get('w')!.tensor)).toEqual(contents('m.w', 8))
      await offloader.postInit()
    }))

  test('that does not fit leaves the old parameters and their bytes', () =>
    withDevice(async (fixture) => {
      await using offloader = await create(fixture)
      await offloader.wrapModules([module('m', 0, [parameter('w', [1000])])])
      await loadAll(fixture, offloader.modules.values())
      const before = offloader.modules.get('m')!
      const large = await offloader.host.allocate(6000)
      const tensor = { buffer: large, offset: 0, dtype: 'f32' as const, shape: [1500], stride: [1] }
      const error = await rejected(
        offloader.replaceParameters('m', new Map([['w', { tensor, use: 'linear' as const }]])),
      )
      await large.dispose()
      expect(error.code).toBe('SPILLWAY_OUT_OF_MEMORY')
      expect(offloader.modules.get('m')).toBe(before)
      expect(fixture.device.budget.usedBytes).toBe(physicalBytes(4000))
      expect(await fixture.read(before.parameters.get('w')!.tensor)).toEqual(contents('m.w', 4000))
      await offloader.postInit()
      expect(offloader.stats().residentBytes).toBe(4000)
    }, physicalBytes(4000, 6000) - 1))
})
