import { deviceGraphTests } from './device/graph-tests.js'
import { deviceMemoryTests } from './device/memory-tests.js'
import { proofTests } from './device/proof-tests.js'
import { streamTests } from './device/stream-tests.js'
import { registerRows } from './rows.js'
import { Suite } from './suite.js'
import { type DeviceTestOptions, readDeviceOptions } from './test-options.js'

/**
 * Registers the tests that every device must pass: synchronously, with nothing opened before the tests run. Throws
 * SPILLWAY_INVALID_ARGUMENT.
 */
export function testDevice(options: DeviceTestOptions): void {
  const { openDevice, can, rows } = readDeviceOptions(options)
  const suite = new Suite(options)
  suite.group('device', () => {
    registerRows(suite, 'streams', openDevice, streamTests, rows, undefined)
    registerRows(suite, 'memory', openDevice, deviceMemoryTests, rows, undefined)
    registerRows(suite, 'graphs', openDevice, deviceGraphTests, rows, undefined)
    suite.group('proofs', () => {
      for (const { name, level, run } of proofTests(can)) suite.test(name, level, () => run(openDevice))
    })
  })
}
