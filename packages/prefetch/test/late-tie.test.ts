import { configure, createOffloader, type ModuleSpec, type ParameterSpec } from '@spillway/core'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { expect, test } from 'vitest'

const weight = (name: string): ParameterSpec => ({ name, dtype: 'f32', shape: [64], stride: [1], use: 'linear' })
const layer = (i: number): ModuleSpec => ({
  name: `layer.${i}`,
  order: i,
  role: 'layer',
  parameters: [weight('a'), weight('b')],
})

// Through core, which turns a tie into a deletion: the backend that put the target on the host never hears of it.
test('a tie made after placing, to a layer that is on the host, is refused', async () => {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 20, check: true })
  const compute = device.createStream()
  const backends = [configure(prefetch, { groupSize: 3 })]
  const plan = { kvCacheBytes: 0, workspaceBytes: 0 }
  const offloader = await createOffloader({ device, compute, backends, pin: 'auto', plan })
  try {
    await offloader.wrapModules([layer(0), layer(1), layer(2)])
    const tie = (tiedTo: string) => new Map([['b', { tiedTo, use: 'linear' as const }]])
    await expect(offloader.replaceParameters('layer.0', tie('layer.2.b'))).rejects.toMatchObject({
      code: 'SPILLWAY_INVALID_SPEC',
      message: expect.stringContaining('layer.2.b'),
    })
    // A target on the device is what a tie is for.
    const placed = await offloader.replaceParameters('layer.0', tie('layer.1.b'))
    expect(placed.parameters.get('b')?.storage).toBe('device')
    await offloader.postInit()
  } finally {
    await offloader.dispose()
    await compute.dispose()
    await device.dispose()
  }
})
