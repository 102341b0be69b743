import {
  decodeRates,
  type Explanation,
  formatExplanation,
  measuredRates,
  type Offloader,
  type StepForecast,
} from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import type { GivenOptions } from './arguments.js'
import { measureStepLimits, type StepLimits } from './limits.js'
import { formatRate, type Output } from './output.js'
import { openSelectedDevice, pinDecision } from './session.js'

type Placed = Pick<Offloader, 'modules' | 'explain'>

/** `--explain`: what a run is going to cost, and what it did cost. */
export class RunExplanation {
  readonly #limits: StepLimits
  readonly #output: Output
  #placed: Placed | undefined
  #before: Explanation | undefined
  #after: Explanation | undefined
  #measuredTokens = 0

  /**
   * Measures what is predicted from, on a device opened for that alone and closed again: the run's own counts, peak and
   * limit know nothing of it.
   */
  static async create(given: GivenOptions, output: Output, signal: AbortSignal): Promise<RunExplanation> {
    const { deviceMemory: _, ...unlimited } = given
    await using device: NativeDevice = await openSelectedDevice(unlimited)
    const storage = pinDecision(device, given).pin ? 'pinned' : 'pageable'
    output.progress('measuring the link')
    return new RunExplanation(await measureStepLimits(device, storage, signal), output)
  }

  private constructor(limits: StepLimits, output: Output) {
    this.#limits = limits
    this.#output = output
  }

  /** Before the bytes are loaded. Compute times are those of kernels that read memory as fast as it is. */
  placed(placed: Placed): void {
    const { linkBytesPerSecond, storage, deviceBytesPerSecond } = this.#limits
    this.#placed = placed
    this.#before = placed.explain({ rates: decodeRates(placed.modules, this.#limits) })
    this.#output.note(
      `before the run: the plan, and the times that the link (${formatRate(linkBytesPerSecond)}, ${storage}) and device ` +
        `memory (${formatRate(deviceBytesPerSecond)}) allow, as just measured\n\n${formatExplanation(this.#before)}\n`,
    )
  }

  /**
   * At the end. `traced`: of a token among others, and over how many. Without it there is what the clock says, and no
   * better prediction.
   */
  measured(
    traced: { readonly times: StepForecast; readonly steps: number } | undefined,
    clock: { readonly decodeTokensPerSecond: number; readonly tokens: number },
  ): void {
    const placed = this.#placed
    if (placed === undefined) return
    if (traced === undefined && clock.decodeTokensPerSecond === 0) {
      this.#output.note('note: no token was measured, for there were too few: let there be three at least')
      return
    }
    const byClock = { times: { stepMs: 1000 / clock.decodeTokensPerSecond, modules: [] }, steps: clock.tokens - 1 }
    const { times, steps } = traced ?? byClock
    this.#measuredTokens = steps
    const rates =
      traced === undefined
        ? decodeRates(placed.modules, this.#limits)
        : measuredRates(times, this.#limits.linkBytesPerSecond)
    this.#after = placed.explain({ rates, measured: times })
    const tokens = steps === 1 ? 'one token' : `${steps} tokens`
    const how =
      traced === undefined
        ? `measured over ${tokens} by the clock`
        : `measured over ${tokens}; predicted from their kernels' times and the link`
    this.#output.note(`\nafter the run: ${how}\n\n${formatExplanation(this.#after, { placement: false })}\n`)
  }

  /** For `--json`. */
  get object(): Readonly<Record<string, unknown>> {
    const after = this.#after === undefined ? {} : { after: this.#after, measuredTokens: this.#measuredTokens }
    return { limits: this.#limits, before: this.#before, ...after }
  }
}
