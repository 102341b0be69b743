import type { KernelPlan, OffloaderSteps, ResidencySteps } from './backend.js'
import { SpillwayError } from './errors.js'
import { printable } from './printable.js'

const offloaderVerbs = ['wrapModules', 'replaceParameters', 'postInit', 'beginForward', 'stats', 'dispose']
const residencyVerbs = ['source', 'use', 'sleep', 'wake', 'discard', 'fence', 'epoch', 'state', 'dispose']
const forwardVerbs = ['before', 'after', 'end']

/** What a backend's `create` returned. Throws SPILLWAY_BACKEND_MISBEHAVED when a verb is missing. */
export function checkOffloaderSteps(value: unknown, backend: string): OffloaderSteps {
  return requireVerbs(value, offloaderVerbs, backend, 'create') as OffloaderSteps
}

export function checkResidencySteps(value: unknown, backend: string): ResidencySteps {
  return requireVerbs(value, residencyVerbs, backend, 'create') as ResidencySteps
}

/** What `beginForward` returned. */
export function checkForwardSteps<T>(value: T, backend: string): T {
  return requireVerbs(value, forwardVerbs, backend, 'beginForward') as T
}

/** What a backend's kernel provider returned. */
export function checkKernelPlan(value: unknown, backend: string): KernelPlan | null {
  if (value === null) return null
  const { name, scratchBytes, enqueue } = (value ?? {}) as Record<string, unknown>
  const sound = typeof name === 'string' && typeof enqueue === 'function'
  if (sound && Number.isSafeInteger(scratchBytes) && (scratchBytes as number) >= 0) return value as KernelPlan
  throw misbehaved(backend, `its kernel plan is ${printable(value)}; a plan has name, scratchBytes and enqueue`)
}

function requireVerbs(value: unknown, verbs: readonly string[], backend: string, call: string): unknown {
  if (typeof value !== 'object' || value === null) {
    throw misbehaved(backend, `${call} returned ${printable(value)} instead of its steps`)
  }
  const missing = verbs.filter((verb) => typeof (value as Record<string, unknown>)[verb] !== 'function')
  if (missing.length > 0) throw misbehaved(backend, `${call} returned steps without ${missing.join(', ')}`)
  return value
}

/** A backend broke its contract: a fault in it, not in how it was used. */
export function misbehaved(
  backend: string,
  problem: string,
  details: Readonly<Record<string, unknown>> = {},
  cause?: unknown,
): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_BACKEND_MISBEHAVED',
    `backend ${backend} broke its contract: ${problem}; report it to the backend's author`,
    { details: { backend, ...details }, cause },
  )
}
