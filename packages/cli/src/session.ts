import {
  formatBytes,
  messageOf,
  type PinDecision,
  type PinSetting,
  pinPolicy,
  readEnvironment,
  shouldPinMemory,
} from '@spillway/core'
import { type LoadModelOptions, loadModel, type Model } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { type NativeDevice, openDevice, writeMemoryTrace } from '@spillway/device'
import { type FlagValues, type GivenOptions, usage } from './arguments.js'
import { type ChosenBackends, configureBackends, ignoredFlags } from './backends.js'
import type { Output } from './output.js'

/** A command line, understood. */
export interface Invocation {
  /** Of the command's own options. */
  readonly given: GivenOptions
  readonly values: FlagValues
  readonly chosen: ChosenBackends
  readonly output: Output
  /** Ctrl-C. */
  readonly signal: AbortSignal
}

export interface Session {
  readonly device: NativeDevice
  readonly model: Model
  readonly loadMs: number
}

export function openSelectedDevice(given: GivenOptions): Promise<NativeDevice> {
  const options: Record<string, number> = {}
  if (given.deviceMemory !== undefined) options.memoryLimitBytes = given.deviceMemory as number
  if (given.threads !== undefined) options.threads = given.threads as number
  if (given.linkRate !== undefined) options.linkBytesPerSecond = given.linkRate as number
  return openDevice((given.device as string | undefined) ?? 'auto', options)
}

/** As a model that is loaded with the same options will have it. */
export function pinDecision(device: NativeDevice, given: GivenOptions): PinDecision {
  const setting = (given.pinMemory as PinSetting | undefined) ?? 'auto'
  return shouldPinMemory(device.capabilities, pinPolicy(setting, readEnvironment()))
}

export function matrixLibraryOf(given: GivenOptions): { matrixLibrary?: string } {
  return given.matrixLibrary === undefined ? {} : { matrixLibrary: given.matrixLibrary as string }
}

/** Opens the device, loads the model, runs `body`, and gives everything back whatever happens. */
export async function withModel<T>(
  { given, values, chosen, output, signal }: Invocation,
  body: (session: Session) => Promise<T>,
  onPlaced?: LoadModelOptions['onPlaced'],
): Promise<T> {
  const ignored = ignoredFlags(chosen, values)
  if (ignored.length > 0) {
    const names = chosen.backends.map(({ name }) => name).join('+')
    output.note(`note: ${ignored.join(', ')} ignored: the backend ${names} has no such option`)
  }
  const offload = configureBackends(chosen, values)
  const device = await openSelectedDevice(given)
  try {
    return await withMemoryTrace(device, given, output, () => loadAndRun(device))
  } finally {
    output.endProgress()
    await device.dispose()
  }

  async function loadAndRun(device: NativeDevice): Promise<T> {
    const start = performance.now()
    const model = await loadModel((given.model as string | undefined) ?? modelDirectory(), {
      device,
      offload,
      pin: (given.pinMemory as PinSetting | undefined) ?? 'auto',
      ...(given.contextLength === undefined ? {} : { contextLength: given.contextLength as number }),
      ...matrixLibraryOf(given),
      enforceEager: (given.enforceEager as boolean | undefined) ?? false,
      ...(given.loadFormat === undefined ? {} : { loadFormat: given.loadFormat as 'auto' | 'dummy' }),
      requireTokenizer: given.prompt !== undefined || given.stop !== undefined,
      signal,
      ...(onPlaced === undefined ? {} : { onPlaced }),
      onProgress: ({ phase, loadedBytes, totalBytes }) => {
        const share = totalBytes === 0 ? 100 : Math.floor((100 * loadedBytes) / totalBytes)
        output.progress(`loading: ${phase} ${share} % of ${formatBytes(totalBytes)}`)
      },
    })
    try {
      output.endProgress()
      return await body({ device, model, loadMs: performance.now() - start })
    } finally {
      await model.dispose()
    }
  }
}

/** `--memory-trace`: from before the model is loaded until after it is given back, whatever happens between. */
async function withMemoryTrace<T>(
  device: NativeDevice,
  given: GivenOptions,
  output: Output,
  body: () => Promise<T>,
): Promise<T> {
  if (given.memoryTrace === undefined) return body()
  if (given.memoryTrace === '') throw usage('--memory-trace needs the name of a file')
  const file = await writeMemoryTrace(device, given.memoryTrace as string)
  let result: T
  try {
    result = await body()
  } catch (error) {
    // What went wrong first is the error to tell.
    await file.close().catch((problem: unknown) => output.note(`note: ${messageOf(problem)}`))
    throw error
  }
  await file.close()
  return result
}
