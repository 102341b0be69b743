// The ring under everything at once: random models, groups and slots, and random orders of calls on a device that does
// the work in the worst order events allow and checks every access.
import { expect, it } from 'vitest'
import { rounds } from '../../../tests/nightly.js'
import { randomCase } from './random-model.js'
import { kinds, runCase, type Sums } from './random-run.js'

/** A seed is the program and the device's order. To run one that failed alone: put it here in place of the range. */
const seeds: readonly number[] = Array.from({ length: rounds(400, 5000) }, (_, seed) => seed)

it('reads right bytes and counts right bytes, whatever the order of calls', {
  timeout: rounds(60_000, 1_800_000),
}, async () => {
  const sums = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Sums
  const failed: number[] = []
  let first: unknown
  for (const seed of seeds) {
    try {
      await runCase(randomCase(seed), sums)
    } catch (error) {
      failed.push(seed)
      first ??= error
    }
  }
  const counts = kinds.map((kind) => `${sums[kind]} ${kind}`).join(', ')
  process.stdout.write(`prefetch, random forwards: ${seeds.length} programs, ${failed.length} failed; ${counts}\n`)
  if (failed.length > 0) {
    const message = `seeds ${failed.join(', ')} failed; seed ${failed[0]}: ${String(first)}\n${JSON.stringify(randomCase(failed[0]!))}`
    throw new Error(message, { cause: first })
  }
  // Some seeds alone need not have everything.
  if (seeds.length < 100) return
  for (const kind of kinds) expect(sums[kind], kind).toBeGreaterThan(seeds.length / 20)
})
