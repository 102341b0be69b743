import { type ConfiguredBackend, configure, createAutoBackend, none } from '@spillway/core'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { describe, expect, test } from 'vitest'
import { nightly } from '../../../tests/nightly.js'
import { type DeviceOptions, type Row, testBackend } from '../src/index.js'
import { withKernels } from './backends/kernels.js'
import { pool } from './backends/pool.js'
import { inOrder, ring } from './backends/ring.js'

const correct: readonly ConfiguredBackend[] = [
  configure(none),
  configure(prefetch, { groupSize: 1 }),
  configure(ring),
  configure(inOrder),
  configure(pool),
  configure(withKernels(ring)),
]
const others: readonly ConfiguredBackend[] = [
  configure(prefetch, { groupSize: 3, numInGroup: 2, prefetchStep: 3 }),
  configure(prefetch, { groupSize: 1, prefetchStep: 1 }),
  configure(prefetch, { groupSize: 1, prefetchStep: 8 }),
  configure(ring, { slots: 1 }),
  configure(ring, { slots: 20 }),
  configure(inOrder, { slots: 1 }),
  configure(withKernels(none)),
  configure(createAutoBackend({ loadPrefetch: async () => prefetch, options: prefetch.options })),
]
/** The two of every run, or a hundred more. */
const orders: readonly Row[] = Array.from({ length: 100 }, (_, adversarialSeed) => ({ check: true, adversarialSeed }))

let tests = 0
let struck = 0
const openHost = async (options: DeviceOptions) => {
  const device = await openDevice('host', options)
  const { failures } = device
  const disarm = failures.disarm.bind(failures)
  failures.disarm = () => {
    if (failures.fired) struck++
    disarm()
  }
  return device
}
const counted = (name: string, body: () => Promise<void>): void => {
  tests++
  test(name, body)
}
const backends = nightly ? [...correct, ...others] : correct
for (const backend of backends) {
  const gathers = backend.backend.name === prefetch.name
  testBackend({ describe, test: counted, backend, gathers, openDevice: openHost })
}

if (nightly) {
  describe('in a hundred adversarial orders', () => {
    for (const backend of correct) {
      testBackend({ describe, test: counted, backend, rows: orders, openDevice: openHost })
    }
  })
}

// Each backend has some dozens of places where a failure strikes; a suite that injects none would pass as well.
test('failures were injected', () => {
  const seeds = nightly ? orders.length : 2
  process.stdout.write(
    `conformance: ${tests} tests of ${backends.length} backends, ${seeds} adversarial orders, ${struck} injected failures\n`,
  )
  expect(struck).toBeGreaterThan(30 * backends.length)
})
