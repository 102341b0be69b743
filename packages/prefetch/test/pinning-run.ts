// A model's life under one setting of what decides about pinned memory, with the kind of every slab looked at after each
// step that allocates. Any device.
import {
  configure,
  createOffloader,
  extentBytes,
  type HostStorage,
  type Offloader,
  type PinSetting,
  type Replacement,
  type Stream,
  slabLayout,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import prefetch from '../src/index.js'
import { failure, pattern } from './device-rig.js'
import { load, model, seedOf, stagingOn, tensorBytes } from './model-rig.js'

export interface PinningCase {
  readonly setting: PinSetting
  /** SPILLWAY_DISABLE_PIN_MEMORY; undefined: not set. */
  readonly ours: string | undefined
  /** VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY. */
  readonly theirs: string | undefined
}

/** A storage, or the code of the error that making an offloader is. */
export type PinningAnswer = 'pinned' | 'pageable' | `SPILLWAY_${string}`

const settings: readonly PinSetting[] = ['auto', 'on', 'off']
const values = [undefined, '', '0', '1', 'true', 'True', 'false'] as const

/** Each variable with each value while the other is silent, then both, and values that are none of ours. */
export const pinningCases: readonly PinningCase[] = settings.flatMap((setting) => [
  ...values.map((ours) => ({ setting, ours, theirs: undefined })),
  ...values.slice(1).map((theirs) => ({ setting, ours: undefined, theirs })),
  ...['0', '1'].flatMap((ours) => ['0', '1'].map((theirs) => ({ setting, ours, theirs }))),
  { setting, ours: 'yes', theirs: undefined },
  { setting, ours: undefined, theirs: 'yes' },
])

/** The rule of the README once more, for a machine that can pin, or cannot, and that has or has no reason against it. */
export function pinningAnswer(
  { setting, ours, theirs }: PinningCase,
  machine: { readonly pins: boolean; readonly against: boolean },
): PinningAnswer {
  const on = (value: string | undefined): boolean => /^(1|true)$/i.test(value ?? '')
  if (!/^(|0|1|true|false)$/i.test(ours ?? '')) return 'SPILLWAY_INVALID_ENVIRONMENT'
  if (!machine.pins) return setting === 'on' ? 'SPILLWAY_PIN_UNSUPPORTED' : 'pageable'
  if (setting !== 'auto') return setting === 'on' ? 'pinned' : 'pageable'
  return on(ours) || on(theirs) || machine.against ? 'pageable' : 'pinned'
}

/** Expects `answer` of a whole life on the device, and leaves nothing there. */
export async function runPinningCase(device: NativeDevice, given: PinningCase, answer: PinningAnswer): Promise<void> {
  const variables = {
    SPILLWAY_DISABLE_PIN_MEMORY: given.ours,
    VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY: given.theirs,
  }
  await using compute = device.createStream()
  const create = (): Promise<Offloader> => {
    const backends = [configure(prefetch, { groupSize: 1, prefetchStep: 2 })]
    return withVariables(variables, () => createOffloader({ device, compute, backends, pin: given.setting }))
  }
  if (answer !== 'pinned' && answer !== 'pageable') return void (await failure(answer, create))

  await using offloader = await create()
  expect(offloader.pin.pin).toBe(answer === 'pinned')
  await offloader.wrapModules(model(layers))
  expectSlabs(device, offloader, answer, 'after wrapModules')
  await load(device, offloader.modules.values(), compute)
  await replaceAll(device, offloader, answer)
  expectSlabs(device, offloader, answer, 'after replaceParameters')
  // Changed later, a variable changes nothing: it was decided once.
  await withVariables({ SPILLWAY_DISABLE_PIN_MEMORY: answer === 'pinned' ? '1' : '0' }, async () => {
    await offloader.postInit()
    expectSlabs(device, offloader, answer, 'after postInit')
    const staging = await offloader.host.allocate(100)
    expect(staging.storage).toBe(answer)
    await staging.dispose()
  })
  for (const { parameters } of offloader.modules.values()) {
    for (const { tensor } of parameters.values()) expect(tensor.buffer.kind).toBe('device-buffer')
  }
  const reading = new Reading(device, offloader)
  offloader.forward(compute, (scope) => reading.enqueue(scope, compute))
  await reading.check(compute, 'an eager forward')
  await expectCapture(reading, answer)
  offloader.forward(compute, (scope) => reading.enqueue(scope, compute))
  await reading.check(compute, 'a forward after the capture')
  expectSlabs(device, offloader, answer, 'after forwards')
  expect((await offloader.settledStats()).pinned).toEqual(offloader.pin)
  await reading.dispose()
}

const layers = 5

async function withVariables<T>(
  variables: Readonly<Record<string, string | undefined>>,
  body: () => Promise<T>,
): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const)
  const set = ([name, value]: readonly [string, string | undefined]): void => {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  try {
    Object.entries(variables).forEach(set)
    return await body()
  } finally {
    before.forEach(set)
  }
}

/** Every offloaded parameter says where it is, and host memory is of that kind alone, slab by slab to the byte. */
function expectSlabs(device: NativeDevice, offloader: Offloader, answer: HostStorage, when: string): void {
  let bytes = 0
  for (const { spec, parameters } of offloader.modules.values()) {
    if (spec.role !== 'layer') continue
    bytes += slabLayout([...parameters.values()]).bytes
    for (const { name, storage, tensor } of parameters.values()) {
      expect(storage, `${spec.name}.${name} ${when}`).toBe(answer)
      if (tensor.buffer.kind === 'host-buffer') expect(tensor.buffer.storage, `${spec.name} ${when}`).toBe(answer)
    }
  }
  const { pinnedBytes, pageableBytes, mappedBytes } = device.counters()
  expect(bytes).toBeGreaterThan(0)
  expect({ pinnedBytes, pageableBytes, mappedBytes }, when).toEqual({
    pinnedBytes: answer === 'pinned' ? bytes : 0,
    pageableBytes: answer === 'pageable' ? bytes : 0,
    mappedBytes: 0,
  })
}

/** New parameters in every layer, out of memory of the other kind, and out of the device's: none of it is passed on. */
async function replaceAll(device: NativeDevice, offloader: Offloader, answer: HostStorage): Promise<void> {
  const other = answer === 'pageable' && device.capabilities.pinnedMemory ? 'pinned' : 'pageable'
  for (let i = 0; i < layers; i++) {
    const bytes = pattern(seedOf(`layers.${i}`, 'fused.weight'), 44)
    const scratch =
      i % 2 === 0 ? await device.allocateHost(64, { storage: other }) : device.allocate(64, { tag: 'scratch' })
    if (scratch.kind === 'host-buffer') {
      scratch.write(bytes)
    } else {
      await using staging = await stagingOn(device, 44)
      await using stream = device.createStream()
      staging.write(bytes)
      stream.copy(scratch, staging, { bytes: 44 })
      await stream.synchronize()
    }
    const tensor = { buffer: scratch, offset: 0, dtype: 'f32', shape: [11], stride: [1] } as const
    const next = new Map<string, Replacement | null>([['attention.weight', null]])
    await offloader.replaceParameters(`layers.${i}`, next.set('fused.weight', { tensor, use: 'linear' }))
    await scratch.dispose()
  }
}

/** A captured forward replays, or is refused in words that say what helps. */
async function expectCapture(reading: Reading, answer: HostStorage): Promise<void> {
  const { device, offloader } = reading
  await using stream = device.createStream()
  stream.beginCapture()
  if (answer === 'pinned') {
    offloader.forward(stream, (scope) => reading.enqueue(scope, stream))
    await using graph = stream.endCapture()
    await reading.wipe(stream)
    stream.launch(graph)
    await reading.check(stream, 'a replay')
    return
  }
  const error = await failure('SPILLWAY_CAPTURE', () => offloader.forward(stream, () => {}))
  expect(error.message).toMatch(/unpinned host memory cannot be copied inside a capture.*--pin-memory on/)
  await stream.endCapture().dispose()
}

/** What forwards read, in device memory, so that a graph can put it there. */
class Reading {
  readonly device: NativeDevice
  readonly offloader: Offloader
  readonly #log: ReturnType<NativeDevice['allocate']>

  constructor(device: NativeDevice, offloader: Offloader) {
    this.device = device
    this.offloader = offloader
    this.#log = device.allocate(64 * 1024, { tag: 'log' })
  }

  enqueue(scope: { before(module: string): void; after(module: string): void }, stream: Stream): void {
    let at = 0
    for (const [module, { parameters }] of this.offloader.modules) {
      scope.before(module)
      for (const { tensor } of parameters.values()) {
        const bytes = extentBytes(tensor)
        stream.copy(this.#log, tensor.buffer, { toOffset: at, fromOffset: tensor.offset, bytes })
        at += bytes
      }
      scope.after(module)
    }
  }

  async wipe(stream: Stream): Promise<void> {
    stream.fill(this.#log, 0)
    await stream.synchronize()
  }

  async check(stream: Stream, what: string): Promise<void> {
    const shape = [this.#log.bytes]
    const seen = await tensorBytes(this.device, stream, {
      buffer: this.#log,
      offset: 0,
      dtype: 'u8',
      shape,
      stride: [1],
    })
    let at = 0
    for (const [module, { parameters }] of this.offloader.modules) {
      for (const { name, tensor, tiedTo } of parameters.values()) {
        const bytes = extentBytes(tensor)
        const seed = tiedTo === undefined ? seedOf(module, name) : seedOf('embed', 'weight')
        expect(seen.subarray(at, at + bytes), `${what}: ${module}.${name}`).toEqual(pattern(seed, bytes))
        at += bytes
      }
    }
    await this.wipe(stream)
  }

  dispose(): Promise<void> {
    return this.#log.dispose()
  }
}
