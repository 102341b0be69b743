import type { Device } from '@spillway/core'

export type FailurePoint = 'allocation' | 'copy' | 'launch' | 'event' | 'mapping' | 'stream' | 'capture'
export interface InjectedFailure {
  readonly at: FailurePoint | 'any'
  /** 1: the next passing of such a point. */
  readonly number: number
}

/** What the suite asks for when it opens a device; the names are those of `openDevice` of @spillway/device. */
export interface DeviceOptions {
  readonly memoryLimitBytes?: number
  /** Judge the order of streams. */
  readonly check?: boolean
  /** Do the work in the worst order that streams and events allow, drawn from this number. */
  readonly adversarialSeed?: number
  readonly injectFailure?: InjectedFailure
}

/** A device that may also be able to prove things. The host device of @spillway/device is one. */
export interface DeviceUnderTest extends Device {
  readonly checker?: { takeViolations(): readonly { readonly kind: string; readonly message: string }[] } | undefined
  readonly failures?:
    | {
        arm(failure: InjectedFailure): void
        disarm(): void
        readonly fired: boolean
      }
    | undefined
}

/** A new device each time. The suite disposes it. */
export type OpenDevice = (options: DeviceOptions) => Promise<DeviceUnderTest>

/** Which of the host device's proofs a device has. */
export interface DeviceAbilities {
  /** With `check: true` the device has a `checker`. */
  readonly check: boolean
  /** `adversarialSeed` is obeyed. */
  readonly adversarial: boolean
  /** The device has `failures`. */
  readonly failures: boolean
}

/** How a test opens its device. */
export interface Row {
  readonly check?: boolean
  readonly adversarialSeed?: number
}

export function rowName({ check = false, adversarialSeed }: Row): string {
  const order = adversarialSeed === undefined ? 'async' : `adversarial order ${adversarialSeed}`
  return check ? `${order}, checked` : order
}

/** As fast as possible, then with each proof the device has. */
export function defaultRows(can: DeviceAbilities): Row[] {
  const check = can.check ? { check: true } : {}
  return [
    {},
    ...(can.check ? [check] : []),
    ...(can.adversarial ? [1, 2].map((adversarialSeed) => ({ ...check, adversarialSeed })) : []),
  ]
}
