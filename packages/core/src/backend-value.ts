import type { OffloadBackend, Supports } from './backend.js'
import { isSpillwayError, SpillwayError } from './errors.js'
import type { OptionSpecs } from './option-spec.js'
import { checkOptionSpecs } from './option-spec-check.js'
import { printable, printableName } from './printable.js'

/** The version of the contract in backend.ts. Backends say which one they were written for. */
export const backendApiVersion = 1

/** What a backend says of itself, each property read once and checked. */
export interface CheckedBackend {
  readonly name: string
  readonly role: 'placement' | 'residency'
  readonly supports: Supports
  readonly options: OptionSpecs
  /** The value itself. `create` is called on it. */
  readonly backend: OffloadBackend<never>
}

const namePattern = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/

/** Lower case, digits, single hyphens, at most 64 characters: what also fits a package name and a flag. */
export function isBackendName(name: string): boolean {
  return name.length <= 64 && namePattern.test(name)
}

/**
 * Checks a value that should be a backend, by value: it may come from another copy of this package, or from somebody
 * else's. `from` says where it came from. Throws SPILLWAY_BACKEND_INVALID, or SPILLWAY_BACKEND_API_VERSION with both
 * versions.
 */
export function checkBackend(value: unknown, from: string): CheckedBackend {
  try {
    return readBackend(value, from)
  } catch (error) {
    if (isSpillwayError(error)) throw error
    // A getter or a proxy of theirs threw.
    throw new SpillwayError('SPILLWAY_BACKEND_INVALID', `${from}: reading what the backend says of itself failed`, {
      cause: error,
    })
  }
}

function readBackend(value: unknown, from: string): CheckedBackend {
  const wrong = (problem: string): SpillwayError =>
    new SpillwayError(
      'SPILLWAY_BACKEND_INVALID',
      `${from}: ${problem}; its author can hold it against OffloadBackend`,
      {
        details: { from },
      },
    )
  if (typeof value !== 'object' || value === null) throw wrong(`a backend is an object, not ${printable(value)}`)
  const { name, apiVersion, role, supports, options, create } = value as Record<string, unknown>
  if (typeof name !== 'string' || !isBackendName(name)) {
    throw wrong(`its name must be lower-case letters, digits and hyphens, not ${printable(name)}`)
  }
  if (typeof apiVersion !== 'number') throw wrong(`apiVersion must be a number, not ${printable(apiVersion)}`)
  if (apiVersion !== backendApiVersion) {
    const advice = apiVersion > backendApiVersion ? 'update @spillway/core' : `update ${printableName(name)}`
    throw new SpillwayError(
      'SPILLWAY_BACKEND_API_VERSION',
      `${from} is written for version ${apiVersion} of the backend contract, this @spillway/core has version ` +
        `${backendApiVersion}; ${advice}`,
      { details: { from, backendApiVersion: apiVersion, coreApiVersion: backendApiVersion } },
    )
  }
  if (role !== 'placement' && role !== 'residency') {
    throw wrong(`its role must be placement or residency, not ${printable(role)}`)
  }
  if (typeof create !== 'function') throw wrong('create must be a function')
  const checked: CheckedBackend = {
    name,
    role,
    supports: readSupports(supports, wrong),
    options: checkOptionSpecs(options, name),
    backend: value as OffloadBackend<never>,
  }
  return Object.freeze(checked)
}

function readSupports(value: unknown, wrong: (problem: string) => SpillwayError): Supports {
  if (typeof value !== 'object' || value === null) throw wrong('supports must be an object of booleans')
  const { offloads, graphs, unpinned, kernels, reload } = value as Record<string, unknown>
  for (const [key, flag] of Object.entries({ offloads, graphs, unpinned, kernels, reload })) {
    if (typeof flag !== 'boolean') throw wrong(`supports.${key} must be true or false, not ${printable(flag)}`)
  }
  return Object.freeze({ offloads, graphs, unpinned, kernels, reload }) as Supports
}
