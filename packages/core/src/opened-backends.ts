import type { BackendContext, HostArena, MemorySource, OffloaderSteps, ResidencySteps, Tag } from './backend.js'
import { reading, readOptions } from './call-options.js'
import { type ComposedBackend, composeBackends, requirePinning } from './composition.js'
import type { Device, DeviceBuffer, HostBuffer, Stream } from './device.js'
import { type Environment, readEnvironment } from './environment.js'
import { SpillwayError, toSpillwayError } from './errors.js'
import { hostArena } from './host-arena.js'
import { Lifecycle } from './lifecycle.js'
import { countedSource, LiveBuffers } from './memory-source.js'
import type { OffloaderOptions } from './offloader.js'
import { Pinning, pinPolicy, shouldPinMemory } from './pin-memory.js'
import { printable } from './printable.js'
import { checkOffloaderSteps, checkResidencySteps, misbehaved } from './steps-check.js'

/** A backend that is running, and the memory it took through its context. */
interface OpenedBackend<S> {
  readonly backend: ComposedBackend
  readonly steps: S
  readonly device: LiveBuffers<DeviceBuffer>
  readonly host: LiveBuffers<HostBuffer>
}

/** What `createOffloader` sets up: everything an offloader is made of. */
export interface OpenedBackends {
  readonly device: Device
  readonly compute: Stream
  readonly pinning: Pinning
  readonly lifecycle: Lifecycle
  /** The device's counter before any backend was made. */
  readonly hostToDeviceBytesBefore: number
  readonly placement: OpenedBackend<OffloaderSteps>
  readonly residency: OpenedBackend<ResidencySteps> | undefined
  readonly plan: BackendContext['plan']
  /** For the engine: through the residency backend when there is one. */
  readonly memory: (tag: Tag) => MemorySource
  readonly host: HostArena
}

/** Disposes the placement backend, then the residency backend, and whatever they left; goes on after a failure. */
export async function closeBackends({ placement, residency }: OpenedBackends): Promise<readonly unknown[]> {
  const failures: unknown[] = []
  for (const opened of [placement, residency]) {
    if (opened === undefined) continue
    const { name } = opened.backend
    try {
      await opened.steps.dispose()
    } catch (error) {
      failures.push(toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${name} failed in dispose`))
    }
    try {
      const bytes = (await opened.device.disposeAll()) + (await opened.host.disposeAll())
      if (bytes > 0) failures.push(misbehaved(name, `dispose left ${bytes} bytes behind`, { bytes }))
    } catch (error) {
      failures.push(error)
    }
  }
  return failures
}

const optionNames = ['device', 'compute', 'backends', 'pin', 'plan', 'environment'] as const

/** Creates the residency backend on the plain device, then the placement backend on top of it. */
export async function openBackends(options: OffloaderOptions): Promise<OpenedBackends> {
  const given = readOptions(options, 'createOffloader', optionNames)
  const { device, compute } = given
  const kinds = reading('createOffloader', () => [device?.kind, compute?.kind])
  if (device === undefined || compute === undefined || kinds[0] !== 'device' || kinds[1] !== 'stream') {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', 'createOffloader needs a device and a compute stream of it')
  }
  const plan = checkPlan(given.plan)
  const composition = composeBackends(given.backends)
  const environment = checkEnvironment(given.environment)
  const policy = pinPolicy(given.pin ?? 'auto', environment)
  const pin = shouldPinMemory(device.capabilities, policy)
  const { placement: chosen, residency: pool } = composition
  const backends = pool === undefined ? [chosen] : [chosen, pool]
  for (const backend of backends) requirePinning(backend, pin)
  const pinning = new Pinning(pin, policy.setting === 'auto' && backends.every(({ supports }) => supports.unpinned))

  const hostToDeviceBytesBefore = device.counters().hostToDeviceBytes
  const lifecycle = new Lifecycle()
  const check = (): void => lifecycle.require('allocate', ['new', 'wrapped', 'ready', 'failed'])
  const open = async <S>(
    backend: ComposedBackend,
    residency: OpenedBackend<ResidencySteps> | undefined,
    read: (value: unknown, name: string) => S,
  ): Promise<OpenedBackend<S>> => {
    const live = { device: new LiveBuffers<DeviceBuffer>(), host: new LiveBuffers<HostBuffer>() }
    const source = {
      device,
      residency: residency?.steps,
      live: live.device,
      check,
      provider: residency?.backend.name ?? device.type,
    }
    const context: BackendContext = Object.freeze({
      device,
      compute,
      pin,
      plan,
      budget: device.budget,
      host: hostArena(device, pinning, live.host, check),
      memory: (tag: Tag) => countedSource(source, tag),
    })
    try {
      const steps = read(await backend.backend.create(context, backend.config as never), backend.name)
      return { backend, steps, ...live }
    } catch (error) {
      await Promise.all([live.device.disposeAll(), live.host.disposeAll()])
      throw toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `backend ${backend.name} failed in create`)
    }
  }

  const residency = composition.residency && (await open(composition.residency, undefined, checkResidencySteps))
  try {
    const placement = await open(composition.placement, residency, checkOffloaderSteps)
    const engine = {
      device,
      residency: residency?.steps,
      live: new LiveBuffers<DeviceBuffer>(),
      check,
      provider: residency?.backend.name ?? device.type,
    }
    return {
      device,
      compute,
      pinning,
      lifecycle,
      hostToDeviceBytesBefore,
      placement,
      residency,
      plan,
      memory: (tag) => countedSource(engine, tag),
      host: hostArena(device, pinning, new LiveBuffers(), check),
    }
  } catch (error) {
    // The first failure is the one to report.
    await residency?.steps.dispose().catch(() => undefined)
    throw error
  }
}

function checkPlan(plan: OffloaderOptions['plan'] = { kvCacheBytes: 0, workspaceBytes: 0 }): BackendContext['plan'] {
  const given = readOptions(plan, 'plan', ['kvCacheBytes', 'workspaceBytes', 'postLoadBytes'])
  const { kvCacheBytes, workspaceBytes, postLoadBytes } = given
  return Object.freeze({
    kvCacheBytes: planBytes('kvCacheBytes', kvCacheBytes),
    workspaceBytes: planBytes('workspaceBytes', workspaceBytes),
    ...(postLoadBytes === undefined ? {} : { postLoadBytes: planBytes('postLoadBytes', postLoadBytes) }),
  })
}

function planBytes(name: string, bytes: number | undefined): number {
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes
  throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `plan.${name} is a number of bytes, not ${printable(bytes)}`)
}

function checkEnvironment(environment: OffloaderOptions['environment']): Pick<Environment, 'pinMemoryDisabledBy'> {
  if (environment === undefined) return readEnvironment()
  const { pinMemoryDisabledBy } = readOptions(environment, 'environment', ['pinMemoryDisabledBy'])
  if (pinMemoryDisabledBy === undefined || typeof pinMemoryDisabledBy === 'string') return { pinMemoryDisabledBy }
  throw new SpillwayError(
    'SPILLWAY_INVALID_ARGUMENT',
    `environment.pinMemoryDisabledBy is the name of a variable, not ${printable(pinMemoryDisabledBy)}`,
  )
}
