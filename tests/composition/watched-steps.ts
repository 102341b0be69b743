import type { BackendContext, ConfiguredBackend, OffloaderSteps, PlacementBackend } from '@spillway/core'

export interface WatchedSteps {
  readonly offload: ConfiguredBackend
  /** Settles when everything is done that was enqueued on the model's stream and on the backend's own. */
  readonly settle: () => Promise<void>
}

/** A placement backend whose steps `watch` wraps when they are made; it works as it does without. */
export function watchSteps(
  { backend, config }: ConfiguredBackend,
  watch: (steps: OffloaderSteps) => void,
): WatchedSteps {
  let opened: { readonly context: BackendContext; readonly steps: OffloaderSteps } | undefined
  const placement = backend as PlacementBackend<never>
  const watched: PlacementBackend<never> = {
    ...placement,
    async create(context, checked) {
      const steps = await placement.create(context, checked)
      opened = { context, steps }
      watch(steps)
      return steps
    },
  }
  return {
    offload: { backend: watched, config },
    settle: async () => {
      await opened!.context.compute.synchronize()
      await opened!.steps.synchronize?.()
    },
  }
}
