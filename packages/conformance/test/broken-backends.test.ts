import { type ConfiguredBackend, configure, none } from '@spillway/core'
import { openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { nightly } from '../../../tests/nightly.js'
import { brokenPools } from './backends/broken-pools.js'
import { brokenRings } from './backends/broken-rings.js'
import { plansNothing, repeatsTheFirstRow, withKernels, writesOneRowMore } from './backends/kernels.js'
import { ring } from './backends/ring.js'
import { backendTests, type CollectedTest, failures } from './collect.js'

const testsOf = (backend: ConfiguredBackend): readonly CollectedTest[] =>
  backendTests({ backend, openDevice: (options) => openDevice('host', options) })

/** Runs the test with that in its path, of which there is one; what it says. */
async function failureOf(tests: readonly CollectedTest[], part: string): Promise<string> {
  const named = tests.filter(({ path }) => path.includes(part))
  expect(named.map(({ path }) => path)).toHaveLength(1)
  const failed = await failures(named)
  expect([...failed.keys()], 'the test that should fail').toHaveLength(1)
  return [...failed.values()][0]!.message
}

describe.each(brokenRings)('a placement backend that $mistake', ({ mistake, backend, caughtBy, alone }) => {
  const tests = testsOf(configure(backend))

  test.concurrent.each(caughtBy)('is caught by $test', async ({ test: part, says }) => {
    expect(await failureOf(tests, part)).toMatch(says)
  })

  if (alone === true && (nightly || mistake.startsWith('copies'))) {
    test('and by no other test', async () => {
      const failed = [...(await failures(tests)).keys()]
      expect(failed).toEqual(caughtBy.map(({ test: part }) => expect.stringContaining(part)))
    })
  }
})

describe.each(brokenPools)('a residency backend that $mistake', ({ backend, caughtBy }) => {
  const tests = testsOf(configure(backend))

  test.concurrent.each(caughtBy)('is caught by $test', async ({ test: part, says }) => {
    expect(await failureOf(tests, part)).toMatch(says)
  })
})

test('a backend that copies where it says it gathers is caught, by that test alone', async () => {
  const tests = backendTests({
    backend: configure(ring),
    gathers: true,
    openDevice: (options) => openDevice('host', options),
    rows: [{ check: true }],
  })
  const replacing = tests.filter(({ path }) => path.includes('offloader › async, checked › replaceParameters'))
  const failed = await failures(replacing)
  expect([...failed.keys()]).toEqual([expect.stringContaining('are gathered by the backend’s kernel')])
  expect([...failed.values()][0]!.message).toMatch(/kernels launched to replace the parameters of layers\.0.*got 0/)
})

test.each([
  ['writes a row too many', writesOneRowMore, /kernel linear, linear with .* rows: it wrote byte \d+, behind/],
  ['takes the first row for all', repeatsTheFirstRow, /y\[1, 0\] is .*, exact is .*, allowed is a difference of/],
  ['plans nothing', plansNothing, /supports\.kernels is true, and planKernel is null for every weight: got 0/],
])('a backend whose kernel %s is caught', async (_, plan, says) => {
  const tests = testsOf(configure(withKernels(none, plan)))
  expect(await failureOf(tests, 'kernels › async, checked › a kernel computes what the engine would')).toMatch(says)
})
