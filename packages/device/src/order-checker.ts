import { SpillwayError } from '@spillway/core'
import { addon, type NativeHandle, type NativeOperation, type NativeViolation } from './addon.js'
import { callSite, forgetCallSites, watchCallSites } from './call-sites.js'
import { foreign, ownBy, ownerOf } from './native-object.js'
import { type CheckedOperation, describeViolation, type OrderViolation } from './order-violation.js'

/** Enough to see what is wrong; a loop that repeats one mistake is counted, not listed. */
const mostListed = 100

type Found = Map<string, Omit<OrderViolation, 'message'>>
const watches = new WeakMap<object, { readonly found: Found; readonly fetch: () => void }>()

function watchOf(checker: OrderChecker): { readonly found: Found; readonly fetch: () => void } {
  ownerOf(checker)
  const watch = watches.get(checker)
  if (watch === undefined) throw foreign()
  return watch
}

/**
 * What the stream-order checker of a host device has found. Order is judged when work is enqueued, from streams, events,
 * graphs and what the host waited for: whatever the timing, the same program gives the same violations.
 */
export class OrderChecker {
  constructor(device: NativeHandle) {
    ownBy(this, device)
    const found: Found = new Map()
    const fetch = (): void => fetchViolations(device, found)
    watches.set(this, { found, fetch })
    watchCallSites(fetch)
  }

  /**
   * What was found since the last call. What kernels touch is checked when they run: wait for the streams before.
   */
  takeViolations(): readonly OrderViolation[] {
    const { found, fetch } = watchOf(this)
    fetch()
    const violations = [...found.values()].map((one) => ({ ...one, message: describeViolation(one) }))
    found.clear()
    return violations
  }

  /** Ends the checking; an error when there are violations that nobody took. */
  close(): SpillwayError | undefined {
    const violations = this.takeViolations()
    forgetCallSites(watchOf(this).fetch)
    if (violations.length === 0) return undefined
    const more = violations.length === 1 ? '' : `\n… and ${violations.length - 1} more in details.violations`
    return new SpillwayError('SPILLWAY_ORDER_VIOLATION', `${violations[0]!.message}${more}`, {
      details: { violations },
    })
  }
}

// At once, while the places in the program are still remembered.
function fetchViolations(device: NativeHandle, found: Found): void {
  for (const native of addon().takeViolations(device)) {
    const violation = toViolation(native)
    const { kind, earlier, later } = violation
    const key = JSON.stringify([kind, earlier?.what, earlier?.site, later.what, later.site, later.stream])
    const known = found.get(key)
    if (known !== undefined) found.set(key, { ...known, times: known.times + 1 })
    else if (found.size < mostListed) found.set(key, violation)
  }
}

function toViolation({
  kind,
  buffer,
  offset,
  bytes,
  earlier,
  later,
}: NativeViolation): Omit<OrderViolation, 'message'> {
  return {
    kind,
    buffer,
    offset,
    bytes,
    ...(earlier === undefined ? {} : { earlier: toOperation(earlier) }),
    later: toOperation(later),
    times: 1,
  }
}

function toOperation({ what, stream, site, launchSite }: NativeOperation): CheckedOperation {
  return { what, stream, site: callSite(site), ...(launchSite === 0 ? {} : { launchSite: callSite(launchSite) }) }
}
