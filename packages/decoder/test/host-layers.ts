import {
  type BackendContext,
  type ConfiguredBackend,
  configure,
  type DeviceBuffer,
  extentBytes,
  type ForwardSteps,
  type HostBuffer,
  type ModuleSpec,
  type OffloaderSteps,
  type OffloadStats,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  type PlacementBackend,
  parameterBytes,
  type Replacement,
  type Stream,
  slabLayout,
} from '@spillway/core'

/** What the backend was asked for, in order: `before model.layers.0`, `after …`, `end true`. */
export type ForwardLog = string[]

/**
 * The simplest backend that offloads: every layer in host memory, one slot on the device, a copy before each use, all on
 * the compute stream. The decoder's tests need one, and may not depend on the real ones.
 */
export function hostLayers(
  log: ForwardLog,
  onPostInit: (placed: readonly PlacedModule[]) => void = () => {},
): ConfiguredBackend {
  const backend: PlacementBackend<Readonly<Record<string, never>>> = {
    name: 'host-layers',
    apiVersion: 1,
    role: 'placement',
    supports: { offloads: true, graphs: true, unpinned: true, kernels: false, reload: false },
    options: {},
    create: async (context) => new HostLayersSteps(context, log, onPostInit),
  }
  return configure(backend)
}

interface Placed {
  readonly spec: ModuleSpec
  readonly parameters: readonly ParameterSpec[]
  readonly slab: HostBuffer | DeviceBuffer
  readonly placed: PlacedModule
}

class HostLayersSteps implements OffloaderSteps {
  readonly #context: BackendContext
  readonly #log: ForwardLog
  readonly #onPostInit: (placed: readonly PlacedModule[]) => void
  readonly #modules = new Map<string, Placed>()
  #slot: DeviceBuffer | undefined
  #onloadedBytes = 0

  constructor(context: BackendContext, log: ForwardLog, onPostInit: (placed: readonly PlacedModule[]) => void) {
    this.#context = context
    this.#log = log
    this.#onPostInit = onPostInit
  }

  async wrapModules(specs: readonly ModuleSpec[]): Promise<readonly PlacedModule[]> {
    const placed: PlacedModule[] = []
    for (const spec of specs) placed.push(await this.#place(spec, ownParameters(spec)))
    return placed
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const old = this.#modules.get(name)!
    const sources = new Map([...old.placed.parameters].map(([key, parameter]) => [key, parameter.tensor]))
    const parameters = old.parameters.filter((parameter) => !next.has(parameter.name))
    for (const [key, replacement] of next) {
      if (replacement === null || !('tensor' in replacement)) continue
      const { dtype, shape, stride } = replacement.tensor
      parameters.push({ name: key, dtype, shape, stride, use: replacement.use })
      sources.set(key, replacement.tensor)
    }
    const placed = await this.#place(old.spec, parameters)
    for (const { name: key, tensor } of placed.parameters.values()) {
      const from = sources.get(key)!
      const range = { toOffset: tensor.offset, fromOffset: from.offset, bytes: extentBytes(tensor) }
      this.#context.compute.copy(tensor.buffer, from.buffer, range)
    }
    await this.#context.compute.synchronize()
    await old.slab.dispose()
    return placed
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    const layers = [...this.#modules.values()].filter(({ spec }) => spec.role === 'layer')
    const bytes = Math.max(...layers.map(({ slab }) => slab.bytes))
    const { compute } = this.#context
    const slot = this.#context
      .memory('weights')
      .allocate(bytes, { stream: compute, recovery: { kind: 'rebuild', rebuild() {} } })
    this.#slot = slot
    const ready = [...this.#modules.values()].map(({ spec, placed }) => {
      if (spec.role !== 'layer') return placed
      const inSlot = [...placed.parameters].map(([name, parameter]): [string, Parameter] => {
        return [name, { ...parameter, tensor: { ...parameter.tensor, buffer: slot } }]
      })
      return { ...placed, parameters: new Map(inSlot) }
    })
    this.#onPostInit(ready)
    return ready
  }

  beginForward(stream: Stream): ForwardSteps {
    return {
      before: (name) => {
        this.#log.push(`before ${name}`)
        const module = this.#modules.get(name)!
        if (module.spec.role !== 'layer') return
        stream.copy(this.#slot!, module.slab)
        // What a capture records is not done.
        if (!stream.capturing) this.#onloadedBytes += module.slab.bytes
      },
      after: (name) => void this.#log.push(`after ${name}`),
      end: (ok) => void this.#log.push(`end ${ok}`),
    }
  }

  stats(): OffloadStats {
    const bytes = (layers: boolean): number =>
      [...this.#modules.values()]
        .filter(({ spec }) => (spec.role === 'layer') === layers)
        .reduce((sum, { parameters }) => sum + parameterBytes(parameters), 0)
    const slotBytes = this.#slot?.bytes ?? 0
    return { offloadedBytes: bytes(true), residentBytes: bytes(false), slotBytes, onloadedBytes: this.#onloadedBytes }
  }

  async dispose(): Promise<void> {
    await Promise.all([...this.#modules.values()].map(({ slab }) => slab.dispose()))
    await this.#slot?.dispose()
  }

  async #place(spec: ModuleSpec, parameters: readonly ParameterSpec[]): Promise<PlacedModule> {
    const { bytes, offsets } = slabLayout(parameters)
    const { host, compute } = this.#context
    // A tied head owns nothing; one byte keeps it like the others.
    const slab =
      spec.role === 'layer'
        ? await host.allocate(bytes)
        : this.#context.memory('weights').allocate(Math.max(1, bytes), { stream: compute, recovery: { kind: 'copy' } })
    const owned = parameters.map((parameter): [string, Parameter] => {
      const { name, dtype, shape, stride } = parameter
      const tensor = { buffer: slab, offset: offsets.get(name)!, dtype, shape, stride }
      return [name, { ...parameter, storage: slab.storage, tensor }]
    })
    const placed = { spec: { ...spec, parameters: [...parameters] }, parameters: new Map(owned) }
    this.#modules.set(spec.name, { spec, parameters, slab, placed })
    return placed
  }
}
