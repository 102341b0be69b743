import {
  type BackendContext,
  type ConfiguredBackend,
  configure,
  type OffloaderSteps,
  type PlacedModule,
  type PlacementBackend,
} from '@spillway/core'
import { Shelf, shelf } from '../composition/shelf.js'

/** Storages of the parameters that each module owns, by its name. */
export type Storages = ReadonlyMap<string, ReadonlySet<string>>

export interface WatchedPlacement {
  readonly offload: ConfiguredBackend
  /** As postInit() returned them; empty before. */
  readonly storages: Storages
  /** Settles when everything is done that was enqueued on the model's stream and on the backend's own. */
  settle(): Promise<void>
}

/** A placement backend that can be looked into; it works as it does without. */
export function watchPlacement({ backend, config }: ConfiguredBackend): WatchedPlacement {
  const storages = new Map<string, ReadonlySet<string>>()
  let opened: { readonly context: BackendContext; readonly steps: OffloaderSteps } | undefined
  const placement = backend as PlacementBackend<never>
  const watched: PlacementBackend<never> = {
    ...placement,
    async create(context, checked) {
      const steps = await placement.create(context, checked)
      opened = { context, steps }
      const postInit = steps.postInit.bind(steps)
      steps.postInit = async (): Promise<readonly PlacedModule[]> => {
        const modules = await postInit()
        for (const { spec, parameters } of modules) {
          storages.set(spec.name, new Set(Array.from(parameters.values(), ({ storage }) => storage)))
        }
        return modules
      }
      return steps
    },
  }
  return {
    offload: { backend: watched, config },
    storages,
    settle: async () => {
      await opened!.context.compute.synchronize()
      await opened!.steps.synchronize?.()
    },
  }
}

export function watchShelf(): { readonly offload: ConfiguredBackend; readonly steps: () => Shelf } {
  let made: Shelf | undefined
  const offload = configure({ ...shelf, create: async (context) => (made = new Shelf(context)) })
  return { offload, steps: () => made! }
}
