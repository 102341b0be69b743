import type { Device, DeviceBudget, DeviceBuffer, Event, HostBuffer, HostMemoryProgress, Stream } from './device.js'
import type { ModuleSpec, Parameter, PlacedModule, Replacement } from './module.js'
import type { OptionSpecs } from './option-spec.js'
import type { PinDecision } from './pin-memory.js'
import type { DType, TensorView } from './tensor.js'
import type { TraceEvent } from './trace.js'

export type Tag = 'weights' | 'kv_cache' | 'workspace' | 'runtime' | (string & {})

/** What a residency backend may assume about an allocation's contents. */
export type Recovery =
  /** It keeps the image (sleep levels 0 and 1; tag `runtime`: at every level). */
  | { readonly kind: 'copy' }
  /** The owner's host bytes are the image; never freed by it, never stored twice. */
  | { readonly kind: 'backed'; readonly image: HostBuffer }
  /** Slots, caches: undefined after wake until this is enqueued. */
  | { readonly kind: 'rebuild'; rebuild(stream: Stream): void }

/** An explicit source of device bytes. Charges the budget. Throws SPILLWAY_OUT_OF_MEMORY. Freed to its own source. */
export interface MemorySource {
  readonly tag: Tag
  allocate(bytes: number, options: { stream: Stream; module?: string; recovery: Recovery }): DeviceBuffer
}

/**
 * Host memory that obeys the pin decision. Exact size. Where pinning was nobody's explicit wish, memory that cannot be
 * pinned is pageable instead: its `storage` says which, and stats() why.
 */
export interface HostArena {
  allocate(
    bytes: number,
    options?: { signal?: AbortSignal; onProgress?: (progress: HostMemoryProgress) => void },
  ): Promise<HostBuffer>
}

/** Device bytes the engine will take besides the weights. Placement plans leave room for them. */
export interface MemoryPlan {
  readonly kvCacheBytes: number
  readonly workspaceBytes: number
  /**
   * The most that `replaceParameters` takes at once beside what is placed: new slabs, and tensors on the way into them.
   * Default: twice the largest module.
   */
  readonly postLoadBytes?: number
}

export interface BackendContext {
  readonly device: Device
  /** One compute stream per model. */
  readonly compute: Stream
  /** shouldPinMemory, decided once. */
  readonly pin: PinDecision
  /** host.allocate() obeys pin: no backend can bypass it. */
  readonly host: HostArena
  /** Physical bytes, below allocator, virtual memory and graphs. */
  readonly budget: DeviceBudget
  readonly plan: MemoryPlan
  /** Already the residency backend's pool when there is one. */
  memory(tag: Tag): MemorySource
}

export interface Supports {
  /** false: a residency backend, or none. */
  readonly offloads: boolean
  readonly graphs: boolean
  readonly unpinned: boolean
  readonly kernels: boolean
  readonly reload: boolean
}

interface BackendDescription {
  readonly name: string
  readonly apiVersion: 1
  readonly supports: Supports
  readonly options: OptionSpecs
}

export interface PlacementBackend<C> extends BackendDescription {
  readonly role: 'placement'
  create(context: BackendContext, config: C): Promise<OffloaderSteps>
}

export interface ResidencyBackend<C> extends BackendDescription {
  readonly role: 'residency'
  create(context: BackendContext, config: C): Promise<ResidencySteps>
}

/** What a package exports by default. Its option specs can be imported without its addon, from `<package>/options`. */
export type OffloadBackend<C = Readonly<Record<string, unknown>>> = PlacementBackend<C> | ResidencyBackend<C>

/** A backend with its validated options: what a library user passes to an engine. */
export interface ConfiguredBackend {
  readonly backend: OffloadBackend<never>
  readonly config: Readonly<Record<string, unknown>>
}

export interface OffloadStats {
  /** Bytes of parameters whose storage is not `device`. */
  readonly offloadedBytes: number
  /** Bytes of parameters whose storage is `device`. */
  readonly residentBytes: number
  /** Device bytes of the slots that offloaded parameters pass through. */
  readonly slotBytes: number
  /** Bytes copied from host to slots so far. */
  readonly onloadedBytes: number
  /** Of a backend that copies modules ahead of their use. */
  readonly onloads?: OnloadStats
}

/** Counts since the offloader was made. What replays of a graph do is not among them. */
export interface OnloadStats {
  /** Forwards that began, captured ones included, and how many of them were broken off. */
  readonly forwards: number
  readonly failedForwards: number
  /** Copies enqueued outside of captures, and those recorded into captures. */
  readonly onloads: number
  readonly capturedOnloads: number
  /** Of both: begun only when the module was about to run, because modules came out of order, again, or not at all. */
  readonly demandOnloads: number
  /** Forwards that ended elsewhere than the next one begins, so that the first modules were copied once more. */
  readonly resets: number
  /** Those with parameters on the host, in the order of the forward. Captured copies are not counted. */
  readonly modules: readonly ModuleOnloads[]
}

/**
 * The times are those of one forward, the last one that was measured and is done: a replay of a graph that was captured
 * in a trace, or one of the forwards outside of captures, of which a backend may time a sample. All three are absent
 * until there is one.
 */
export interface ModuleOnloads extends Partial<OnloadTimes> {
  readonly module: string
  /** Of one onload. */
  readonly bytes: number
  readonly onloads: number
  readonly demandOnloads: number
}

/** What a forward is predicted from. */
export interface StepRates {
  readonly linkBytesPerSecond: number
  /** Milliseconds that the module's kernels take when nothing is waited for. */
  computeMs(module: string): number
}

/** What a backend is going to do. */
export interface OffloadForecast {
  /** Device bytes of each slot. */
  readonly slotBytes: readonly number[]
  /** Number of the slot that an offloaded module is read from. */
  readonly slotOf: ReadonlyMap<string, number>
  /** Present when rates were given. */
  readonly step?: StepForecast
}

/** One forward among others like it, in milliseconds. */
export interface StepForecast {
  readonly stepMs: number
  /** In the order of the forward. */
  readonly modules: readonly ModuleTimes[]
}

export interface ModuleTimes extends OnloadTimes {
  readonly module: string
  /** What its kernels take when nothing is waited for. */
  readonly computeMs: number
}

/** Of one module in one forward. */
export interface OnloadTimes {
  /** What its onload takes on the link. 0: it is not copied again. */
  readonly linkMs: number
  /**
   * How long its kernels wait for its onload when everything before them is done; of a replayed graph also how long its
   * end does, for an onload that the next replay needs.
   */
  readonly waitMs: number
  /** The share of `linkMs` that nobody waits for: 1 when `waitMs` is 0, never below 0. */
  readonly hiddenFraction: number
}

/** Written by placement backends; core wraps it as Offloader (state machine, checks, error wrapping, sleep gate). */
export interface OffloaderSteps {
  /** What to show when it is not the backend's own name: `auto` says whom it chose. */
  readonly name?: string
  /**
   * Whether zero bytes offloaded would be a mistake, where that is known only later than `supports.offloads`: `auto` may
   * decide that everything stays on the device. Default: what `supports.offloads` says.
   */
  readonly offloads?: boolean
  /**
   * All specs of one call at once; `prefix` continues the same budget. Allocates final storage, loads nothing.
   * Tied parameters own nothing (see `ownParameters`): leave them out, core adds them.
   */
  wrapModules(
    specs: readonly ModuleSpec[],
    options: { prefix: string; signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]>
  /**
   * Replacement, new layout, deletion by post-load processing; keeps the accounting right. Before postInit() only.
   * Views passed in are borrowed until the promise settles. On failure the old parameters stand.
   */
  replaceParameters(module: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule>
  /** Freezes addresses, preloads kernels, finishes pinning. Returns every module as kernels will read it. */
  postInit(): Promise<readonly PlacedModule[]>
  /** Synchronous and legal while a stream is being captured. */
  beginForward(stream: Stream): ForwardSteps
  readonly kernels?: KernelProvider
  readonly reloadable?: Reloadable
  stats(): OffloadStats
  /**
   * What is going to happen to what is placed, from `wrapModules` on; takes no memory. Leave it out when nothing is
   * copied ahead.
   */
  forecast?(rates?: StepRates): OffloadForecast
  /** Leave it out when times cannot be told. */
  readonly tracer?: ForwardTracer | undefined
  /**
   * Settles when streams of the backend's own have done everything: its memory may be taken away after that. Leave it out
   * when the backend only uses streams that it is given.
   */
  synchronize?(options?: { readonly signal?: AbortSignal }): Promise<void>
  dispose(): Promise<void>
}

/** Notes when work of forwards is done, by the device's clock. */
export interface ForwardTracer {
  /** Begins anew. */
  start(): void
  /** Ends it; what was enqueued since is done. Returns what there was, of a replayed graph the last replay. */
  stop(): readonly TraceEvent[]
}

/** Enqueue only: no promise, no allocation. */
export interface ForwardSteps {
  /** Orders the module's kernels after its onload. */
  before(module: string): void
  /** Releases the slot, starts the next onload. */
  after(module: string): void
  /** Joins inside a capture; ok=false resets the ring. */
  end(ok: boolean): void
}

/** The engine asks once per weight; null means: use your own kernel. */
export interface KernelProvider {
  plan(operation: KernelOperation): KernelPlan | null
}
export interface KernelOperation {
  readonly kind: 'linear' | 'gather'
  readonly weight: Parameter
  readonly maxRows: number
  readonly input: DType
  readonly output: DType
}
export interface KernelPlan {
  readonly name: string
  /** The caller owns the scratch. */
  readonly scratchBytes: number
  /** Declares its accesses. */
  enqueue(stream: Stream, io: { x: TensorView; y: TensorView; rows: number; scratch?: DeviceBuffer }): void
}

export interface Reloadable {
  /** Resolves when no enqueued work reads or copies the module; forwards are refused until commit or abort. */
  openModule(module: string, options?: { signal?: AbortSignal }): Promise<ModuleWriter>
}
export interface ModuleWriter {
  /** The authoritative kernel-format bytes: device, slab, mapped, or the sleep image. */
  readonly targets: ReadonlyMap<string, TensorView>
  readonly where: 'device' | 'host'
  commit(): Promise<void>
  /** Old bytes restored from one module's undo copy. */
  abort(): Promise<void>
}

/** A point a stream or a captured graph can wait for; opens once, or is open already. */
export interface Fence {
  readonly event: Event
  readonly open: boolean
}
export type ResidencyState = 'awake' | 'waking' | 'asleep' | 'discarded' | 'lost'
export interface SleepReport {
  readonly keptBytes: number
  readonly copiedBytes: number
  readonly discardedBytes: number
  readonly freedBytes: number
}
export interface WakeReport {
  readonly mappedBytes: number
  readonly copiedBytes: number
  readonly checkedBlocks: number
}

/** A residency backend knows buffers and Recovery, never a placement backend. Usable alone, with no model. */
export interface ResidencySteps {
  source(tag: Tag): MemorySource
  /** AsyncLocalStorage default for allocations made from JavaScript; native code passes the source. */
  use<T>(tag: Tag, fn: (source: MemorySource) => T): T
  sleep(options: {
    level: 0 | 1 | 2
    tags?: readonly Tag[]
    after?: readonly Stream[]
    signal?: AbortSignal
  }): Promise<SleepReport>
  /** Fails only before the first fence opens; rebuild() callbacks are enqueued in module order. */
  wake(options?: {
    tags?: readonly Tag[]
    verify?: 'off' | 'sampled' | 'full'
    before?: readonly Stream[]
  }): Promise<WakeReport>
  /** Bumps epoch(tag). */
  discard(tags: readonly Tag[]): Promise<void>
  /** Streams and graphs can wait on it; open when awake. */
  fence(module: string): Fence
  /** Engines compare it before reusing a cache. */
  epoch(tag: Tag): number
  state(): ReadonlyMap<Tag, ResidencyState>
  dispose(): Promise<void>
}
