// Places and loads the model of a case, as an engine would.
import {
  configure,
  createOffloader,
  type HostBuffer,
  type Offloader,
  type Replacement,
  type Stream,
  type TensorView,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import prefetch from '../src/index.js'
import { bytesOf, type RandomCase, type RandomReplacement } from './random-model.js'

/** Bytes of a parameter: others for each version of it. */
export function contents(name: string, version: number, bytes: number): Uint8Array {
  let state = 7 + version
  for (let i = 0; i < name.length; i++) state = (Math.imul(state, 31) + name.charCodeAt(i)) >>> 0
  const made = new Uint8Array(bytes)
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    made[i] = state >>> 24
  }
  return made
}

export interface LoadedCase {
  readonly offloader: Offloader
  /** Where offloaded parameters can be written, by full name. */
  readonly hostViews: ReadonlyMap<string, TensorView & { readonly buffer: HostBuffer }>
  /** Of the bytes in place, by full name. */
  readonly versions: ReadonlyMap<string, number>
  /** What went over the link into memory for weights. */
  readonly loadedBytes: number
}

export async function loadCase(device: NativeDevice, compute: Stream, randomCase: RandomCase): Promise<LoadedCase> {
  const { config, pin, calls, replacements } = randomCase
  const backends = [configure(prefetch, { ...config })]
  const offloader = await createOffloader({ device, compute, backends, pin: pin ? 'on' : 'off' })
  for (const specs of calls) await offloader.wrapModules(specs)
  const versions = new Map<string, number>()
  let loadedBytes = await write(device, compute, offloader, versions)
  for (const replacement of replacements) loadedBytes += await replace(device, offloader, replacement, versions)
  const hostViews = new Map<string, TensorView & { readonly buffer: HostBuffer }>()
  for (const [name, tensor] of ownTensors(offloader)) {
    const { buffer } = tensor
    if (buffer.kind === 'host-buffer') hostViews.set(name, { ...tensor, buffer })
  }
  await offloader.postInit()
  return { offloader, hostViews, versions, loadedBytes }
}

function* ownTensors(offloader: Offloader): Iterable<[name: string, tensor: TensorView]> {
  for (const [module, { parameters }] of offloader.modules) {
    for (const { name, tensor, tiedTo } of parameters.values()) {
      if (tiedTo === undefined) yield [`${module}.${name}`, tensor]
    }
  }
}

/** Writes version 0 of everything, wherever it lies; returns the bytes that crossed the link. */
async function write(
  device: NativeDevice,
  compute: Stream,
  offloader: Offloader,
  versions: Map<string, number>,
): Promise<number> {
  await using staging = await device.allocateHost(2 ** 21, { storage: 'pinned' })
  let used = 0
  for (const [name, { buffer, offset, ...layout }] of ownTensors(offloader)) {
    const bytes = bytesOf(layout)
    versions.set(name, 0)
    if (bytes === 0) continue
    if (buffer.kind === 'host-buffer') {
      buffer.write(contents(name, 0, bytes), offset)
      continue
    }
    staging.write(contents(name, 0, bytes), used)
    compute.copy(buffer, staging, { toOffset: offset, fromOffset: used, bytes })
    used += bytes
  }
  await compute.synchronize()
  return used
}

/** Post-load processing of one module, whose new bytes are version 1; returns those that crossed the link. */
async function replace(
  device: NativeDevice,
  offloader: Offloader,
  { module, put, remove }: RandomReplacement,
  versions: Map<string, number>,
): Promise<number> {
  await using scratch = await device.allocateHost(2 ** 17, { storage: 'pageable' })
  const next = new Map<string, Replacement | null>(remove.map((name) => [name, null]))
  let offset = 0
  for (const { name, dtype, shape, stride, use } of put) {
    const bytes = bytesOf({ dtype, shape })
    if (bytes > 0) scratch.write(contents(`${module}.${name}`, 1, bytes), offset)
    next.set(name, { tensor: { buffer: scratch, offset, dtype, shape, stride }, use })
    versions.set(`${module}.${name}`, 1)
    offset = Math.ceil((offset + bytes) / 16) * 16
  }
  const { parameters } = await offloader.replaceParameters(module, next)
  const onDevice = put.filter(({ name }) => parameters.get(name)!.storage === 'device')
  return onDevice.reduce((sum, parameter) => sum + bytesOf(parameter), 0)
}
