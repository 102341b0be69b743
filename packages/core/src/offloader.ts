import type {
  ConfiguredBackend,
  ForwardSteps,
  HostArena,
  KernelOperation,
  KernelPlan,
  MemoryPlan,
  MemorySource,
  OffloaderSteps,
  OffloadStats,
  StepForecast,
  StepRates,
  Tag,
} from './backend.js'
import type { Device, Stream } from './device.js'
import type { Environment } from './environment.js'
import type { Explanation } from './explanation.js'
import type { ForwardBody } from './forward-scope.js'
import { GuardedOffloader } from './guarded-offloader.js'
import type { OffloaderResidency } from './guarded-residency.js'
import type { ModuleSpec, PlacedModule } from './module.js'
import { openBackends } from './opened-backends.js'
import type { PinDecision, PinSetting } from './pin-memory.js'
import type { TraceEvent } from './trace.js'

export interface OffloaderOptions {
  readonly device: Device
  /** The model's one compute stream, of that device. */
  readonly compute: Stream
  /** From `configure`: at most one placement and one residency backend, in any order. Empty: everything on the device. */
  readonly backends: readonly ConfiguredBackend[]
  /** Default `auto`. */
  readonly pin?: PinSetting
  /** Device bytes the engine will take besides the weights. Default: none. */
  readonly plan?: MemoryPlan
  /** Default: what the environment variables say. */
  readonly environment?: Pick<Environment, 'pinMemoryDisabledBy'>
}

export interface ExplainOptions {
  readonly rates?: StepRates
  /** From `timesOf`, where something measured times on the device. */
  readonly measured?: StepForecast
}

export interface OffloaderStats extends OffloadStats {
  /** The most physical device bytes ever in use at once, everything on that device counted. */
  readonly peakDeviceBytes: number
  readonly pinned: PinDecision
}

/**
 * What an engine talks to: a placement backend and perhaps a residency backend, composed and guarded by core. Wrap the
 * modules, load, replace parameters, `postInit`, then forwards. One asynchronous call at a time. To be used on one
 * thread. Does not own the device, the compute stream, nor what was allocated through `memory` and `host`; dispose those
 * allocations first.
 */
export interface Offloader extends AsyncDisposable {
  /** The placement backend, then the residency backend; `auto` says whom it chose. */
  readonly names: readonly string[]
  readonly pin: PinDecision
  /** Every module as it is placed now, tied parameters included. A new map after each change. */
  readonly modules: ReadonlyMap<string, PlacedModule>
  /** Present with a residency backend. */
  readonly residency: OffloaderResidency | undefined
  /** Host memory as the pin decision wants it, for the engine's own use. */
  readonly host: HostArena
  /** Device memory for the engine's own use, such as `memory('kv_cache')`. */
  memory(tag: Tag): MemorySource
  /**
   * Allocates final storage for modules that own no memory yet; loaders write into it afterwards. May be called several
   * times, module names and orders unique over all of them. `prefix` goes before parameter names where patterns are
   * matched; it does not change names. Rejects with SPILLWAY_INVALID_SPEC, SPILLWAY_OUT_OF_MEMORY, SPILLWAY_ABORTED;
   * then nothing of that call is left.
   */
  wrapModules(
    specs: readonly ModuleSpec[],
    options?: { readonly prefix?: string; readonly signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]>
  /**
   * Puts other tensors in place of a module's parameters, adds new ones, deletes (null) or ties them. Only between
   * `wrapModules` and `postInit`. The views passed in are borrowed until the promise settles; on failure the old
   * parameters stand.
   */
  replaceParameters: OffloaderSteps['replaceParameters']
  /** Ends loading. Returns every module as kernels read it from now on, at addresses that stay. */
  postInit(): Promise<ReadonlyMap<string, PlacedModule>>
  /**
   * Opens a forward; one at a time. Throws SPILLWAY_FORWARD_OPEN, SPILLWAY_ASLEEP, and SPILLWAY_NOT_SUPPORTED for a
   * capture that the backend cannot be part of. Prefer `forward`, which cannot be left open.
   *
   * A forward may be captured, over all modules or, as a piece of a step, over some. Such a graph is launched between
   * forwards, never within one: it relies on what every forward leaves behind.
   */
  beginForward(stream: Stream): ForwardSteps
  /**
   * A forward as a scope. `body` enqueues and returns; what it throws ends the scope with ok=false and is thrown on. A
   * body that returns a promise is refused with SPILLWAY_FORWARD_ASYNC.
   */
  forward<T>(stream: Stream, body: (scope: ForwardBody) => T): T
  /** The backend's kernel for one weight, or null: use your own. After `postInit`. */
  planKernel(operation: KernelOperation): KernelPlan | null
  /** Cheap, waits for nothing: times are those already known. Held against core's own account: throws SPILLWAY_STATS_MISMATCH. */
  stats(): OffloaderStats
  /** `stats` once the streams that forwards used are idle, `onloadedBytes` held against the device's counters too. */
  settledStats(options?: { readonly signal?: AbortSignal }): Promise<OffloaderStats>
  /**
   * What lies where, the memory it is planned to take and takes, and with `rates` what a forward is going to cost, beside
   * what it did cost where there is a measurement. From `wrapModules` on, so that a user can see it before the bytes are
   * loaded; `formatExplanation` makes a table of it.
   */
  explain(options?: ExplainOptions): Explanation
  /**
   * Runs `body` and notes when the forwards in it computed, copied and waited, by the device's own clock. Of a graph
   * that is replayed in it, and was captured in a trace, the last replay is there: each takes its times anew. Streams
   * that no forward ever used are not waited for, so replays on them may be missing. `chromeTrace` and `timesOf` make
   * something of it. Rejects with SPILLWAY_NOT_SUPPORTED where the backend cannot tell, SPILLWAY_CAPTURE while the
   * stream of the last forward is being captured, and with what `body` rejects with.
   */
  trace<T>(body: () => T | Promise<T>): Promise<{ readonly result: T; readonly events: readonly TraceEvent[] }>
  /** Stops what is running, ends an open forward with ok=false, then frees everything. Again: the same promise. */
  dispose(): Promise<void>
}

/**
 * Composes the backends and decides about pinning, once. Rejects with SPILLWAY_BACKEND_CONFLICT, SPILLWAY_PIN_REQUIRED,
 * SPILLWAY_PIN_UNSUPPORTED, SPILLWAY_BACKEND_FAILED and what checks of backends and options throw; then nothing is left.
 */
export async function createOffloader(options: OffloaderOptions): Promise<Offloader> {
  return new GuardedOffloader(await openBackends(options))
}
