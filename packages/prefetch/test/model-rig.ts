// The backend's steps over a real device, and a small model for it.
import {
  type BackendContext,
  contiguousStride,
  extentBytes,
  type HostBuffer,
  type MemorySource,
  type ModuleSpec,
  type OffloaderSteps,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  type Stream,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import prefetch from '../src/index.js'
import type { PrefetchConfig } from '../src/options.js'
import { pattern } from './device-rig.js'

export function parameter(name: string, shape: readonly number[], rest: Partial<ParameterSpec> = {}): ParameterSpec {
  return { name, dtype: 'f32', shape, stride: contiguousStride(shape), use: 'linear', ...rest }
}

/** An embedding, `layers` layers with two parameters each, a norm, and a head that is tied to the embedding. */
export function model(layers: number): ModuleSpec[] {
  const layer = (i: number): ModuleSpec => ({
    name: `layers.${i}`,
    order: i + 1,
    role: 'layer',
    parameters: [parameter('attention.weight', [8, 5 + (i % 3)]), parameter('mlp.weight', [33], { dtype: 'bf16' })],
  })
  return [
    { name: 'embed', order: 0, role: 'embedding', parameters: [parameter('weight', [16, 4], { use: 'gather' })] },
    ...Array.from({ length: layers }, (_, i) => layer(i)),
    { name: 'norm', order: layers + 1, role: 'norm', parameters: [parameter('weight', [4], { use: 'other' })] },
    {
      name: 'head',
      order: layers + 2,
      role: 'head',
      parameters: [parameter('weight', [16, 4], { tiedTo: 'embed.weight' })],
    },
  ]
}

/** What `createOffloader` hands to a backend, with nothing between it and the device. */
export function contextOn(
  device: NativeDevice,
  compute: Stream,
  options: Partial<BackendContext> = {},
): BackendContext {
  const memory = (tag: string): MemorySource => ({
    tag,
    allocate: (bytes, { stream, module }) =>
      device.allocate(bytes, module === undefined ? { tag, stream } : { tag, stream, module }),
  })
  return {
    device,
    compute,
    pin: { pin: true, reason: 'a test' },
    host: {
      allocate: (bytes, { signal } = {}) =>
        device.allocateHost(bytes, signal === undefined ? { storage: 'pinned' } : { storage: 'pinned', signal }),
    },
    budget: device.budget,
    plan: { kvCacheBytes: 0, workspaceBytes: 0 },
    memory,
    ...options,
  }
}

/** The backend's bare steps on a compute stream of its own; everything is disposed afterwards. */
export async function withSteps(
  device: NativeDevice,
  config: Partial<PrefetchConfig>,
  body: (steps: OffloaderSteps, compute: Stream) => Promise<void>,
  options: Partial<BackendContext> = {},
): Promise<void> {
  const compute = device.createStream()
  const context = contextOn(device, compute, options)
  const steps = await prefetch.create(context, { groupSize: 1, numInGroup: 1, params: [], ...config })
  try {
    await body(steps, compute)
  } finally {
    await compute.synchronize()
    await steps.dispose()
    await compute.dispose()
  }
}

/** Host memory that every device has, at full speed where there is such. */
export function stagingOn(device: NativeDevice, bytes: number): Promise<HostBuffer> {
  return device.allocateHost(bytes, { storage: device.capabilities.pinnedMemory ? 'pinned' : 'pageable' })
}

/** A number that says which module and parameter bytes belong to. */
export function seedOf(module: string, name: string): number {
  return [...`${module}.${name}`].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) & 0xff, 7)
}

/** Writes every parameter's own pattern to where it lies, over the link where that is device memory. */
export async function load(device: NativeDevice, modules: Iterable<PlacedModule>, stream: Stream): Promise<void> {
  for (const { spec, parameters } of modules) {
    for (const { name, tensor, tiedTo } of parameters.values()) {
      if (tiedTo === undefined)
        await write(device, stream, tensor, pattern(seedOf(spec.name, name), extentBytes(tensor)))
    }
  }
}

async function write(
  device: NativeDevice,
  stream: Stream,
  { buffer, offset }: Parameter['tensor'],
  bytes: Uint8Array,
): Promise<void> {
  if (bytes.length === 0) return
  if (buffer.kind === 'host-buffer') return buffer.write(bytes, offset)
  await using staging = await stagingOn(device, bytes.length)
  staging.write(bytes)
  stream.copy(buffer, staging, { toOffset: offset, bytes: bytes.length })
  await stream.synchronize()
}

/** The bytes of a tensor, wherever it lies. */
export async function tensorBytes(
  device: NativeDevice,
  stream: Stream,
  { buffer, offset, ...layout }: Parameter['tensor'],
): Promise<Uint8Array> {
  const bytes = extentBytes(layout)
  if (buffer.kind === 'host-buffer') return buffer.read(offset, bytes)
  await using host = await stagingOn(device, bytes)
  stream.copy(host, buffer, { fromOffset: offset, bytes })
  await stream.synchronize()
  return host.read()
}

/** Runs a forward that reads every parameter, and expects the bytes that `load` wrote. */
export async function readParameters(
  device: NativeDevice,
  modules: readonly PlacedModule[],
  steps: Pick<OffloaderSteps, 'beginForward'>,
  stream: Stream,
): Promise<void> {
  const host = await stagingOn(device, 64 * 1024)
  const checks: (() => void)[] = []
  let used = 0
  const forward = steps.beginForward(stream)
  for (const { spec, parameters } of modules) {
    forward.before(spec.name)
    for (const { name, tensor } of parameters.values()) {
      const bytes = extentBytes(tensor)
      const at = used
      used += bytes
      stream.copy(host, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
      checks.push(() => expect(host.read(at, bytes)).toEqual(pattern(seedOf(spec.name, name), bytes)))
    }
    forward.after(spec.name)
  }
  forward.end(true)
  await stream.synchronize()
  for (const check of checks) check()
  await host.dispose()
}
