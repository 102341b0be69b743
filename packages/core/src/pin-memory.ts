import { formatBytes } from './bytes.js'
import type { DeviceCapabilities } from './device.js'
import type { Environment } from './environment.js'
import { SpillwayError } from './errors.js'
import { printable } from './printable.js'

/** Whether host memory is pinned (page-locked), and the sentence that says why. */
export interface PinDecision {
  readonly pin: boolean
  readonly reason: string
}

/** The decision of one offloader, and whether it could be kept. */
export class Pinning {
  /** As decided at first: what backends are told. */
  readonly decision: PinDecision
  readonly #mayFallBack: boolean
  #current: PinDecision

  /** mayFallBack: nobody demanded pinned memory, neither the user nor a backend. */
  constructor(decision: PinDecision, mayFallBack: boolean) {
    this.decision = Object.freeze(decision)
    this.#current = this.decision
    this.#mayFallBack = mayFallBack
  }

  /** As it is: not pinned as soon as some host memory is not. */
  get current(): PinDecision {
    return this.#current
  }

  get mayFallBack(): boolean {
    return this.#mayFallBack && this.decision.pin
  }

  /** `bytes` could not be pinned, for `reason`. From now on nothing is. */
  fallBack(bytes: number, reason: string): void {
    if (!this.#current.pin) return
    this.#current = Object.freeze({
      pin: false,
      reason: `${formatBytes(bytes)} could not be pinned, and are pageable, as is what came after: ${reason}`,
    })
  }
}

export type PinSetting = 'auto' | 'on' | 'off'

/** What the user said. */
export interface PinPolicy {
  readonly setting: PinSetting
  /** Name of the environment variable that switches pinning off; undefined when none does. */
  readonly disabledBy: string | undefined
}

export type PinCapabilities = Pick<
  DeviceCapabilities,
  'pinnedMemory' | 'unifiedMemory' | 'wsl' | 'confidentialComputing'
>

/** `setting` is `--pin-memory`, or what a library user passes to `createOffloader`. */
export function pinPolicy(setting: PinSetting, environment: Pick<Environment, 'pinMemoryDisabledBy'>): PinPolicy {
  if (setting !== 'auto' && setting !== 'on' && setting !== 'off') {
    throw new SpillwayError('SPILLWAY_INVALID_OPTION', `pin memory is auto, on or off, not ${printable(setting)}`, {
      details: { option: 'pin', value: setting },
    })
  }
  return { setting, disabledBy: environment.pinMemoryDisabledBy }
}

/**
 * The only copy of the rule; pure. Decided once per offloader and carried by `ctx.host`. A setting made for this run
 * beats a variable, which beats what is guessed from the machine.
 * Throws SPILLWAY_PIN_UNSUPPORTED when pinning was demanded of a device that cannot pin.
 */
export function shouldPinMemory(capabilities: PinCapabilities, policy: PinPolicy): PinDecision {
  if (!capabilities.pinnedMemory) {
    if (policy.setting === 'on') {
      throw new SpillwayError(
        'SPILLWAY_PIN_UNSUPPORTED',
        'pinned memory was asked for, but this device cannot pin host memory; use --pin-memory auto or off',
      )
    }
    return { pin: false, reason: 'this device cannot pin host memory' }
  }
  if (policy.setting === 'on') return { pin: true, reason: 'pinning was set to on' }
  if (policy.setting === 'off') return { pin: false, reason: 'pinning was set to off' }
  if (policy.disabledBy !== undefined) return { pin: false, reason: `${policy.disabledBy} is set` }
  if (capabilities.wsl) {
    return {
      pin: false,
      reason: 'Windows Subsystem for Linux pins little memory or none; --pin-memory on overrides this',
    }
  }
  if (capabilities.confidentialComputing) {
    return { pin: false, reason: 'under confidential computing the device reads host memory through bounce buffers' }
  }
  if (capabilities.unifiedMemory) {
    return { pin: false, reason: 'host and device share their memory: pinned pages would only take it from the device' }
  }
  return { pin: true, reason: 'the device can pin host memory' }
}
