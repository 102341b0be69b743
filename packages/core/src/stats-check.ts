import type { ModuleOnloads, OffloadStats, OnloadStats, OnloadTimes } from './backend.js'
import { SpillwayError } from './errors.js'
import { checkOnloadTimes } from './forecast-check.js'
import type { Parameter } from './module.js'
import { printable } from './printable.js'
import { misbehaved } from './steps-check.js'

/** What core counted itself, to hold a backend's statistics against. All in bytes. */
export interface CountedBytes {
  readonly byStorage: Readonly<Record<Parameter['storage'], number>>
  /** Live, allocated through `ctx.memory('weights')`. */
  readonly liveWeights: number
  /** Live, allocated through `ctx.host`. */
  readonly liveHost: number
}

/** Reads a backend's statistics. Throws SPILLWAY_BACKEND_MISBEHAVED for what is no count of bytes, and no time. */
export function readStats(value: unknown, backend: string): OffloadStats {
  if (typeof value !== 'object' || value === null) throw misbehaved(backend, `stats returned ${printable(value)}`)
  const { offloadedBytes, residentBytes, slotBytes, onloadedBytes } = value as Record<string, unknown>
  const stats = { offloadedBytes, residentBytes, slotBytes, onloadedBytes }
  for (const [name, bytes] of Object.entries(stats)) {
    if (!Number.isSafeInteger(bytes) || (bytes as number) < 0) {
      throw misbehaved(backend, `stats: ${name} is ${printable(bytes)}, not a number of bytes`)
    }
  }
  const { onloads } = value as { onloads?: unknown }
  return {
    ...(stats as unknown as OffloadStats),
    ...(onloads === undefined ? {} : { onloads: readOnloads(onloads, backend) }),
  }
}

const onloadCounts = ['forwards', 'failedForwards', 'onloads', 'capturedOnloads', 'demandOnloads', 'resets'] as const
const moduleCounts = ['bytes', 'onloads', 'demandOnloads'] as const

function readOnloads(value: unknown, backend: string): OnloadStats {
  const counts = readCounts(value, onloadCounts, 'stats: onloads', backend)
  const { modules } = value as { modules?: unknown }
  if (!Array.isArray(modules)) throw misbehaved(backend, 'stats: onloads has no list of modules')
  return Object.freeze({
    ...counts,
    modules: Object.freeze(
      (modules as readonly unknown[]).map((entry): ModuleOnloads => {
        const read = readCounts(entry, moduleCounts, 'stats: onloads of a module', backend)
        const module = String((entry as { module?: unknown }).module)
        return Object.freeze({ module, ...read, ...readTimes(entry as Record<string, unknown>, backend) })
      }),
    ),
  })
}

/** All three times of a module, or none. */
function readTimes({ linkMs, waitMs, hiddenFraction }: Record<string, unknown>, backend: string): Partial<OnloadTimes> {
  if (linkMs === undefined && waitMs === undefined && hiddenFraction === undefined) return {}
  const wrong = (problem: string): SpillwayError => misbehaved(backend, `stats: onloads of a module: ${problem}`)
  return checkOnloadTimes({ linkMs, waitMs, hiddenFraction }, wrong)
}

function readCounts<K extends string>(
  value: unknown,
  names: readonly K[],
  what: string,
  backend: string,
): Readonly<Record<K, number>> {
  const given = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const counts = {} as Record<K, number>
  for (const name of names) {
    const count = given[name]
    if (!Number.isSafeInteger(count) || (count as number) < 0) {
      throw misbehaved(backend, `${what}: ${name} is ${printable(count)}, not a count`)
    }
    counts[name] = count as number
  }
  return counts
}

/** Throws SPILLWAY_STATS_MISMATCH naming the figure, what the backend says and what was counted. */
export function checkStats(stats: OffloadStats, counted: CountedBytes, backend: string): void {
  const { device, mapped, pinned, pageable } = counted.byStorage
  const offloaded = mapped + pinned + pageable
  if (stats.offloadedBytes !== offloaded) {
    throw mismatch(backend, 'offloadedBytes', stats.offloadedBytes, offloaded, 'its parameters off the device have')
  }
  if (stats.residentBytes !== device) {
    throw mismatch(backend, 'residentBytes', stats.residentBytes, device, 'its parameters on the device have')
  }
  const onDevice = stats.residentBytes + stats.slotBytes
  if (counted.liveWeights < onDevice) {
    throw mismatch(backend, 'residentBytes + slotBytes', onDevice, counted.liveWeights, "its live 'weights' memory has")
  }
  // Mapped memory does not come from ctx.host; all other host bytes do, or the pin decision was bypassed.
  if (counted.liveHost < pinned + pageable) {
    throw mismatch(
      backend,
      'offloadedBytes in pinned and pageable memory',
      pinned + pageable,
      counted.liveHost,
      'its live host memory has',
    )
  }
}

/**
 * `countedBytes`: what the device copied from host to device since the offloader was made, read when the compute stream
 * was idle. Then the only onloads not yet done are those into slots that nobody has waited for: at most one per slot.
 */
export function checkOnloadedBytes(stats: OffloadStats, countedBytes: number, backend: string): void {
  if (stats.onloadedBytes <= countedBytes + stats.slotBytes) return
  throw mismatch(backend, 'onloadedBytes', stats.onloadedBytes, countedBytes, 'the device has copied')
}

function mismatch(backend: string, figure: string, says: number, counted: number, what: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_STATS_MISMATCH',
    `backend ${backend} reports ${figure} ${says}, but ${what} ${counted} bytes; report it to the backend's author`,
    { details: { backend, figure, reportedBytes: says, countedBytes: counted } },
  )
}
