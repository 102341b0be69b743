import { SpillwayError } from './errors.js'

/** What the environment variables say. The only place in Spillway that reads `process.env`. */
export interface Environment {
  /** The variable that switches pinned memory off; undefined when none does. */
  readonly pinMemoryDisabledBy: string | undefined
  /** `SPILLWAY_REQUIRE_CUDA`: a missing GPU is a failure, not a reason to skip. */
  readonly requireCuda: boolean
  /** `SPILLWAY_NATIVE_VARIANT`: the sanitizer build of the addons to load instead of the normal one. */
  readonly nativeVariant: NativeVariant | undefined
  /** `SPILLWAY_CHECK`: host devices check the order of streams and what kernels touch. */
  readonly check: boolean
  /** `SPILLWAY_ADVERSARIAL_SEED`: host devices work in the worst order this seed finds; undefined: as fast as they can. */
  readonly adversarialSeed: number | undefined
  /** `SPILLWAY_ALLOC_CONF`, or else the first PyTorch variable that says something: unread, with its name. */
  readonly allocatorConf: AllocatorConf | undefined
  /** `FORCE_COLOR` and `NO_COLOR`: what the user wants; undefined: decide by the terminal. */
  readonly color: boolean | undefined
}

export interface AllocatorConf {
  readonly variable: 'SPILLWAY_ALLOC_CONF' | 'PYTORCH_ALLOC_CONF' | 'PYTORCH_CUDA_ALLOC_CONF'
  readonly value: string
}

export type NativeVariant = 'address' | 'undefined' | 'thread'
export type EnvironmentVariables = Readonly<Record<string, string | undefined>>

const nativeVariants: readonly NativeVariant[] = ['address', 'undefined', 'thread']

/** Throws SPILLWAY_INVALID_ENVIRONMENT, naming the variable, its value and what is allowed. */
export function readEnvironment(env: EnvironmentVariables = process.env): Environment {
  return Object.freeze({
    pinMemoryDisabledBy: readPinMemoryDisabledBy(env),
    requireCuda: readSwitch(env, 'SPILLWAY_REQUIRE_CUDA'),
    nativeVariant: readNativeVariant(env),
    check: readSwitch(env, 'SPILLWAY_CHECK'),
    adversarialSeed: readAdversarialSeed(env),
    allocatorConf: readAllocatorConf(env),
    color: readColor(env),
  })
}

/** By itself, so that loading an addon does not fail over a variable that has nothing to do with it. */
export function readNativeVariant(env: EnvironmentVariables = process.env): NativeVariant | undefined {
  const value = env.SPILLWAY_NATIVE_VARIANT
  if (value === undefined || value === '') return undefined
  const variant = nativeVariants.find((name) => name === value)
  if (variant === undefined) throw invalid('SPILLWAY_NATIVE_VARIANT', value, `${nativeVariants.join(', ')} or nothing`)
  return variant
}

function readPinMemoryDisabledBy(env: EnvironmentVariables): string | undefined {
  if (readSwitch(env, 'SPILLWAY_DISABLE_PIN_MEMORY')) return 'SPILLWAY_DISABLE_PIN_MEMORY'
  // Another system's variable, honoured for those who come from there: its values are not ours to refuse.
  const theirs = env.VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY
  return theirs !== undefined && isOn(theirs) ? 'VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY' : undefined
}

function readSwitch(env: EnvironmentVariables, name: string): boolean {
  const value = env[name]
  if (value === undefined || value === '' || value === '0' || value.toLowerCase() === 'false') return false
  if (isOn(value)) return true
  throw invalid(name, value, '1, true, 0, false or nothing')
}

function isOn(value: string): boolean {
  return value === '1' || value.toLowerCase() === 'true'
}

function readAdversarialSeed(env: EnvironmentVariables): number | undefined {
  const value = env.SPILLWAY_ADVERSARIAL_SEED
  if (value === undefined || value === '') return undefined
  const seed = Number(value)
  if (/^\d{1,10}$/.test(value) && seed < 2 ** 32) return seed
  throw invalid('SPILLWAY_ADVERSARIAL_SEED', value, 'a whole number from 0 to 4294967295, or nothing')
}

function readAllocatorConf(env: EnvironmentVariables): AllocatorConf | undefined {
  for (const [variable, value] of [
    ['SPILLWAY_ALLOC_CONF', env.SPILLWAY_ALLOC_CONF],
    ['PYTORCH_ALLOC_CONF', env.PYTORCH_ALLOC_CONF],
    ['PYTORCH_CUDA_ALLOC_CONF', env.PYTORCH_CUDA_ALLOC_CONF],
  ] as const) {
    if (value !== undefined && value.trim() !== '') return Object.freeze({ variable, value })
  }
  return undefined
}

// FORCE_COLOR beats NO_COLOR, and its values mean what they mean to Node.js itself.
function readColor(env: EnvironmentVariables): boolean | undefined {
  const forced = env.FORCE_COLOR
  if (forced !== undefined) return ['', '1', '2', '3', 'true'].includes(forced)
  return env.NO_COLOR !== undefined && env.NO_COLOR !== '' ? false : undefined
}

function invalid(name: string, value: string, allowed: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_INVALID_ENVIRONMENT',
    `the environment variable ${name} is ${JSON.stringify(value.slice(0, 80))}; set it to ${allowed}`,
    { details: { variable: name, value, allowed } },
  )
}
