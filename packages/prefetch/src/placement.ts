import {
  type DeviceBuffer,
  type HostBuffer,
  type ModuleSpec,
  type Parameter,
  type ParameterSpec,
  type PlacedModule,
  parameterBytes,
} from '@spillway/core'
import type { Slab } from './slab.js'

/** Where the parameters of one module lie. Owns their buffers, not the slot. */
export class Placement {
  readonly spec: ModuleSpec
  readonly offloaded: Slab<HostBuffer> | undefined
  readonly resident: Slab<DeviceBuffer> | undefined

  /** `spec`: the module with the parameters it owns, all of which lie in one of the slabs. */
  constructor(spec: ModuleSpec, offloaded: Slab<HostBuffer> | undefined, resident: Slab<DeviceBuffer> | undefined) {
    this.spec = spec
    this.offloaded = offloaded
    this.resident = resident
  }

  get offloadedBytes(): number {
    return this.offloaded === undefined ? 0 : parameterBytes(this.offloaded.parameters)
  }

  get residentBytes(): number {
    return this.resident === undefined ? 0 : parameterBytes(this.resident.parameters)
  }

  /** For loaders; with `slot`, for kernels: offloaded parameters are read there, at the offsets of the slab. */
  placed(slot?: DeviceBuffer): PlacedModule {
    const parameters = new Map<string, Parameter>()
    for (const parameter of this.spec.parameters) parameters.set(parameter.name, this.#place(parameter, slot))
    return { spec: this.spec, parameters }
  }

  async dispose(): Promise<void> {
    await Promise.all([this.offloaded?.buffer.dispose(), this.resident?.buffer.dispose()])
  }

  #place(parameter: ParameterSpec, slot: DeviceBuffer | undefined): Parameter {
    const { offloaded } = this
    if (offloaded?.parameters.includes(parameter)) {
      return { ...parameter, storage: offloaded.buffer.storage, tensor: offloaded.view(parameter, slot) }
    }
    return { ...parameter, storage: 'device', tensor: this.resident!.view(parameter) }
  }
}
