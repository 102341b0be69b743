import type { OffloadForecast, OffloadStats } from './backend.js'
import { reading, readOptions } from './call-options.js'
import { notSupported } from './composition.js'
import { SpillwayError, toSpillwayError } from './errors.js'
import { type Explanation, explain } from './explanation.js'
import { checkForecast, checkTimes, checkTraceEvents } from './forecast-check.js'
import type { ModuleSpec } from './module.js'
import type { ExplainOptions } from './offloader.js'
import type { OpenedBackends } from './opened-backends.js'
import { checkPlacement, type PlacementRules } from './placement-check.js'
import { PlacementRecord } from './placement-record.js'
import { PhysicalBytes } from './resident-plan.js'
import { checkOnloadedBytes, checkStats, readStats } from './stats-check.js'
import { checkStepRates } from './step-rates.js'
import type { TraceEvent } from './trace.js'

/** Core's account of what the placement backend did, and the checks that hold the backend to it. */
export class OffloadAccount {
  readonly record: PlacementRecord = new PlacementRecord()
  readonly #parts: OpenedBackends
  readonly #name: string
  #tracing = false

  constructor(parts: OpenedBackends) {
    this.#parts = parts
    this.#name = parts.placement.backend.name
  }

  /**
   * Checks what the backend placed for `specs` and takes it into the record. When that throws, the backend's account and
   * core's differ for good, and the offloader has failed.
   */
  accept(call: 'wrapModules' | 'replaceParameters' | 'postInit', specs: readonly ModuleSpec[], result: unknown): void {
    const { device, pinning, lifecycle } = this.#parts
    const rules: PlacementRules = {
      backend: this.#name,
      call,
      phase: call === 'postInit' ? 'ready' : 'loading',
      pin: pinning.decision,
      unifiedMemory: device.capabilities.unifiedMemory,
      others: this.record.own(specs),
    }
    try {
      this.record.put(specs, checkPlacement(specs, result, rules))
    } catch (error) {
      lifecycle.fail(error)
      throw error
    }
  }

  /** Throws SPILLWAY_NOTHING_OFFLOADED: a request to offload that moved nothing is a mistake in its options. */
  requireOffloaded(): void {
    const { backend, steps } = this.#parts.placement
    const { mapped, pinned, pageable } = this.record.bytesByStorage()
    if (!(steps.offloads ?? backend.supports.offloads) || mapped + pinned + pageable > 0) return
    throw new SpillwayError(
      'SPILLWAY_NOTHING_OFFLOADED',
      `${this.#name} was asked to offload and ended with every parameter on the device; ` +
        'choose options that select something, or the backend none',
      { details: { backend: this.#name } },
    )
  }

  /** The backend's statistics, unchecked but for being numbers. */
  stats(): OffloadStats {
    try {
      return readStats(this.#parts.placement.steps.stats(), this.#name)
    } catch (error) {
      throw toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#name} failed in stats`)
    }
  }

  /** Held against the record, unless a call is changing both or a failure has set them apart. */
  checkedStats(): OffloadStats {
    const stats = this.stats()
    const { running, state } = this.#parts.lifecycle
    if (state === 'failed' || running === 'wrapModules' || running === 'replaceParameters') return stats
    const { device, host } = this.#parts.placement
    const byStorage = this.record.bytesByStorage()
    checkStats(stats, { byStorage, liveWeights: device.bytes('weights'), liveHost: host.bytes() }, this.#name)
    return stats
  }

  /** See `Offloader.explain`. */
  explain(names: readonly string[], options: ExplainOptions | undefined): Explanation {
    const { rates, measured } = readOptions(options, 'explain', ['rates', 'measured'])
    const { placement, plan, device } = this.#parts
    const checkedRates = rates === undefined ? undefined : reading('explain', () => checkStepRates(rates))
    const times = measured === undefined ? undefined : reading('explain', () => checkTimes(measured, invalidTimes))
    let forecast: OffloadForecast | undefined
    try {
      forecast = placement.steps.forecast && checkForecast(placement.steps.forecast(checkedRates), this.#name)
    } catch (error) {
      throw toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#name} failed in forecast`)
    }
    return explain({
      names,
      modules: this.record.modules.values(),
      plan,
      forecast,
      rates: checkedRates,
      measured: times,
      physical: new PhysicalBytes(device.budget),
      peakDeviceBytes: device.budget.peakBytes,
    })
  }

  /** One trace at a time. `end` returns its events, `close` ends it without a word unless it has ended. */
  beginTrace(): { end(): readonly TraceEvent[]; close(): void } {
    const { tracer } = this.#parts.placement.steps
    if (tracer === undefined) throw notSupported(this.#name, 'traces', 'nothing of it is copied ahead of its use')
    if (this.#tracing) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_STATE',
        'trace: a trace of this offloader is being made; await it first',
      )
    }
    const asked = <T>(ask: () => T): T => {
      try {
        return ask()
      } catch (error) {
        throw toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#name} failed in its tracer`)
      }
    }
    asked(() => tracer.start())
    this.#tracing = true
    const end = (): readonly TraceEvent[] => {
      this.#tracing = false
      return asked(() => checkTraceEvents(tracer.stop(), this.#name))
    }
    return {
      end,
      close: () => {
        // The failure of what was traced is the one to report.
        if (this.#tracing) asked(() => tracer.stop())
        this.#tracing = false
      },
    }
  }

  /** Only when the streams of all forwards are idle: see `checkOnloadedBytes`. */
  checkOnloaded(stats: OffloadStats): void {
    const { device, hostToDeviceBytesBefore } = this.#parts
    checkOnloadedBytes(stats, device.counters().hostToDeviceBytes - hostToDeviceBytesBefore, this.#name)
  }
}

function invalidTimes(problem: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `explain: ${problem}; timesOf() makes them from events`)
}
