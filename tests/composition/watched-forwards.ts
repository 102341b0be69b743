import type { BackendContext, ConfiguredBackend, OffloaderSteps, PlacementBackend } from '@spillway/core'

export interface WatchedForwards {
  readonly offload: ConfiguredBackend
  /** Calls so far of the backend's JavaScript that a forward makes: beginForward, before, after, end. */
  readonly calls: () => number
  /** Settles when everything is done that was enqueued on the model's stream and on the backend's own. */
  readonly settle: () => Promise<void>
}

/** A placement backend whose part in forwards is counted; it works as it does without. */
export function watchForwards({ backend, config }: ConfiguredBackend): WatchedForwards {
  let calls = 0
  let opened: { readonly context: BackendContext; readonly steps: OffloaderSteps } | undefined
  const placement = backend as PlacementBackend<never>
  const watched: PlacementBackend<never> = {
    ...placement,
    async create(context, checked) {
      const steps = await placement.create(context, checked)
      opened = { context, steps }
      const beginForward = steps.beginForward.bind(steps)
      steps.beginForward = (stream) => {
        calls++
        const forward = beginForward(stream)
        return {
          before: (module) => {
            calls++
            forward.before(module)
          },
          after: (module) => {
            calls++
            forward.after(module)
          },
          end: (ok) => {
            calls++
            forward.end(ok)
          },
        }
      }
      return steps
    },
  }
  return {
    offload: { backend: watched, config },
    calls: () => calls,
    settle: async () => {
      await opened!.context.compute.synchronize()
      await opened!.steps.synchronize?.()
    },
  }
}
