import { type ConfiguredBackend, checkBackend, SpillwayError } from '@spillway/core'
import { abilityTest } from './device/proof-tests.js'
import type { Row } from './device-under-test.js'
import { failureSource } from './failures.js'
import { kernelTests } from './kernels/kernel-tests.js'
import { type FaultTest, faultTests } from './offloader/fault-tests.js'
import { forwardTests } from './offloader/forward-tests.js'
import { graphTests } from './offloader/graph-tests.js'
import { lifecycleTests } from './offloader/lifecycle-tests.js'
import { memoryTests } from './offloader/memory-tests.js'
import { checkOverlap } from './offloader/overlap-test.js'
import { replacementTests } from './offloader/replacement-tests.js'
import { sleepingTests } from './offloader/sleep-tests.js'
import { residencyFaultTests, residencyLifecycleTests } from './residency/lifecycle-tests.js'
import { recoveryTests } from './residency/recovery-tests.js'
import { sleepTests } from './residency/sleep-tests.js'
import { registerRows } from './rows.js'
import type { RigTest, Subject } from './subject.js'
import { Suite } from './suite.js'
import { type DeviceTestOptions, readDeviceOptions } from './test-options.js'

export interface BackendTestOptions extends DeviceTestOptions {
  /** From `configure`. Test several configurations by several calls. */
  readonly backend: ConfiguredBackend
  /** How many layers the models have. More, when the configuration selects nothing in 8. */
  readonly layers?: number
  /**
   * Whether replaceParameters() moves tensors that lie on the device by a kernel of the backend: then its launches are
   * counted. Default false: how they move is the backend's business.
   */
  readonly gathers?: boolean
}

/**
 * Registers the tests that every backend must pass: synchronously, with nothing opened before the tests run. Throws
 * SPILLWAY_INVALID_ARGUMENT, and what core's check of a backend throws.
 */
export function testBackend(options: BackendTestOptions): void {
  const { openDevice, can, rows } = readDeviceOptions(options)
  const suite = new Suite(options)
  const { name, role, supports } = checkBackend(options.backend?.backend, 'the backend to test')
  const { layers = 8, gathers = false } = options
  if (!Number.isSafeInteger(layers) || layers < 3 || layers > 100) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `layers is a whole number from 3 to 100, not ${String(layers)}`,
    )
  }
  if (typeof gathers !== 'boolean') {
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `gathers is true or false, not ${String(gathers)}`)
  }
  const subject: Subject = { configured: options.backend, name, supports, openDevice, can, layers }
  const config = JSON.stringify(options.backend.config)
  suite.group(`${name} ${config}`, () => {
    const { name: test, level, run } = abilityTest(can)
    suite.test(test, level, () => run(openDevice))
    if (role === 'placement') registerPlacement(suite, subject, rows, gathers)
    else registerResidency(suite, subject, rows)
  })
}

function registerPlacement(suite: Suite, subject: Subject, rows: readonly Row[], gathers: boolean): void {
  const { supports, can } = subject
  const groups: Readonly<Record<string, readonly RigTest[]>> = {
    offloader: [
      ...forwardTests,
      ...memoryTests,
      ...replacementTests(gathers),
      ...graphTests(supports.graphs),
      ...sleepingTests,
    ],
    lifecycle: lifecycleTests,
    kernels: kernelTests(supports.kernels),
  }
  for (const [group, tests] of Object.entries(groups))
    registerRows(suite, group, subject.openDevice, tests, rows, subject)
  if (can.adversarial) {
    suite.group('overlap', () => {
      suite.test(
        'copies on a stream of its own run beside the compute stream’s work in some adversarial order',
        1,
        () => checkOverlap(subject),
      )
    })
  }
  registerFaults(suite, subject, faultTests)
}

function registerResidency(suite: Suite, subject: Subject, rows: readonly Row[]): void {
  registerRows(suite, 'residency', subject.openDevice, [...sleepTests, ...recoveryTests], rows, subject)
  registerRows(suite, 'lifecycle', subject.openDevice, residencyLifecycleTests, rows, subject)
  registerFaults(suite, subject, residencyFaultTests)
}

function registerFaults(suite: Suite, subject: Subject, tests: readonly FaultTest[]): void {
  const source = failureSource(subject)
  if (tests.every(({ everywhere }) => everywhere) && !source.everywhere) return
  suite.group(`fault: ${source.name}`, () => {
    for (const { name, level, needs, everywhere, run } of tests) {
      if (needs !== undefined && !subject.supports[needs]) continue
      if (everywhere && !source.everywhere) continue
      suite.test(name, level, () => run(subject, source))
    }
  })
}
