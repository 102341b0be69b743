import { type ConfiguredBackend, configure, type PlacedModule } from '@spillway/core'
import { Shelf, shelf } from '../composition/shelf.js'
import { type WatchedSteps, watchSteps } from '../composition/watched-steps.js'

/** Storages of the parameters that each module owns, by its name. */
export type Storages = ReadonlyMap<string, ReadonlySet<string>>

export interface WatchedPlacement extends WatchedSteps {
  /** As postInit() returned them; empty before. */
  readonly storages: Storages
}

/** A placement backend that shows where it has put everything. */
export function watchPlacement(configured: ConfiguredBackend): WatchedPlacement {
  const storages = new Map<string, ReadonlySet<string>>()
  const watched = watchSteps(configured, (steps) => {
    const postInit = steps.postInit.bind(steps)
    steps.postInit = async (): Promise<readonly PlacedModule[]> => {
      const modules = await postInit()
      for (const { spec, parameters } of modules) {
        storages.set(spec.name, new Set(Array.from(parameters.values(), ({ storage }) => storage)))
      }
      return modules
    }
  })
  return { ...watched, storages }
}

export function watchShelf(): { readonly offload: ConfiguredBackend; readonly steps: () => Shelf } {
  let made: Shelf | undefined
  const offload = configure({ ...shelf, create: async (context) => (made = new Shelf(context)) })
  return { offload, steps: () => made! }
}
