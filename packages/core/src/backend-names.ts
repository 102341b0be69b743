import { isBackendName } from './backend-value.js'
import { SpillwayError } from './errors.js'
import { printable, printableName } from './printable.js'
import { isModuleSpecifier } from './registry.js'

/**
 * `prefetch+cumem-pool` → `['prefetch', 'cumem-pool']`. At most two: one that places, one that takes memory away; which
 * is which is known only when they are loaded. Throws SPILLWAY_INVALID_OPTION and SPILLWAY_BACKEND_CONFLICT.
 */
export function parseBackendNames(text: string): readonly string[] {
  const names = typeof text === 'string' ? text.split('+').map((name) => name.trim()) : []
  for (const name of names) {
    if (!isBackendName(name) && !(isModuleSpecifier(name) && !/[\s\0]/.test(name))) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_OPTION',
        `an offload backend is a name such as prefetch, a module such as ./backend.js (a path may hold neither + nor ` +
          `spaces), or two of them joined by +; got ${printable(text)}`,
        { details: { value: text } },
      )
    }
  }
  if (names.length === 0) throw new SpillwayError('SPILLWAY_INVALID_OPTION', `not backend names: ${printable(text)}`)
  const repeated = names.find((name, i) => names.indexOf(name) !== i)
  if (repeated !== undefined || names.length > 2) {
    throw new SpillwayError(
      'SPILLWAY_BACKEND_CONFLICT',
      `${printable(text)} ${repeated === undefined ? 'names more than two backends' : `names ${printableName(repeated)} twice`}; ` +
        'choose at most one placement backend and at most one residency backend',
      { details: { names } },
    )
  }
  return names
}
