import { configure } from '@spillway/core'
import { openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { type DeviceUnderTest, type OpenDevice, testBackend, testDevice } from '../src/index.js'
import { brokenRings } from './backends/broken-rings.js'
import { ring } from './backends/ring.js'
import { backendTests, failures } from './collect.js'

const can = { check: false, adversarial: false, failures: false }

/** A device that can do its work and prove nothing, as a GPU. */
const openPlain: OpenDevice = async (options) => {
  expect(options).not.toHaveProperty('adversarialSeed')
  const device: DeviceUnderTest = await openDevice('host', { ...options, check: false })
  return Object.assign(device, { type: 'cuda', checker: undefined, failures: undefined })
}

testDevice({ describe, test, openDevice: openPlain, can })
testBackend({ describe, test, backend: configure(ring), openDevice: openPlain, can })

test('what a device without proofs cannot find is not registered; the rest says how it looks', () => {
  const paths = backendTests({ backend: configure(ring), openDevice: openPlain, can }).map(({ path }) => path)
  expect(paths.filter((path) => /checked|adversarial|overlap/.test(path))).toEqual([])
  expect(paths).toContain('ring {"slots":2} › fault: every allocation through its context › wrapModules')
})

test.each([
  ['keeps the memory of a wrapModules that failed', 'fault: every allocation through its context › wrapModules'],
  ['breaks after a throw', 'lifecycle › async › a forward that throws anywhere'],
])('a backend that %s is found without proofs too', async (mistake, part) => {
  const { backend } = brokenRings.find((one) => one.mistake === mistake)!
  const tests = backendTests({ backend: configure(backend), openDevice: openPlain, can })
  const named = tests.filter(({ path }) => path.includes(part))
  expect(named).toHaveLength(1)
  expect(await failures(named)).toHaveProperty('size', 1)
})
