import { SpillwayError } from '@spillway/core'
import { type DeviceAbilities, defaultRows, type OpenDevice, type Row } from './device-under-test.js'
import type { LevelOptions, TestRunner } from './suite.js'

/** What both suites take. */
export interface DeviceTestOptions extends TestRunner, LevelOptions {
  /** Opens a new device, as its options say; each test opens its own and disposes it. */
  readonly openDevice: OpenDevice
  /** Which proofs the device has. Default: all, as the host device does. A test holds the device to it. */
  readonly can?: Partial<DeviceAbilities>
  /**
   * How devices are opened; every test runs once for each row. Default: as fast as possible; checked; checked in two
   * adversarial orders.
   */
  readonly rows?: readonly Row[]
}

export interface DeviceSetup {
  readonly openDevice: OpenDevice
  readonly can: DeviceAbilities
  readonly rows: readonly Row[]
}

/** Throws SPILLWAY_INVALID_ARGUMENT. */
export function readDeviceOptions({ openDevice, can: said = {}, rows }: DeviceTestOptions): DeviceSetup {
  if (typeof openDevice !== 'function') throw invalid('openDevice is a function that opens a device')
  const can: DeviceAbilities = { check: true, adversarial: true, failures: true, ...said }
  for (const [ability, present] of Object.entries(can)) {
    if (!Object.hasOwn(everything, ability) || typeof present !== 'boolean') {
      throw invalid(`can has ${Object.keys(everything).join(', ')}, true or false, not ${ability}: ${String(present)}`)
    }
  }
  const chosen = rows ?? defaultRows(can)
  if (!Array.isArray(chosen) || chosen.length === 0) throw invalid('rows is a list of at least one')
  for (const row of chosen as readonly Row[]) {
    if (row.check === true && !can.check) throw invalid('a row has check: true, and can.check is false')
    if (row.adversarialSeed !== undefined && !can.adversarial) {
      throw invalid('a row has an adversarialSeed, and can.adversarial is false')
    }
  }
  return { openDevice, can, rows: chosen }
}

const everything: DeviceAbilities = { check: true, adversarial: true, failures: true }

function invalid(rule: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `conformance: ${rule}`)
}
