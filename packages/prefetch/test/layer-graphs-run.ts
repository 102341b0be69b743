// Kernels of each layer captured alone and replayed in an eager forward, between `before` and `after`: an engine in
// pieces that costs no more copies than one without graphs. Any device.
import { configure, createOffloader, extentBytes, type Graph, type HostBuffer, slabLayout } from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import prefetch from '../src/index.js'
import { onloadedSince, pattern } from './device-rig.js'
import { load, model, seedOf, stagingOn } from './model-rig.js'

/** Leaves nothing on the device. */
export async function runLayerGraphs(device: NativeDevice, layers: number, prefetchStep: number): Promise<void> {
  await using compute = device.createStream()
  const backends = [configure(prefetch, { groupSize: 1, prefetchStep })]
  await using offloader = await createOffloader({ device, compute, backends, pin: 'on' })
  await offloader.wrapModules(model(layers))
  await load(device, offloader.modules.values(), compute)
  const modules = await offloader.postInit()
  const graphs = new Map<string, Graph>()
  const expected: { readonly seen: HostBuffer; readonly bytes: Uint8Array }[] = []
  try {
    for (const [module, { parameters }] of modules) {
      compute.beginCapture()
      // Reading stands for the kernels.
      for (const { name, tensor, tiedTo } of parameters.values()) {
        const [owner, owned] = tiedTo === undefined ? [module, name] : (tiedTo.split('.') as [string, string])
        const bytes = pattern(seedOf(owner, owned), extentBytes(tensor))
        const seen = await stagingOn(device, bytes.length)
        expected.push({ seen, bytes })
        compute.copy(seen, tensor.buffer, { fromOffset: tensor.offset, bytes: bytes.length })
      }
      graphs.set(module, compute.endCapture())
    }
    await offloader.settledStats()
    const slabs = model(layers).filter(({ role }) => role === 'layer')
    const layerBytes = slabs.reduce((sum, { parameters }) => sum + slabLayout(parameters).bytes, 0)
    for (let step = 0; step < 4; step++) {
      for (const { seen } of expected) seen.write(new Uint8Array(seen.bytes))
      const before = device.counters()
      offloader.forward(compute, (scope) => {
        for (const [module, graph] of graphs) {
          scope.before(module)
          compute.launch(graph)
          scope.after(module)
        }
      })
      await offloader.settledStats()
      expect(onloadedSince(device, before)).toEqual({ copies: layers, bytes: layerBytes })
      for (const { seen, bytes } of expected) expect(seen.read()).toEqual(bytes)
    }
    expect(offloader.stats().onloads).toMatchObject({ demandOnloads: 0, resets: 0, failedForwards: 0 })
  } finally {
    for (const graph of graphs.values()) await graph.dispose()
    for (const { seen } of expected) await seen.dispose()
  }
}
