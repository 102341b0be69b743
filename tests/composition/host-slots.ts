import {
  type BackendContext,
  configure,
  createOffloader,
  type DeviceBuffer,
  extentBytes,
  type ForwardSteps,
  type HostBuffer,
  type ModuleSpec,
  type Offloader,
  type OffloaderSteps,
  type OffloadStats,
  ownParameters,
  type Parameter,
  type PlacedModule,
  type PlacementBackend,
  parameterBytes,
  type Replacement,
  type Stream,
  slabLayout,
  throwIfAborted,
} from '@spillway/core'
import type { Fixture } from './device-fixture.js'

export interface HostSlotsOptions {
  /** The first so many modules stay on the device. */
  readonly resident: number
}

/**
 * The simplest placement backend that offloads: a host slab and a slot of its own for every module, copied in on the
 * forward's stream at every `before`. Slow, and right.
 */
export const hostSlots: PlacementBackend<HostSlotsOptions> = {
  name: 'host-slots',
  apiVersion: 1,
  role: 'placement',
  supports: { offloads: true, graphs: true, unpinned: true, kernels: false, reload: false },
  options: { resident: { type: 'integer', default: 0, min: 0, help: 'modules that stay on the device' } },
  create: async (context, config) => new HostSlots(context, config),
}

interface Slotted {
  readonly spec: ModuleSpec
  readonly slab: HostBuffer | DeviceBuffer
  readonly slot: DeviceBuffer | undefined
}

export class HostSlots implements OffloaderSteps {
  readonly modules = new Map<string, Slotted>()
  readonly context: BackendContext
  readonly config: HostSlotsOptions
  ends: boolean[] = []
  disposals = 0
  #onloadedBytes = 0

  constructor(context: BackendContext, config: HostSlotsOptions) {
    this.context = context
    this.config = config
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    { signal }: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    const made: Slotted[] = []
    try {
      for (const spec of specs) {
        throwIfAborted(signal, 'placing modules')
        const resident = this.modules.size + made.length < this.config.resident
        const slab = await this.#slab(spec, resident, signal)
        made.push({ spec, slab, slot: undefined })
      }
    } catch (error) {
      for (const { slab } of made) await slab.dispose()
      throw error
    }
    for (const module of made) this.modules.set(module.spec.name, module)
    return made.map((module) => this.placed(module))
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const old = this.modules.get(name)!
    const sources = new Map(
      [...this.placed(old).parameters.values()].map((p) => [p.name, { tensor: p.tensor, use: p.use }]),
    )
    for (const [parameter, replacement] of next) {
      if (replacement === null) sources.delete(parameter)
      else if ('tensor' in replacement) sources.set(parameter, replacement)
    }
    const parameters = [...sources].map(([parameter, { tensor, use }]) => {
      const { dtype, shape, stride } = tensor
      return { name: parameter, dtype, shape, stride, use }
    })
    const spec = { ...old.spec, parameters }
    const made = { spec, slab: await this.#slab(spec, old.slab.kind === 'device-buffer'), slot: undefined }
    for (const { name: parameter, tensor } of this.placed(made).parameters.values()) {
      const from = sources.get(parameter)!.tensor
      const range = { toOffset: tensor.offset, fromOffset: from.offset, bytes: extentBytes(tensor) }
      this.context.compute.copy(tensor.buffer, from.buffer, range)
    }
    await this.context.compute.synchronize()
    this.modules.set(name, made)
    await old.slab.dispose()
    return this.placed(made)
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    for (const [name, module] of this.modules) {
      if (module.slab.kind === 'device-buffer') continue
      const image = module.slab
      const slot = this.context.memory('weights').allocate(image.bytes, {
        stream: this.context.compute,
        module: name,
        recovery: { kind: 'rebuild', rebuild: (stream) => stream.copy(slot, image) },
      })
      this.modules.set(name, { ...module, slot })
    }
    return [...this.modules.values()].map((module) => this.placed(module))
  }

  beginForward(stream: Stream): ForwardSteps {
    return {
      before: (name) => {
        const { slab, slot } = this.modules.get(name)!
        if (slot === undefined) return
        stream.copy(slot, slab)
        // What a capture records is not done.
        if (!stream.capturing) this.#onloadedBytes += slot.bytes
      },
      after: () => {},
      end: (ok) => this.ends.push(ok),
    }
  }

  stats(): OffloadStats {
    const sum = { offloadedBytes: 0, residentBytes: 0, slotBytes: 0, onloadedBytes: this.#onloadedBytes }
    for (const { spec, slab, slot } of this.modules.values()) {
      sum[slab.kind === 'device-buffer' ? 'residentBytes' : 'offloadedBytes'] += parameterBytes(ownParameters(spec))
      sum.slotBytes += slot?.bytes ?? 0
    }
    return sum
  }

  async dispose(): Promise<void> {
    this.disposals++
    const modules = [...this.modules.values()]
    this.modules.clear()
    for (const { slab, slot } of modules) {
      await slab.dispose()
      await slot?.dispose()
    }
  }

  placed({ spec, slab, slot }: Slotted): PlacedModule {
    const own = ownParameters(spec)
    const { offsets } = slabLayout(own)
    const parameters = own.map(({ name, dtype, shape, stride, use }): [string, Parameter] => {
      const tensor = { buffer: slot ?? slab, offset: offsets.get(name)!, dtype, shape, stride }
      return [name, { name, dtype, shape, stride, use, storage: slab.storage, tensor }]
    })
    return { spec, parameters: new Map(parameters) }
  }

  async #slab(spec: ModuleSpec, resident: boolean, signal?: AbortSignal): Promise<HostBuffer | DeviceBuffer> {
    const bytes = Math.max(1, slabLayout(ownParameters(spec)).bytes)
    if (!resident) return this.context.host.allocate(bytes, signal === undefined ? {} : { signal })
    const recovery = { kind: 'copy' } as const
    return this.context.memory('weights').allocate(bytes, { stream: this.context.compute, module: spec.name, recovery })
  }
}

/** `hostSlots` with one thing about it changed: how a backend breaks its contract. */
export function broken(
  change: (steps: HostSlots) => Partial<OffloaderSteps>,
  more: Partial<PlacementBackend<HostSlotsOptions>> = {},
): PlacementBackend<HostSlotsOptions> {
  return {
    ...hostSlots,
    name: 'broken',
    create: async (context, config) => {
      const steps = new HostSlots(context, config)
      return Object.assign(steps, change(steps))
    },
    ...more,
  }
}

/** Where `backend`, which is `hostSlots` or broken, keeps the first `resident` modules on the device. */
export function offloaderOf(
  { device, compute }: Fixture,
  backend: PlacementBackend<HostSlotsOptions>,
  resident = 0,
): Promise<Offloader> {
  return createOffloader({ device, compute, backends: [configure(backend, { resident })] })
}
