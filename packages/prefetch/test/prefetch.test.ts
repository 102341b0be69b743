import {
  configure,
  createOffloader,
  type Device,
  type ModuleSpec,
  type Offloader,
  parameterBytes,
  type Stream,
} from '@spillway/core'
import { openDevice } from '@spillway/device'
import prefetch, { type PrefetchConfig } from '@spillway/prefetch'
import { expect, test } from 'vitest'

const plan = { kvCacheBytes: 0, workspaceBytes: 0 }
const weight = (name: string, length: number): ModuleSpec['parameters'][number] => ({
  name,
  dtype: 'f32',
  shape: [length],
  stride: [1],
  use: 'linear',
})

/** An embedding, `layers` layers of two parameters, a head tied to the embedding. */
function specs(layers: number, first = 0): ModuleSpec[] {
  const list: ModuleSpec[] = []
  if (first === 0) list.push({ name: 'embedding', order: 0, role: 'embedding', parameters: [weight('w', 64)] })
  for (let i = first; i < first + layers; i++) {
    list.push({
      name: `layer.${i}`,
      order: i + 1,
      role: 'layer',
      parameters: [weight('a', 65 + i), weight('b', 3)],
    })
  }
  return list
}

async function withOffloader(
  config: Partial<PrefetchConfig>,
  options: { pin?: 'auto' | 'on' | 'off'; limitBytes?: number },
  body: (parts: { device: Device; compute: Stream; offloader: Offloader }) => Promise<void>,
): Promise<void> {
  const device = await openDevice('host', { memoryLimitBytes: options.limitBytes ?? 2 ** 24 })
  const compute = device.createStream()
  const offloader = await createOffloader({
    device,
    compute,
    backends: [configure(prefetch, config)],
    pin: options.pin ?? 'auto',
    plan,
  })
  try {
    await body({ device, compute, offloader })
  } finally {
    await offloader.dispose()
    await compute.synchronize()
    await compute.dispose()
    const live = Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
    expect(live).toEqual([])
    expect(device.budget.usedBytes).toBe(0)
    await device.dispose()
  }
}

test('the last N of every G layers, counted over calls, whatever the order they are given in', async () => {
  const cases: readonly [groupSize: number, numInGroup: number, expected: readonly number[]][] = [
    [1, 1, [0, 1, 2, 3, 4, 5, 6]],
    [3, 1, [2, 5]],
    [3, 2, [1, 2, 4, 5]],
    [8, 2, [6]],
  ]
  for (const [groupSize, numInGroup, expected] of cases) {
    await withOffloader({ groupSize, numInGroup }, {}, async ({ device, offloader }) => {
      const first = specs(4)
      await offloader.wrapModules([...first].reverse())
      await offloader.wrapModules(specs(3, 4), { prefix: 'more' })
      const modules = await offloader.postInit()
      const onHost = [...modules.values()].filter((m) => m.parameters.get('a')?.storage === 'pinned')
      expect(onHost.map((m) => m.spec.name).sort()).toEqual(expected.map((i) => `layer.${i}`).sort())
      const bytes = expected.reduce((sum, i) => sum + (65 + i + 3) * 4, 0)
      expect(offloader.stats()).toMatchObject({ offloadedBytes: bytes })
      // Slabs hold the padding between two parameters besides, and nothing else is pinned.
      const slabBytes = expected.reduce((sum, i) => sum + Math.ceil(((65 + i) * 4) / 256) * 256 + 12, 0)
      expect(device.counters().pinnedBytes).toBe(slabBytes)
      for (const module of onHost) expect(module.parameters.get('a')?.tensor.buffer.storage).toBe('device')
    })
  }
})

test('pin off: pageable slabs, said in stats', async () => {
  await withOffloader({}, { pin: 'off' }, async ({ device, offloader }) => {
    await offloader.wrapModules(specs(3))
    const modules = await offloader.postInit()
    expect(modules.get('layer.1')?.parameters.get('b')?.storage).toBe('pageable')
    expect(device.counters().pinnedBytes).toBe(0)
    expect(device.counters().pageableBytes).toBeGreaterThan(0)
    expect(offloader.stats().pinned.pin).toBe(false)
  })
})

test('a layer that another module is tied to stays on the device', async () => {
  await withOffloader({}, {}, async ({ offloader }) => {
    const list = specs(3)
    list.push({
      name: 'head',
      order: 9,
      role: 'head',
      parameters: [{ ...weight('w', 66), tiedTo: 'layer.1.a' }],
    })
    await offloader.wrapModules(list)
    const modules = await offloader.postInit()
    expect(modules.get('layer.1')?.parameters.get('a')?.storage).toBe('device')
    expect(modules.get('layer.0')?.parameters.get('a')?.storage).toBe('pinned')
    expect(modules.get('head')?.parameters.get('w')?.tensor).toEqual(
      modules.get('layer.1')?.parameters.get('a')?.tensor,
    )
  })
})

test('a tie made after placing, to a layer that is on the host, is refused', async () => {
  await withOffloader({ groupSize: 3 }, {}, async ({ offloader }) => {
    await offloader.wrapModules(specs(3))
    const tie = (tiedTo: string) => new Map([['b', { tiedTo, use: 'linear' as const }]])
    await expect(offloader.replaceParameters('layer.0', tie('layer.2.b'))).rejects.toMatchObject({
      code: 'SPILLWAY_INVALID_SPEC',
      message: expect.stringContaining('layer.2.b'),
    })
    // A target on the device is what a tie is for.
    const placed = await offloader.replaceParameters('layer.0', tie('layer.1.b'))
    expect(placed.parameters.get('b')?.storage).toBe('device')
    await offloader.postInit()
  })
})

test('replaced parameters lie in a new exact slab, and the accounting follows', async () => {
  await withOffloader({ prefetchStep: 1 }, {}, async ({ device, compute, offloader }) => {
    await offloader.wrapModules(specs(3))
    const scratch = await device.allocateHost(40, { storage: 'pageable' })
    scratch.write(Uint8Array.from({ length: 40 }, (_, i) => i + 1))
    const tensor = { buffer: scratch, offset: 0, dtype: 'f32', shape: [10], stride: [1] } as const
    const placed = await offloader.replaceParameters(
      'layer.2',
      new Map([
        ['a', null],
        ['fused', { tensor, use: 'linear' as const }],
      ]),
    )
    expect([...placed.parameters.keys()]).toEqual(['b', 'fused'])
    expect(placed.parameters.get('fused')?.storage).toBe('pinned')
    await scratch.dispose()
    const modules = await offloader.postInit()
    expect(offloader.stats().offloadedBytes).toBe(
      ['layer.0', 'layer.1', 'layer.2'].reduce(
        (sum, name) => sum + parameterBytes([...modules.get(name)!.parameters.values()]),
        0,
      ),
    )
    // The new bytes arrive in the slot.
    const out = await device.allocateHost(40, { storage: 'pinned' })
    offloader.forward(compute, (scope) => {
      scope.before('layer.2')
      const { buffer, offset } = modules.get('layer.2')!.parameters.get('fused')!.tensor
      compute.copy(out, buffer, { fromOffset: offset, bytes: 40 })
      scope.after('layer.2')
    })
    await compute.synchronize()
    expect(out.read()).toEqual(Uint8Array.from({ length: 40 }, (_, i) => i + 1))
    await out.dispose()
  })
})

test('options that contradict each other name both numbers', async () => {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 20 })
  const compute = device.createStream()
  const backends = [configure(prefetch, { groupSize: 2, numInGroup: 3 })]
  await expect(createOffloader({ device, compute, backends, pin: 'auto', plan })).rejects.toMatchObject({
    code: 'SPILLWAY_INVALID_OPTION',
    message: expect.stringMatching(/2.*3|3.*2/),
  })
  await compute.dispose()
  await device.dispose()
})

test('wherever memory runs out, an error with numbers and nothing left', async () => {
  // Layers on the host, embedding resident: 1 page; three slots of a page each. Every limit below that fails somewhere.
  for (let pages = 1; pages <= 4; pages++) {
    await withOffloader({ prefetchStep: 3 }, { limitBytes: pages * 4096 }, async ({ offloader }) => {
      await offloader.wrapModules(specs(5))
      if (pages < 4) {
        await expect(offloader.postInit()).rejects.toMatchObject({
          code: 'SPILLWAY_OUT_OF_MEMORY',
          message: expect.stringContaining('--offload-prefetch-step'),
        })
      } else {
        await offloader.postInit()
      }
    })
  }
})

test('an aborted placing leaves nothing', async () => {
  await withOffloader({}, {}, async ({ device, offloader }) => {
    await expect(offloader.wrapModules(specs(5), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'SPILLWAY_ABORTED',
    })
    expect(device.counters().pinnedBytes).toBe(0)
  })
})
