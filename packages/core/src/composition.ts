import type { ConfiguredBackend, OffloadBackend } from './backend.js'
import { type CheckedBackend, checkBackend } from './backend-value.js'
import { reading } from './call-options.js'
import { SpillwayError } from './errors.js'
import { none } from './none.js'
import { type OptionValue, parseOptions } from './options.js'
import type { PinDecision } from './pin-memory.js'

export interface ComposedBackend extends CheckedBackend {
  readonly config: Readonly<Record<string, OptionValue>>
}

export interface Composition {
  readonly placement: ComposedBackend
  readonly residency: ComposedBackend | undefined
}

/**
 * One placement backend and at most one residency backend, whatever the order; `none` places where only a residency
 * backend was chosen, or nothing. Throws SPILLWAY_BACKEND_CONFLICT for two of one role.
 */
export function composeBackends(backends: readonly ConfiguredBackend[] | undefined): Composition {
  const byRole = new Map<'placement' | 'residency', ComposedBackend>()
  const list = reading('backends', () =>
    Array.isArray(backends)
      ? (backends as readonly ConfiguredBackend[]).map((one) => ({ backend: one?.backend, config: one?.config }))
      : undefined,
  )
  if (list === undefined) {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', 'backends is a list of what configure() returns')
  }
  for (const { backend, config } of list) {
    const composed = compose(backend, config)
    const other = byRole.get(composed.role)
    if (other !== undefined) {
      throw new SpillwayError(
        'SPILLWAY_BACKEND_CONFLICT',
        `${other.name} and ${composed.name} are both ${composed.role} backends; choose one of them`,
        { details: { role: composed.role, names: [other.name, composed.name] } },
      )
    }
    byRole.set(composed.role, composed)
  }
  return {
    placement: byRole.get('placement') ?? compose(none as OffloadBackend<never>, {}),
    residency: byRole.get('residency'),
  }
}

// The configuration is checked here again: a ConfiguredBackend can also be written by hand.
function compose(backend: unknown, config: unknown): ComposedBackend {
  const checked = checkBackend(backend, 'an entry of backends')
  return { ...checked, config: parseOptions(checked.options, config, checked.name) }
}

/** Throws SPILLWAY_PIN_REQUIRED for a backend that cannot work with host memory that is not pinned. */
export function requirePinning(backend: Pick<CheckedBackend, 'name' | 'supports'>, pin: PinDecision): void {
  if (backend.supports.unpinned || pin.pin) return
  throw new SpillwayError(
    'SPILLWAY_PIN_REQUIRED',
    `${backend.name} works with pinned host memory only, and memory is not pinned here (${pin.reason}); ` +
      'allow pinning or choose another backend',
    { details: { backend: backend.name, reason: pin.reason } },
  )
}

/** What a call of something a backend says it does not support rejects with. */
export function notSupported(backend: string, what: string, advice: string): SpillwayError {
  return new SpillwayError('SPILLWAY_NOT_SUPPORTED', `${backend} does not support ${what}; ${advice}`, {
    details: { backend, what },
  })
}
