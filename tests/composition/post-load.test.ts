// Post-load processing of the engine over backends: what it computes, and what memory it takes meanwhile.
import { type ConfiguredBackend, configure, createOffloader, extentBytes, type ModuleSpec, none } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { type NativeDevice, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { describe, expect, test } from 'vitest'
import { fuseLayer } from '../../packages/decoder/src/fuse.js'
import { readCheckpointLayers } from '../matrix/checkpoint-layers.js'
import { module, parameter } from './specs.js'

const joined: Readonly<Record<string, readonly string[]>> = {
  'self_attn.qkv_proj.weight': ['q', 'k', 'v'].map((part) => `self_attn.${part}_proj.weight`),
  'self_attn.qkv_proj.bias': ['q', 'k', 'v'].map((part) => `self_attn.${part}_proj.bias`),
  'mlp.gate_up_proj.weight': ['mlp.gate_proj.weight', 'mlp.up_proj.weight'],
}

/** Parts of `width` columns. They lie one after another where a row is a multiple of 256 bytes; biases never do. */
function layer(width: number): ModuleSpec {
  const rows = { q: 4, k: 2, v: 2 }
  return module('layer', 0, [
    parameter('norm', [width]),
    ...Object.entries(rows).map(([part, count]) => parameter(`self_attn.${part}_proj.weight`, [count, width])),
    ...Object.entries(rows).map(([part, count]) => parameter(`self_attn.${part}_proj.bias`, [count])),
    parameter('mlp.gate_proj.weight', [3, width]),
    parameter('mlp.up_proj.weight', [3, width]),
    parameter('mlp.down_proj.weight', [width, 3]),
  ])
}
const biasBytes = 4 * (4 + 2 + 2)

/** Fuses a loaded layer and holds every parameter to its bytes. Returns the bytes of each host buffer it took for that. */
async function fuse(backend: ConfiguredBackend, width: number, idleBytes: number): Promise<readonly number[]> {
  const device = await openDevice('host', { memoryLimitBytes: 2 ** 20, check: true })
  const stream = device.createStream()
  const plan = { kvCacheBytes: 0, workspaceBytes: 0 }
  const offloader = await createOffloader({ device, compute: stream, backends: [backend], plan })
  const idle = idleBytes > 0 ? device.allocate(idleBytes, { tag: 'kv_cache', stream }) : undefined
  const staging = await device.allocateHost(2 ** 16, { storage: 'pinned' })
  try {
    await offloader.wrapModules([layer(width)])
    const bytes = new Map<string, Uint8Array>()
    for (const [i, { name, tensor }] of [...offloader.modules.get('layer')!.parameters.values()].entries()) {
      const content = Uint8Array.from({ length: extentBytes(tensor) }, (_, at) => (i * 37 + at * 11 + (at >> 5)) & 0xff)
      bytes.set(name, content)
      staging.write(content)
      stream.copy(tensor.buffer, staging, { toOffset: tensor.offset, bytes: content.length })
      await stream.synchronize()
    }
    for (const [to, from] of Object.entries(joined)) {
      bytes.set(to, Buffer.concat(from.map((name) => bytes.get(name)!)))
      for (const name of from) bytes.delete(name)
    }
    const allocated: number[] = []
    const host: typeof offloader.host = {
      allocate: (size, options) => {
        allocated.push(size)
        return offloader.host.allocate(size, options)
      },
    }
    const { modules } = offloader
    const replaceParameters = offloader.replaceParameters.bind(offloader)
    const handles = device.counters().liveHandles
    await fuseLayer('layer', { offloader: { modules, replaceParameters, host }, stream, ...(idle && { idle }) })
    expect(device.counters().liveHandles).toEqual(handles)
    const { parameters } = offloader.modules.get('layer')!
    expect([...parameters.keys()].sort()).toEqual([...bytes.keys()].sort())
    for (const { name, tensor } of parameters.values()) {
      const length = extentBytes(tensor)
      stream.copy(staging, tensor.buffer, { fromOffset: tensor.offset, bytes: length })
      await stream.synchronize()
      expect(Buffer.compare(staging.read(0, length), bytes.get(name)!), name).toBe(0)
    }
    return allocated
  } finally {
    await Promise.all([idle?.dispose(), staging.dispose()])
    await offloader.dispose()
    await stream.dispose()
    await device.dispose()
  }
}

describe.each([
  ['on the device', configure(none)],
  ['on the host', configure(prefetch, { groupSize: 1 })],
  ['partly on the host', configure(prefetch, { groupSize: 1, params: ['k_proj', 'up_proj'] })],
] as const)('a layer %s is fused', (where, backend) => {
  const apart = where === 'partly on the host'

  test('from where its parts lie, and in idle memory where they lie apart', async () => {
    expect(await fuse(backend, 64, 2 ** 14)).toEqual([])
    expect(await fuse(backend, 50, 2 ** 14)).toEqual([])
  })

  test('on the host where no memory is idle', async () => {
    const [qkvBytes, gateUpBytes] = [4 * 64 * 8, 4 * 64 * 6]
    expect(await fuse(backend, 64, 0)).toEqual(apart ? [qkvBytes, biasBytes, gateUpBytes] : [biasBytes])
    expect(await fuse(backend, 50, 0)).toEqual([4 * 50 * 8, biasBytes, 4 * 50 * 6])
    // Room for one of the three.
    expect(await fuse(backend, 50, 4 * 50 * 6)).toEqual([4 * 50 * 8, 4 * 50 * 6])
  })
})

describe('loading the demo model', () => {
  const { layerBytes, weightBytes } = readCheckpointLayers(modelDirectory())
  const layers = layerBytes.length
  const largest = Math.max(...layerBytes)
  const sizes = { contextLength: 64, maxRows: 32 } as const
  /** What whole pages take more, for the slab of each module and the engine's few buffers. */
  const roundingBytes = 4096 * (layers + 8)

  async function loaded(
    options: { memoryLimitBytes?: number; offload?: ConfiguredBackend },
    use: (model: Model, device: NativeDevice) => void,
  ): Promise<void> {
    const { memoryLimitBytes = 2 ** 26, offload } = options
    const device = await openDevice('host', { memoryLimitBytes, check: true })
    const model = await loadModel(modelDirectory(), { device, ...sizes, ...(offload && { offload }) })
    try {
      use(model, device)
    } finally {
      await model.dispose()
      await device.dispose()
    }
  }
  const planned = ({ plan: { kvCacheBytes, workspaceBytes } }: Model): number => kvCacheBytes + workspaceBytes

  test('everything on the device: the plan and one layer', async () => {
    await loaded({}, (model, device) => {
      const peak = device.budget.peakBytes
      expect(peak).toBeLessThanOrEqual(weightBytes + planned(model) + largest + roundingBytes)
      expect(peak).toBeGreaterThan(weightBytes + planned(model) + largest / 2)
      expect(device.counters().launches).toBe(0)
    })
  })

  test.each([1, 2])('groups of %i: one launch a layer, and the plan with its slots is enough', async (groupSize) => {
    const offload = configure(prefetch, { groupSize })
    await loaded({ offload }, (model, device) => {
      expect(device.counters().launches).toBe(layers)
      const { residentBytes, slotBytes } = model.stats()
      expect(slotBytes).toBe(2 * largest)
      expect(device.budget.peakBytes).toBeLessThanOrEqual(residentBytes + slotBytes + planned(model) + roundingBytes)
    })
  })

  test('one slot: no room for a layer twice, so its tensors come up one by one', async () => {
    const offload = configure(prefetch, { groupSize: 1, prefetchStep: 1 })
    await loaded({ offload }, (model, device) => {
      expect(device.counters().launches).toBe(0)
      const { residentBytes, slotBytes } = model.stats()
      expect(slotBytes).toBe(largest)
      expect(device.budget.peakBytes).toBeLessThanOrEqual(residentBytes + slotBytes + planned(model) + roundingBytes)
    })
  })

  test('a fit under a tight limit: as much as was planned, one launch for each layer', async () => {
    let least = 0
    await loaded({}, (model) => {
      least = weightBytes + planned(model)
    })
    for (const memoryLimitBytes of [least, Math.floor(0.8 * least), Math.floor(0.6 * least)]) {
      await loaded({ offload: configure(prefetch), memoryLimitBytes }, (model, device) => {
        const { offloadedBytes, slotBytes } = model.stats()
        expect(offloadedBytes).toBeGreaterThan(0)
        expect(slotBytes).toBe(2 * largest)
        expect(device.counters().launches).toBe(layers)
        expect(device.budget.peakBytes).toBeLessThanOrEqual(model.explain().memory.deviceBytes + roundingBytes)
      })
    }
  })
})
