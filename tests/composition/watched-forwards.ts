import type { ConfiguredBackend } from '@spillway/core'
import { type WatchedSteps, watchSteps } from './watched-steps.js'

export interface WatchedForwards extends WatchedSteps {
  /** Calls so far of the backend's JavaScript that a forward makes: beginForward, before, after, end. */
  readonly calls: () => number
}

/** A placement backend whose part in forwards is counted. */
export function watchForwards(configured: ConfiguredBackend): WatchedForwards {
  let calls = 0
  const watched = watchSteps(configured, (steps) => {
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
  })
  return { ...watched, calls: () => calls }
}
