import {
  type BackendContext,
  type ConfiguredBackend,
  type MemorySource,
  type OffloadBackend,
  type OffloaderSteps,
  type ResidencySteps,
  SpillwayError,
  type Tag,
} from '@spillway/core'

/** A backend with an ear at its context: who takes memory, and what `create` returned. It behaves as ever. */
export class ObservedBackend {
  readonly configured: ConfiguredBackend
  /** Called before each allocation, of either kind; what it throws is what the backend gets. */
  onAllocation: () => void = () => {}
  /** What `create` returned last. */
  steps: OffloaderSteps | ResidencySteps | undefined

  constructor({ backend, config }: ConfiguredBackend) {
    const { name, apiVersion, role, supports, options } = backend
    const observe = (context: BackendContext): BackendContext => ({
      ...context,
      host: {
        allocate: (bytes, more) => {
          // As a promise: a backend may count on allocate() not throwing.
          return Promise.resolve().then(() => {
            this.onAllocation()
            return context.host.allocate(bytes, more)
          })
        },
      },
      memory: (tag: Tag): MemorySource => {
        const source = context.memory(tag)
        return {
          tag,
          allocate: (bytes, more) => {
            this.onAllocation()
            return source.allocate(bytes, more)
          },
        }
      },
    })
    const observed = {
      name,
      apiVersion,
      role,
      supports,
      options,
      create: async (context: BackendContext, own: never) => {
        const steps = await backend.create(observe(context), own)
        this.steps = steps
        return steps
      },
    }
    this.configured = { backend: observed as OffloadBackend<never>, config }
  }
}

export function outOfMemory(): SpillwayError {
  return new SpillwayError('SPILLWAY_OUT_OF_MEMORY', 'this allocation was made to fail by the conformance suite')
}
