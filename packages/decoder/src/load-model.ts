import { type Checkpoint, loadParameters, openCheckpoint } from '@spillway/checkpoint'
import {
  type ConfiguredBackend,
  createOffloader,
  type Device,
  type Offloader,
  ownParameters,
  type Parameter,
  type PinSetting,
  parameterBytes,
  printable,
  SpillwayError,
  type Stream,
  throwIfAborted,
} from '@spillway/core'
import { currentAllocatorSettings, withAllocatorSettings } from '@spillway/device'
import { type DecoderConfig, readConfig, type WeightDType } from './config.js'
import { decideGraph } from './decode-graph.js'
import { fillDummyWeights } from './dummy-weights.js'
import { Evaluator } from './evaluator.js'
import { Forward } from './forward.js'
import { fuseLayer, fusionBytes } from './fuse.js'
import { noTokenizer } from './generate.js'
import { Kernels } from './kernels.js'
import { KvCache, KvCachePlan } from './kv-cache.js'
import { LoadedModel, type Model, type ModelPlan } from './model.js'
import { embeddingName, layerName, moduleSpecs } from './model-specs.js'
import { Resources } from './resources.js'
import { Tokenizer } from './tokenizer.js'
import { Workspace, WorkspacePlan } from './workspace.js'

export interface LoadModelOptions {
  /** Stays the caller's; dispose the model first. */
  readonly device: Device
  /** From `configure`: one backend or several to compose. Default none: everything on the device. */
  readonly offload?: ConfiguredBackend | readonly ConfiguredBackend[]
  /** Default `auto`. */
  readonly pin?: PinSetting
  /** Tokens of prompt and text together. Default: what the model was made for, at most 2048. */
  readonly contextLength?: number
  /** As in `KernelsOptions`: `auto` (the default), `none`, or a library's name or path. */
  readonly matrixLibrary?: string
  /** Tokens computed at once while the prompt is read: more need more workspace and fewer passes. Default 128. */
  readonly maxRows?: number
  /** `dummy`: seeded random weights; then config.json alone is enough. Default `auto`: the checkpoint's. */
  readonly loadFormat?: 'auto' | 'dummy'
  /** Default 0. */
  readonly dummySeed?: number
  /** Default `auto`: the weights'. */
  readonly kvCacheDtype?: 'auto' | WeightDType
  /**
   * Enqueue every kernel of every token instead of replaying a captured graph. Default false: replay where device,
   * backends and pinned memory allow it; `Model.decodeGraph` says what was decided.
   */
  readonly enforceEager?: boolean
  /**
   * For who will give it text: SPILLWAY_DECODER_NO_TOKENIZER now, not after minutes of reading. Default false: a model
   * without tokenizer.json takes token ids.
   */
  readonly requireTokenizer?: boolean
  readonly signal?: AbortSignal
  /**
   * Called once everything has its place and its memory, before any byte of the weights is read: `explain` says what was
   * decided. What it throws ends the loading; so does a signal that it aborts.
   */
  readonly onPlaced?: (placement: Pick<Offloader, 'names' | 'pin' | 'modules' | 'explain'>) => void
  /** What it throws ends the loading. */
  readonly onProgress?: (progress: LoadModelProgress) => void
}

/** `plan`: sizes are known; `weights`: loading; `post-process`: fusing; `ready`. Bytes of weights. */
export interface LoadModelProgress {
  readonly phase: 'plan' | 'weights' | 'post-process' | 'ready'
  readonly loadedBytes: number
  readonly totalBytes: number
}

const contextLengthDefault = 2048
const maxRowsDefault = 128
const maxRowsLimit = 4096
const loadFormats = ['auto', 'dummy'] as const
const kvCacheDtypes = ['auto', 'f32', 'f16', 'bf16'] as const

/**
 * Loads a Llama, Mistral, Qwen2 or Qwen3 model from a directory as Hugging Face transformers saves it: config.json, model.safetensors or
 * its shards, tokenizer.json. Sizes come first, then memory, then bytes: every tensor is read straight to where the
 * backend placed it.
 *
 * Throws SPILLWAY_DECODER_* for files and options, SPILLWAY_CHECKPOINT_* naming file and tensor, SPILLWAY_OUT_OF_MEMORY,
 * SPILLWAY_ABORTED, and what the backends throw. Then nothing of it is left on the device.
 */
export async function loadModel(directory: string, options: LoadModelOptions): Promise<Model> {
  const resources = new Resources()
  try {
    // Weights that are repacked leave blocks that only the next layer's fit: whole, unless the program says otherwise.
    const whole = Number.isFinite(currentAllocatorSettings().maxSplitSizeMb) ? {} : { maxSplitSizeMb: 20 }
    return await withAllocatorSettings(whole, () => load(directory, options, resources))
  } catch (error) {
    // The first failure is the one to report; what cannot be freed after it shows in the device's counters.
    await resources.dispose().catch(() => {})
    throw error
  }
}

async function load(directory: string, options: LoadModelOptions, resources: Resources): Promise<Model> {
  const { device, signal } = options
  throwIfAborted(signal, 'loading the model')
  if (typeof directory !== 'string') throw invalid('directory', directory, 'the path of a directory')
  const loadFormat = choice('loadFormat', options.loadFormat ?? 'auto', loadFormats)
  const kvCacheDtype = choice('kvCacheDtype', options.kvCacheDtype ?? 'auto', kvCacheDtypes)
  const enforceEager = flag('enforceEager', options.enforceEager ?? false)
  const requireTokenizer = flag('requireTokenizer', options.requireTokenizer ?? false)
  const dummySeed = integer('dummySeed', options.dummySeed ?? 0, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)

  // The last to go: who unloads a model wants its memory for something else, another program maybe.
  resources.add({ [Symbol.asyncDispose]: async () => void (device.disposed || device.releaseCachedMemory()) })

  // Sizes before bytes: everything that will be taken is known here.
  const config = await readConfig(directory)
  const tokenizer = await Tokenizer.read(directory)
  if (requireTokenizer && tokenizer === undefined) throw noTokenizer('text prompts and stop strings')
  const checkpoint =
    loadFormat === 'dummy' ? undefined : resources.add(await openCheckpoint(directory, withSignal(signal)))
  const dtype = config.dtype ?? dtypeOf(checkpoint)
  const specs = moduleSpecs(config, dtype)
  const contextLength = contextLengthOf(config, options.contextLength)
  const maxRows = Math.min(integer('maxRows', options.maxRows ?? maxRowsDefault, 1, maxRowsLimit), contextLength)
  const kvCachePlan = new KvCachePlan(config, contextLength, kvCacheDtype === 'auto' ? dtype : kvCacheDtype)
  const { matrixLibrary } = options
  const kernels = new Kernels({ device, ...(matrixLibrary === undefined ? {} : { matrixLibrary }) })
  // A library takes bf16 only.
  const workspacePlan = new WorkspacePlan(config, maxRows, kernels.hasMatrixLibrary && dtype === 'bf16')
  const plan: ModelPlan = Object.freeze({
    weightBytes: parameterBytes(specs.flatMap(ownParameters)),
    kvCacheBytes: kvCachePlan.bytes,
    workspaceBytes: workspacePlan.bytes,
  })
  const report = (phase: LoadModelProgress['phase'], loadedBytes: number): void => {
    options.onProgress?.({ phase, loadedBytes, totalBytes: plan.weightBytes })
  }
  report('plan', 0)

  // Memory: the backend places the weights, then the engine takes what it said it would, before minutes of reading.
  const stream = resources.add(device.createStream())
  const backends = backendsOf(options.offload)
  const offloader = resources.add(
    await createOffloader({
      device,
      compute: stream,
      backends,
      pin: options.pin ?? 'auto',
      plan: {
        kvCacheBytes: plan.kvCacheBytes,
        workspaceBytes: workspacePlan.physicalBytes(device.budget),
        postLoadBytes: fusionBytes(specs, device.budget),
      },
    }),
  )
  await offloader.wrapModules(specs, withSignal(signal))
  const memory = (tag: string) => offloader.memory(tag)
  const kvCache = resources.add(new KvCache(kvCachePlan, memory('kv_cache'), stream))
  const workspace = resources.add(
    await Workspace.allocate(workspacePlan, { memory, host: offloader.host, stream, signal }),
  )

  options.onPlaced?.(offloader)
  throwIfAborted(signal, 'loading the model')

  // Bytes.
  const weights = { offloader, stream, signal, onProgress: (loadedBytes: number) => report('weights', loadedBytes) }
  if (checkpoint === undefined) await loadDummy(weights, dummySeed)
  else await loadCheckpoint(weights, checkpoint)
  await checkpoint?.dispose()
  report('post-process', plan.weightBytes)
  for (let layer = 0; layer < config.layers; layer++) {
    throwIfAborted(signal, 'loading the model')
    await fuseLayer(layerName(layer), { offloader, stream, idle: kvCache.buffer, signal })
  }
  const modules = await offloader.postInit()

  const forward = new Forward({ config, offloader, modules, kernels, kvCache, workspace, stream })
  const { vocabSize } = config
  const graph = () => decideGraph({ device, pin: offloader.pin, backends, enforceEager })
  const evaluator = resources.add(
    await Evaluator.create(
      { device, forward, kvCache, workspace, stream, offloader, vocabSize, decideGraph: graph },
      signal,
    ),
  )
  throwIfAborted(signal, 'loading the model')
  report('ready', plan.weightBytes)
  return new LoadedModel({ config, dtype, tokenizer, device, offloader, plan, contextLength, evaluator, resources })
}

interface WeightsOptions {
  readonly offloader: Offloader
  readonly stream: Stream
  readonly signal: AbortSignal | undefined
  readonly onProgress: (loadedBytes: number) => void
}

/** Every parameter that has storage of its own, by its name in the checkpoint. */
function ownedParameters(offloader: Offloader): Map<string, Parameter> {
  const owned = new Map<string, Parameter>()
  for (const [module, { parameters }] of offloader.modules) {
    for (const [name, parameter] of parameters) {
      if (parameter.tiedTo === undefined) owned.set(`${module}.${name}`, parameter)
    }
  }
  return owned
}

async function loadCheckpoint(options: WeightsOptions, checkpoint: Checkpoint): Promise<void> {
  const { offloader, stream, signal, onProgress } = options
  await loadParameters({
    checkpoint,
    targets: Array.from(ownedParameters(offloader), ([tensorName, { tensor }]) => ({ tensorName, tensor })),
    stream,
    host: offloader.host,
    ...withSignal(signal),
    onProgress: ({ loadedBytes }) => onProgress(loadedBytes),
  })
}

async function loadDummy(options: WeightsOptions, seed: number): Promise<void> {
  const { offloader, stream, signal, onProgress } = options
  await fillDummyWeights({
    parameters: [...ownedParameters(offloader).values()],
    seed,
    host: offloader.host,
    stream,
    signal,
    onProgress: ({ loadedBytes }) => onProgress(loadedBytes),
  })
}

/** For a config.json that names no dtype: the checkpoint's word. */
function dtypeOf(checkpoint: Checkpoint | undefined): WeightDType {
  const tensor = checkpoint?.tensors.get(`${embeddingName}.weight`)
  const dtype = tensor?.dtype
  if (dtype === 'f32' || dtype === 'f16' || dtype === 'bf16') return dtype
  throw new SpillwayError(
    'SPILLWAY_DECODER_DTYPE',
    `config.json names no dtype${tensor === undefined ? '' : ` and the checkpoint has ${tensor.storedDType}`}; ` +
      'this engine runs weights of float32, float16, bfloat16: set "dtype" in config.json',
    { details: { dtype: tensor?.storedDType } },
  )
}

function contextLengthOf(config: DecoderConfig, wanted: number | undefined): number {
  const { maxContextLength } = config
  if (wanted === undefined) return Math.min(maxContextLength, contextLengthDefault)
  return integer('contextLength', wanted, 1, maxContextLength, `, as max_position_embeddings in config.json says`)
}

function backendsOf(offload: LoadModelOptions['offload']): readonly ConfiguredBackend[] {
  if (offload === undefined) return []
  return Array.isArray(offload) ? (offload as readonly ConfiguredBackend[]) : [offload as ConfiguredBackend]
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

function integer(option: string, value: unknown, min: number, max: number, why = ''): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw invalid(option, value, `a whole number from ${min} to ${max}${why}`)
}

function choice<T extends string>(option: string, value: unknown, choices: readonly T[]): T {
  const chosen = choices.find((known) => known === value)
  if (chosen !== undefined) return chosen
  throw invalid(option, value, choices.join(', '))
}

function flag(option: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw invalid(option, value, 'true or false')
}

function invalid(option: string, value: unknown, rule: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_OPTION', `${option} is ${rule}; got ${printable(value)}`, {
    details: { option, value },
  })
}
