// What decides whether slabs are pinned, every row of it, on every machine that the host device can pass for.
import type { OpenDeviceOptions } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import { onDevice } from './device-rig.js'
import { type PinningCase, pinningAnswer, pinningCases, runPinningCase } from './pinning-run.js'

const few = pinningCases.filter(({ ours, theirs }) => theirs === undefined && [undefined, '1', 'yes'].includes(ours))

type Machine = readonly [string, NonNullable<OpenDeviceOptions['capabilities']>, readonly PinningCase[]]
const machines: readonly Machine[] = [
  ['a plain machine', {}, pinningCases],
  ['unified memory', { unifiedMemory: true }, pinningCases],
  ['Windows Subsystem for Linux', { wsl: true }, few],
  ['confidential computing', { confidentialComputing: true }, few],
  ['all three', { unifiedMemory: true, wsl: true, confidentialComputing: true }, few],
  ['a device that cannot pin', { pinnedMemory: false }, few],
  ['unified memory that cannot be pinned', { pinnedMemory: false, unifiedMemory: true }, few],
]

describe.each(machines)('%s', (_, capabilities, cases) => {
  const { pinnedMemory: pins = true, ...reasons } = capabilities
  const machine = { pins, against: Object.keys(reasons).length > 0 }

  it('has every slab of the kind that was decided, after each step that allocates', async () => {
    const answers = new Set<string>()
    for (const [i, given] of cases.entries()) {
      const answer = pinningAnswer(given, machine)
      answers.add(answer)
      const order = i % 2 === 0 ? {} : { adversarialSeed: i }
      await onDevice({ capabilities, ...order }, async (device) => {
        try {
          await runPinningCase(device, given, answer)
        } catch (error) {
          throw new Error(`${JSON.stringify({ ...given, ...order })}, expected ${answer}: ${String(error)}`, {
            cause: error,
          })
        }
      })
    }
    const expected = ['SPILLWAY_INVALID_ENVIRONMENT', pins ? 'pinned' : 'SPILLWAY_PIN_UNSUPPORTED', 'pageable']
    expect(answers).toEqual(new Set(expected))
  })
})
