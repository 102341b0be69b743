import {
  applyReplacements,
  type BackendContext,
  type DeviceBuffer,
  type HostBuffer,
  type ModuleSpec,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  parameterBytes,
  type Replacement,
  Slab,
} from '@spillway/core'
import type { PrefetchAddon } from './native-ring.js'
import { explainOutOfMemory } from './out-of-memory.js'
import { fillSlabs } from './slab-filling.js'

/** Whether a parameter of the module, by its name, goes to the host. */
type IsOffloaded = (parameter: string) => boolean

interface Slabs {
  readonly offloaded: Slab<HostBuffer> | undefined
  readonly resident: Slab<DeviceBuffer> | undefined
}

/** Where the parameters of one module lie: some in a slab on the host, the rest in one on the device. Owns both. */
export class Placement {
  /** With the parameters the module owns; those that are tied elsewhere are left out. */
  readonly spec: ModuleSpec
  /** Undefined when no parameter is on the host. */
  readonly offloaded: Slab<HostBuffer> | undefined
  /** Undefined when no parameter is on the device. */
  readonly resident: Slab<DeviceBuffer> | undefined
  readonly #isOffloaded: IsOffloaded

  private constructor(spec: ModuleSpec, slabs: Slabs, isOffloaded: IsOffloaded) {
    this.spec = spec
    this.offloaded = slabs.offloaded
    this.resident = slabs.resident
    this.#isOffloaded = isOffloaded
  }

  /** Takes the memory, writes nothing. On failure nothing is left behind. `kept`: slabs that there are already. */
  static async create(
    context: BackendContext,
    module: ModuleSpec,
    isOffloaded: IsOffloaded,
    { signal, kept = {} }: { readonly signal?: AbortSignal | undefined; readonly kept?: Partial<Slabs> } = {},
  ): Promise<Placement> {
    const own = ownParameters(module)
    const onHost = own.filter(({ name }) => isOffloaded(name))
    const onDevice = own.filter(({ name }) => !isOffloaded(name))
    const offloaded = kept.offloaded ?? (onHost.length === 0 ? undefined : await allocateHost(context, onHost, signal))
    try {
      const resident =
        kept.resident ?? (onDevice.length === 0 ? undefined : allocateDevice(context, module.name, onDevice))
      return new Placement({ ...module, parameters: own }, { offloaded, resident }, isOffloaded)
    } catch (error) {
      if (offloaded !== kept.offloaded) await offloaded?.buffer.dispose()
      throw error
    }
  }

  get largestSlabBytes(): number {
    return Math.max(this.offloaded?.buffer.bytes ?? 0, this.resident?.buffer.bytes ?? 0)
  }

  get offloadedBytes(): number {
    return parameterBytes(this.offloaded?.parameters ?? [])
  }

  get residentBytes(): number {
    return parameterBytes(this.resident?.parameters ?? [])
  }

  /** For loaders; with `slot`, for kernels: offloaded parameters are read there, at the offsets of the slab. */
  placed(slot?: DeviceBuffer): PlacedModule {
    const parameters = new Map<string, Parameter>()
    for (const parameter of this.spec.parameters) parameters.set(parameter.name, this.#place(parameter, slot))
    return { spec: this.spec, parameters }
  }

  /**
   * The placement after a replacement, its bytes in place. A slab that nothing of it concerns is in both: a layer's
   * resident part is not copied, nor on the device twice, because what is on the host changes. So is the memory of a
   * host slab whose size stays the same: pinning another costs more than filling it. On failure this placement stays as
   * it is. `roomBytes`: device bytes that nobody else needs yet. `cachedBytes`: the largest piece of memory that earlier
   * replacements may have left cached; a smaller slab would be cut out of it, and keep the rest from slots.
   */
  async replace(
    addon: PrefetchAddon,
    context: BackendContext,
    next: ReadonlyMap<string, Replacement | null>,
    roomBytes: number,
    cachedBytes: number,
  ): Promise<Placement> {
    const { parameters, sources } = applyReplacements(this.placed(), next)
    const isOffloaded = this.#afterReplacing(next)
    const onHost = parameters.filter(({ name }) => isOffloaded(name))
    const onDevice = parameters.filter(({ name }) => !isOffloaded(name))
    const isUntouched = (
      slab: Slab<HostBuffer | DeviceBuffer> | undefined,
      wanted: readonly ParameterSpec[],
    ): boolean =>
      wanted.length === slab?.parameters.length &&
      wanted.every(({ name }, i) => name === slab.parameters[i]!.name && !next.has(name))
    const old = this.offloaded?.buffer
    const refilled = onHost.length > 0 && Slab.bytes(onHost) === old?.bytes ? new Slab(onHost, old) : undefined
    const kept: Slabs = {
      offloaded: isUntouched(this.offloaded, onHost) ? this.offloaded : refilled,
      resident: isUntouched(this.resident, onDevice) ? this.resident : undefined,
    }
    const takesMemory = kept.resident === undefined && onDevice.length > 0
    if (takesMemory && Slab.bytes(onDevice) < cachedBytes) context.device.releaseCachedMemory()
    const made = await Placement.create(context, { ...this.spec, parameters }, isOffloaded, { kept })
    try {
      const offloaded = made.offloaded === this.offloaded ? undefined : made.offloaded
      const resident = made.resident === this.resident ? undefined : made.resident
      const [module, replaced] = [this.spec.name, new Set(next.keys())]
      await fillSlabs({ addon, context, module, offloaded, resident, sources, replaced, old, roomBytes })
      return made
    } catch (error) {
      await made.dispose(this)
      throw error
    }
  }

  /** What stands in for parameters on the host goes there too, whatever its name: plans count on their room. */
  #afterReplacing(next: ReadonlyMap<string, Replacement | null>): IsOffloaded {
    const onHost = new Set(this.offloaded?.parameters.map(({ name }) => name))
    const standsIn = [...next].some(([name, replacement]) => replacement === null && onHost.has(name))
    if (!standsIn) return this.#isOffloaded
    const known = new Set(this.spec.parameters.map(({ name }) => name))
    const added = new Set([...next.keys()].filter((name) => !known.has(name)))
    return (parameter) => added.has(parameter) || this.#isOffloaded(parameter)
  }

  /** `except`: a placement that goes on, with the memory it shares with this one. */
  async dispose(except?: Placement): Promise<void> {
    const others = [except?.offloaded?.buffer, except?.resident?.buffer]
    const buffers = [this.offloaded?.buffer, this.resident?.buffer]
    await Promise.all(buffers.map((buffer) => (others.includes(buffer) ? undefined : buffer?.dispose())))
  }

  #place(parameter: ParameterSpec, slot: DeviceBuffer | undefined): Parameter {
    const { offloaded } = this
    return offloaded !== undefined && this.#isOffloaded(parameter.name)
      ? { ...parameter, storage: offloaded.buffer.storage, tensor: offloaded.view(parameter, slot) }
      : { ...parameter, storage: 'device', tensor: this.resident!.view(parameter) }
  }
}

async function allocateHost(
  { host }: BackendContext,
  parameters: readonly ParameterSpec[],
  signal: AbortSignal | undefined,
): Promise<Slab<HostBuffer>> {
  return new Slab(parameters, await host.allocate(Slab.bytes(parameters), signal === undefined ? {} : { signal }))
}

function allocateDevice(
  context: BackendContext,
  module: string,
  parameters: readonly ParameterSpec[],
): Slab<DeviceBuffer> {
  const bytes = Slab.bytes(parameters)
  try {
    const source = context.memory('weights')
    return new Slab(parameters, source.allocate(bytes, { stream: context.compute, module, recovery: { kind: 'copy' } }))
  } catch (error) {
    throw explainOutOfMemory(
      error,
      `module ${module} (${bytes} bytes), which is not offloaded,`,
      'Offload more layers, with a smaller --offload-group-size or a larger --offload-num-in-group; or leave both out, ' +
        'and as many are offloaded as need be; or give the device more memory',
    )
  }
}
