import type { ConfiguredBackend, OffloadBackend } from './backend.js'
import { checkBackend } from './backend-value.js'
import { parseOptions } from './options.js'

/**
 * A backend with its options checked and completed by their defaults: `configure(prefetch, { groupSize: 1 })`.
 * Throws SPILLWAY_UNKNOWN_OPTION, SPILLWAY_INVALID_OPTION, and what `checkBackend` throws.
 */
export function configure<C>(backend: OffloadBackend<C>, config?: NoInfer<Partial<C>>): ConfiguredBackend {
  const { name, options } = checkBackend(backend, 'configure()')
  return Object.freeze({ backend: backend as OffloadBackend<never>, config: parseOptions(options, config ?? {}, name) })
}
