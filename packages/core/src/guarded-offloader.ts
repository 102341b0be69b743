import type { ForwardSteps, HostArena, KernelOperation, KernelPlan, MemorySource, Tag } from './backend.js'
import { checkSignal, readOptions } from './call-options.js'
import { notSupported } from './composition.js'
import type { Stream } from './device.js'
import { isSpillwayError, messageOf, SpillwayError, throwIfAborted, toSpillwayError } from './errors.js'
import type { Explanation } from './explanation.js'
import { checkForwardBody, readCapturing, refusePromise } from './forward-arguments.js'
import { type ForwardBody, ForwardScope } from './forward-scope.js'
import { GuardedResidency } from './guarded-residency.js'
import type { Lifecycle, LifecycleState } from './lifecycle.js'
import type { ModuleSpec, PlacedModule, Replacement } from './module.js'
import { checkModuleSpecs, checkReplacements, invalidSpec } from './module-spec-check.js'
import { OffloadAccount } from './offload-account.js'
import type { ExplainOptions, Offloader, OffloaderStats } from './offloader.js'
import { closeBackends, type OpenedBackends } from './opened-backends.js'
import type { PinDecision } from './pin-memory.js'
import { printable } from './printable.js'
import { checkForwardSteps, checkKernelPlan } from './steps-check.js'
import type { TraceEvent } from './trace.js'

const alive: readonly LifecycleState[] = ['new', 'wrapped', 'ready', 'failed']

/** Puts the rules of `Offloader` around the bare steps of its backends. */
export class GuardedOffloader implements Offloader {
  readonly residency: GuardedResidency | undefined
  readonly #parts: OpenedBackends
  readonly #lifecycle: Lifecycle
  /** The placement backend's name, for error texts. */
  readonly #name: string
  readonly #account: OffloadAccount
  readonly #forwardStreams = new Set<Stream>()
  #forward: ForwardScope | undefined
  /** False once a forward was broken off: then copies may be on their way that none of our streams waits for. */
  #allForwardsOk = true
  #disposing: Promise<void> | undefined

  constructor(parts: OpenedBackends) {
    this.#parts = parts
    this.#lifecycle = parts.lifecycle
    this.#name = parts.placement.backend.name
    this.#account = new OffloadAccount(parts)
    this.residency =
      parts.residency &&
      new GuardedResidency({
        steps: parts.residency.steps,
        backend: parts.residency.backend.name,
        lifecycle: parts.lifecycle,
        requireNoForward: (call) => this.#requireNoForward(call),
        synchronize: () => this.#synchronize(),
        source: parts.memory,
      })
  }

  get names(): readonly string[] {
    const { placement, residency } = this.#parts
    const shown: unknown = placement.steps.name
    const name = typeof shown === 'string' ? shown : this.#name
    return residency === undefined ? [name] : [name, residency.backend.name]
  }

  get pin(): PinDecision {
    return this.#parts.pinning.current
  }

  get modules(): ReadonlyMap<string, PlacedModule> {
    return this.#account.record.modules
  }

  get host(): HostArena {
    return this.#parts.host
  }

  memory(tag: Tag): MemorySource {
    this.#lifecycle.require('memory', alive)
    return this.#parts.memory(tag)
  }

  wrapModules(
    specs: readonly ModuleSpec[],
    options?: { readonly prefix?: string; readonly signal?: AbortSignal },
  ): Promise<readonly PlacedModule[]> {
    return this.#lifecycle.run('wrapModules', ['new', 'wrapped'], async () => {
      const { prefix = '', signal } = readOptions(options, 'wrapModules', ['prefix', 'signal'])
      checkSignal(signal, 'wrapModules')
      throwIfAborted(signal, 'placing modules')
      if (typeof prefix !== 'string') throw invalidSpec('the prefix', `is text, not ${printable(prefix)}`)
      this.residency?.requireAwake('wrapModules')
      const checked = checkModuleSpecs(specs)
      this.#account.record.checkAdditions(checked)
      const { disposal } = this.#lifecycle
      const stop = signal === undefined ? disposal : AbortSignal.any([signal, disposal])
      const result = await this.#ask(
        'wrapModules',
        (steps) => steps.wrapModules(checked, { prefix, signal: stop }),
        stop,
      )
      this.#account.accept('wrapModules', checked, result)
      this.#lifecycle.advance('wrapped')
      return checked.map((spec) => this.#account.record.modules.get(spec.name)!)
    })
  }

  replaceParameters(module: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    return this.#lifecycle.run('replaceParameters', ['wrapped'], async () => {
      this.residency?.requireAwake('replaceParameters')
      const checked = checkReplacements(module, next)
      const { spec, forBackend } = this.#account.record.planReplacement(module, checked)
      if (forBackend.size === 0) {
        this.#account.record.put([spec], new Map())
      } else {
        const placed = await this.#ask('replaceParameters', (steps) => steps.replaceParameters(module, forBackend))
        this.#account.accept('replaceParameters', [spec], [placed])
      }
      return this.#account.record.modules.get(module)!
    })
  }

  postInit(): Promise<ReadonlyMap<string, PlacedModule>> {
    return this.#lifecycle.run('postInit', ['wrapped'], async () => {
      this.residency?.requireAwake('postInit')
      try {
        const result = await this.#ask('postInit', (steps) => steps.postInit())
        this.#account.accept('postInit', this.#account.record.specs, result)
        this.#account.requireOffloaded()
        this.#account.checkedStats()
      } catch (error) {
        // Addresses may be frozen or not: nobody can tell what this backend would do next.
        this.#lifecycle.fail(error)
        throw this.#failure('postInit', error)
      }
      this.#lifecycle.advance('ready')
      return this.#account.record.modules
    })
  }

  beginForward(stream: Stream): ForwardSteps {
    return this.#beginForward(stream)
  }

  forward<T>(stream: Stream, body: (scope: ForwardBody) => T): T {
    checkForwardBody(body)
    const scope = this.#beginForward(stream)
    let result: T
    try {
      result = body({ before: (module) => scope.before(module), after: (module) => scope.after(module) })
      refusePromise(result)
    } catch (error) {
      try {
        scope.end(false)
      } catch {
        // The body's failure is the one to report; that the scope could not be ended shows at the next forward.
      }
      throw error
    }
    scope.end(true)
    return result
  }

  planKernel(operation: KernelOperation): KernelPlan | null {
    this.#lifecycle.require('planKernel', ['ready'])
    const { backend, steps } = this.#parts.placement
    if (!backend.supports.kernels) return null
    const { kind, maxRows = 0 } = readOptions(operation, 'planKernel', ['kind', 'maxRows'])
    if ((kind !== 'linear' && kind !== 'gather') || !Number.isSafeInteger(maxRows) || maxRows < 1) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `planKernel takes kind linear or gather and maxRows of at least 1, not ${printable({ kind, maxRows })}`,
      )
    }
    try {
      return checkKernelPlan(steps.kernels?.plan(operation) ?? null, this.#name)
    } catch (error) {
      throw this.#failure('planKernel', error)
    }
  }

  stats(): OffloaderStats {
    this.#lifecycle.require('stats', alive)
    const { device, pinning } = this.#parts
    const peakDeviceBytes = device.budget.peakBytes
    return Object.freeze({ ...this.#account.checkedStats(), peakDeviceBytes, pinned: pinning.current })
  }

  async settledStats(options?: { readonly signal?: AbortSignal }): Promise<OffloaderStats> {
    this.#lifecycle.require('settledStats', alive)
    const { signal } = readOptions(options, 'settledStats', ['signal'])
    checkSignal(signal, 'settledStats')
    await this.#synchronize(signal)
    const stats = this.stats()
    if (this.#allForwardsOk) this.#account.checkOnloaded(stats)
    return stats
  }

  explain(options?: ExplainOptions): Explanation {
    this.#lifecycle.require('explain', ['wrapped', 'ready'])
    return this.#account.explain(this.names, options)
  }

  async trace<T>(body: () => T | Promise<T>): Promise<{ readonly result: T; readonly events: readonly TraceEvent[] }> {
    this.#lifecycle.require('trace', ['ready'])
    const tracer = this.#account.beginTrace()
    try {
      const result = await body()
      this.#lifecycle.require('trace', ['ready'])
      await this.#synchronize()
      return { result, events: tracer.end() }
    } finally {
      tracer.close()
    }
  }

  dispose(): Promise<void> {
    this.#disposing ??= this.#dispose()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #dispose(): Promise<void> {
    const failures: unknown[] = []
    const wasReady = this.#lifecycle.state === 'ready'
    const closed = this.#lifecycle.close()
    try {
      this.#forward?.end(false)
    } catch (error) {
      failures.push(error)
    }
    await closed
    try {
      // With a residency backend, work may be waiting for a wake that never comes.
      const settles = wasReady && this.#allForwardsOk && this.residency === undefined
      if (
        settles &&
        (await this.#synchronize().then(
          () => true,
          () => false,
        ))
      ) {
        this.#account.checkOnloaded(this.#account.stats())
      }
    } catch (error) {
      failures.push(error)
    }
    failures.push(...(await closeBackends(this.#parts)))
    if (failures.length === 1) throw failures[0]
    if (failures.length > 1) {
      const text = `disposing failed in ${failures.length} ways: ${failures.map(messageOf).join('; ')}`
      throw new SpillwayError('SPILLWAY_BACKEND_FAILED', text, { cause: new AggregateError(failures, text) })
    }
  }

  #beginForward(stream: Stream): ForwardScope {
    this.#lifecycle.require('beginForward', ['ready'])
    this.#requireNoForward('beginForward')
    const capturing = readCapturing(stream)
    this.residency?.requireAwake('beginForward')
    const { backend, steps } = this.#parts.placement
    if (!backend.supports.graphs && capturing) {
      throw notSupported(this.#name, 'graph capture', 'run forwards without capturing them')
    }
    let inner: ForwardSteps
    try {
      inner = checkForwardSteps(steps.beginForward(stream), this.#name)
    } catch (error) {
      throw this.#failure('beginForward', error)
    }
    this.#noteStream(stream)
    const { residency } = this
    this.#forward = new ForwardScope({
      stream,
      steps: inner,
      backend: this.#name,
      knows: (module) => this.#account.record.has(module),
      fence: residency && ((module) => residency.fence(module)),
      ended: (ok, failure) => {
        this.#forward = undefined
        this.#allForwardsOk &&= ok
        if (failure !== undefined) this.#lifecycle.fail(failure)
      },
    })
    return this.#forward
  }

  /** A stream for each request: those that are disposed are let go. */
  #noteStream(stream: Stream): void {
    if (this.#forwardStreams.has(stream)) return
    for (const known of this.#forwardStreams) if (known.disposed) this.#forwardStreams.delete(known)
    this.#forwardStreams.add(stream)
  }

  #requireNoForward(call: string): void {
    if (this.#forward === undefined) return
    throw new SpillwayError('SPILLWAY_FORWARD_OPEN', `${call}: a forward of this offloader is open; end it first`)
  }

  /** Calls the placement backend; afterwards the offloader may have been disposed. */
  async #ask<T>(
    call: string,
    ask: (steps: OpenedBackends['placement']['steps']) => Promise<T>,
    stop?: AbortSignal,
  ): Promise<T> {
    let result: T
    try {
      result = await ask(this.#parts.placement.steps)
    } catch (error) {
      if (!isSpillwayError(error)) throwIfAborted(stop, `${call} of backend ${this.#name}`)
      throw this.#failure(call, error)
    }
    this.#lifecycle.require(call, ['new', 'wrapped'])
    return result
  }

  async #synchronize(signal?: AbortSignal): Promise<void> {
    const streams = [this.#parts.compute, ...this.#forwardStreams].filter((stream) => !stream.disposed)
    const options = signal === undefined ? {} : { signal }
    await Promise.all([...new Set(streams)].map((stream) => stream.synchronize(options)))
    // After those: what a backend does on streams of its own follows what it was given to do.
    try {
      await this.#parts.placement.steps.synchronize?.(options)
    } catch (error) {
      throw this.#failure('synchronize', error)
    }
  }

  #failure(call: string, error: unknown): SpillwayError {
    return toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${this.#name} failed in ${call}`)
  }
}
