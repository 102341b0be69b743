import type { BackendContext, OffloaderSteps, OffloadStats, PlacementBackend } from './backend.js'
import type { DeviceBuffer } from './device.js'
import { SpillwayError, throwIfAborted } from './errors.js'
import {
  type ModuleSpec,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  parameterBytes,
  type Replacement,
} from './module.js'
import { applyReplacements } from './replacement.js'
import { Slab } from './slab.js'

/** Places everything on the device and moves nothing: one slab per module, exact in size. */
export const none: PlacementBackend<Readonly<Record<string, never>>> = Object.freeze({
  name: 'none',
  apiVersion: 1 as const,
  role: 'placement' as const,
  supports: Object.freeze({ offloads: false, graphs: true, unpinned: true, kernels: false, reload: false }),
  options: Object.freeze({}),
  create: async (context: BackendContext): Promise<OffloaderSteps> => new ResidentSteps(context),
})

interface ResidentModule {
  readonly placed: PlacedModule
  /** Undefined for a module that owns no parameter. */
  readonly slab: Slab<DeviceBuffer> | undefined
}

class ResidentSteps implements OffloaderSteps {
  readonly #context: BackendContext
  readonly #modules = new Map<string, ResidentModule>()

  constructor(context: BackendContext) {
    this.#context = context
  }

  async wrapModules(
    specs: readonly ModuleSpec[],
    { signal }: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    const made: ResidentModule[] = []
    try {
      for (const spec of specs) {
        throwIfAborted(signal, 'placing modules')
        made.push(this.#place(spec, ownParameters(spec)))
      }
    } catch (error) {
      await Promise.all(made.map((module) => module.slab?.buffer.dispose()))
      throw error
    }
    for (const module of made) this.#modules.set(module.placed.spec.name, module)
    return made.map((module) => module.placed)
  }

  async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const old = this.#modules.get(name)
    if (old === undefined) throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `no module ${name} was placed`)
    const { parameters, sources } = applyReplacements(old.placed, next)
    // The new slab first: a failure leaves the old parameters as they are.
    const made = this.#place(old.placed.spec, parameters)
    try {
      await made.slab?.fill(this.#context.compute, sources)
    } catch (error) {
      await made.slab?.buffer.dispose()
      throw error
    }
    this.#modules.set(name, made)
    await old.slab?.buffer.dispose()
    return made.placed
  }

  async postInit(): Promise<readonly PlacedModule[]> {
    return [...this.#modules.values()].map((module) => module.placed)
  }

  beginForward(): { before(): void; after(): void; end(): void } {
    return { before() {}, after() {}, end() {} }
  }

  stats(): OffloadStats {
    let residentBytes = 0
    for (const { placed } of this.#modules.values()) residentBytes += parameterBytes([...placed.parameters.values()])
    return { offloadedBytes: 0, residentBytes, slotBytes: 0, onloadedBytes: 0 }
  }

  async dispose(): Promise<void> {
    const modules = [...this.#modules.values()]
    this.#modules.clear()
    await Promise.all(modules.map((module) => module.slab?.buffer.dispose()))
  }

  #place(spec: ModuleSpec, own: readonly ParameterSpec[]): ResidentModule {
    if (own.length === 0) return { placed: { spec, parameters: new Map() }, slab: undefined }
    const buffer = this.#context.memory('weights').allocate(Slab.bytes(own), {
      stream: this.#context.compute,
      module: spec.name,
      recovery: { kind: 'copy' },
    })
    const slab = new Slab(own, buffer)
    const parameters = new Map<string, Parameter>()
    for (const parameter of own) {
      parameters.set(parameter.name, { ...parameter, storage: 'device', tensor: slab.view(parameter) })
    }
    return { placed: { spec: { ...spec, parameters: own }, parameters }, slab }
  }
}
