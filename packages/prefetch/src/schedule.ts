import { moduleTimes, type StepForecast, type TraceEvent } from '@spillway/core'

export interface ScheduledModule {
  readonly name: string
  /** Milliseconds of its kernels. */
  readonly computeMs: number
  /** Bytes that its onload copies. 0: it is resident. */
  readonly onloadBytes: number
}

export interface ScheduleInput {
  /** In the order of the forward. */
  readonly modules: readonly ScheduledModule[]
  /** Slots of the ring: those that are offloaded pass through them in turn. */
  readonly slots: number
  readonly linkBytesPerSecond: number
}

export interface Schedule extends StepForecast {
  /** The forward as it ran, its copies and those for the next one that began within it; it begins at 0. */
  readonly events: readonly TraceEvent[]
}

/** Two forwards begin alike when nothing differs by more: less than any clock shows. */
const toleranceMs = 1e-9
/**
 * A link that is a little too slow falls behind a little with every forward, until there is something to wait for. After
 * so many forwards the last one is taken for typical: one that is still falling behind does so by nearly nothing.
 */
const mostForwards = 4096

/**
 * A forward of the ring among others like it, by its rules: copies run one after another; that into a slot begins when
 * the layer before it in the slot is done, and its own layer begins when it is there. Pure: a forward's times follow from
 * those of the one before, so forwards are computed until two of them are alike.
 */
export function simulateSchedule(input: ScheduleInput): Schedule {
  const elements = input.modules.filter(({ onloadBytes }) => onloadBytes > 0)
  const slots = Math.min(input.slots, elements.length)
  const linkMs = elements.map(({ onloadBytes }) => (1000 * onloadBytes) / input.linkBytesPerSecond)
  // The first forward finds the slots filled and the link idle.
  let state: RingTimes = { copyEndMs: new Array(elements.length).fill(0), linkFreeMs: 0 }
  let forward = runForward(input.modules, linkMs, slots, state)
  for (let i = 1; i < mostForwards && !isAlike(forward.after, state); i++) {
    state = forward.after
    forward = runForward(input.modules, linkMs, slots, state)
  }
  const { endMs, waitMs, copied, events } = forward
  const modules = input.modules.map(({ name, computeMs }, i) => {
    return moduleTimes(name, computeMs, copied.get(name) ?? 0, waitMs[i]!)
  })
  return { stepMs: endMs, modules, events }
}

/** In milliseconds from the begin of a forward; 0: before it. */
interface RingTimes {
  /** When the last copy of each element is there. */
  readonly copyEndMs: readonly number[]
  readonly linkFreeMs: number
}

interface Forward {
  readonly endMs: number
  /** By module. */
  readonly waitMs: readonly number[]
  /** Link time by the name of what was copied. */
  readonly copied: ReadonlyMap<string, number>
  readonly events: readonly TraceEvent[]
  /** For the next one, which begins when this one ends. */
  readonly after: RingTimes
}

function runForward(
  modules: readonly ScheduledModule[],
  linkMs: readonly number[],
  slots: number,
  before: RingTimes,
): Forward {
  const elements = modules.filter(({ onloadBytes }) => onloadBytes > 0)
  const copyEndMs = [...before.copyEndMs]
  let linkFreeMs = before.linkFreeMs
  let nowMs = 0
  let element = 0
  const waitMs: number[] = []
  const copied = new Map<string, number>()
  const events: TraceEvent[] = []
  for (const { name: module, computeMs, onloadBytes } of modules) {
    const beginMs = onloadBytes > 0 ? Math.max(nowMs, copyEndMs[element]!) : nowMs
    waitMs.push(beginMs - nowMs)
    if (beginMs > nowMs) events.push({ lane: 'wait', module, startMs: nowMs, endMs: beginMs })
    nowMs = beginMs + computeMs
    if (computeMs > 0) events.push({ lane: 'compute', module, startMs: beginMs, endMs: nowMs })
    if (onloadBytes === 0) continue
    const next = element + slots < elements.length ? element + slots : element % slots
    if (next !== element) {
      const startMs = Math.max(linkFreeMs, nowMs)
      linkFreeMs = startMs + linkMs[next]!
      copyEndMs[next] = linkFreeMs
      const { name, onloadBytes: bytes } = elements[next]!
      copied.set(name, linkMs[next]!)
      events.push({ lane: 'copy', module: name, startMs, endMs: linkFreeMs, bytes })
    }
    element++
  }
  const afterwards = (ms: number): number => Math.max(0, ms - nowMs)
  const after = { copyEndMs: copyEndMs.map(afterwards), linkFreeMs: afterwards(linkFreeMs) }
  return { endMs: nowMs, waitMs, copied, events, after }
}

function isAlike(a: RingTimes, b: RingTimes): boolean {
  const near = (one: number, other: number): boolean => Math.abs(one - other) <= toleranceMs
  return near(a.linkFreeMs, b.linkFreeMs) && a.copyEndMs.every((ms, i) => near(ms, b.copyEndMs[i]!))
}
