import { type OrderViolation, openDevice } from '@spillway/device'
import { afterAll, describe, expect, test } from 'vitest'
import { expectNothingLeft, MiB } from '../../packages/device/test/device-rig.js'
import { declarationBugs } from './declaration-bugs.js'
import { orderBugs } from './order-bugs.js'
import type { PlantedBug } from './planted-bug.js'

const plantedBugs = [...orderBugs, ...declarationBugs]
const programs = /(order|declaration)-bugs\.ts|abi-probe\.ts/

const counts = { planted: 0, found: 0, mended: 0, accused: 0 }

/** What the checker says of a program, on a device that does its work so. */
async function violationsOf(bug: PlantedBug, mended: boolean, adversarialSeed?: number): Promise<OrderViolation[]> {
  const device = await openDevice('host', {
    threads: 2,
    memoryLimitBytes: 64 * MiB,
    check: true,
    ...(adversarialSeed === undefined ? {} : { adversarialSeed }),
  })
  try {
    await bug.program(device, mended)
    expectNothingLeft(device)
    return [...device.checker!.takeViolations()]
  } finally {
    await device.dispose()
  }
}

// A device of the two kinds finds the same: order is judged when work is enqueued.
describe.each([
  ['work is done as soon as it can be', undefined],
  ['work is put off, and done in the worst order', 11],
])('%s', (_, seed) => {
  test.each(plantedBugs)('$name: found', async (bug) => {
    counts.planted++
    const violations = await violationsOf(bug, false, seed)
    expect([...new Set(violations.map(({ kind }) => kind))]).toEqual(bug.kinds)
    const messages = violations.map(({ message }) => message).join('\n')
    for (const name of bug.names) expect(messages).toContain(name)
    for (const { later, earlier } of violations) {
      expect(later.site).toMatch(programs)
      if (earlier !== undefined) expect(earlier.site).toMatch(programs)
    }
    counts.found++
  })

  test.each(plantedBugs)('$name: mended, nothing is said', async (bug) => {
    counts.mended++
    const violations = await violationsOf(bug, true, seed)
    counts.accused += violations.length
    expect(violations.map(({ message }) => message)).toEqual([])
  })
})

afterAll(() => {
  const { planted, found, mended, accused } = counts
  process.stdout.write(`planted bugs: ${found} of ${planted} found; mended programs: ${accused} of ${mended} accused\n`)
})
