import { isSpillwayError } from '@spillway/core'
import { expect, test } from 'vitest'
import type { NativeSettings } from './allocator-probe.js'
import { AllocatorRig, type Block, MiB } from './allocator-rig.js'

type Program = (rig: AllocatorRig, settings: NativeSettings) => void

/** The message of what running out of memory threw; undefined when it fitted. */
function run(program: Program, limitBytes: number, settings: NativeSettings): string | undefined {
  const rig = new AllocatorRig({ limitBytes })
  try {
    program(rig, settings)
    return undefined
  } catch (error) {
    if (!isSpillwayError(error, 'SPILLWAY_OUT_OF_MEMORY')) throw error
    expect(rig.statistics().outOfMemory).toBe(1)
    return error.message
  }
}

const repack: Program = (rig, settings) => {
  for (let layer = 0; layer < 10; layer++) {
    const stored = rig.allocate(530 * MiB, { settings })
    rig.free(stored, [])
    rig.allocate(270 * MiB, { settings })
  }
}

/** Ten segments with a free end each, too small for what comes then. */
const freeEnds: Program = (rig, settings) => {
  const freed: Block[] = []
  for (let i = 0; i < 10; i++) {
    freed.push(rig.allocate(6 * MiB, { settings }))
    rig.allocate(9 * MiB, { settings })
  }
  for (const block of freed) rig.free(block, [])
  rig.allocate(100 * MiB, { settings })
}

const unevenSizes: Program = (rig, settings) => {
  for (let i = 0; i < 8; i++) rig.allocate(33 * MiB, { settings })
}

test.each<[string, Program, number, NativeSettings, RegExp, NativeSettings]>([
  ['large blocks cut up', repack, (530 + 2700) * MiB, {}, /maxSplitSizeMb: 20/, { maxSplitBytes: 20 * MiB }],
  ['free ends', freeEnds, 260 * MiB, {}, /expandableSegments: true/, { expandableSegments: true }],
  ['rounding', unevenSizes, 300 * MiB, { roundupPower2Divisions: 2 }, /Without roundupPower2Divisions/, {}],
])(
  'out of memory names the setting that helps, and it does: %s',
  (_, program, limitBytes, settings, advice, better) => {
    const message = run(program, limitBytes, settings)
    expect(message).toMatch(advice)
    expect(message).toMatch(/resident/)
    expect(run(program, limitBytes, better)).toBeUndefined()
  },
)

test('a real shortage names no setting', () => {
  const program: Program = (rig, settings) => {
    for (let i = 0; i < 5; i++) rig.allocate(100 * MiB, { settings })
  }
  const message = run(program, 450 * MiB, {})
  expect(message).toMatch(/100\.00 MiB requested, 50\.00 MiB free of 450\.00 MiB; 400\.00 MiB resident\. Offload/)
})

test('more than there can ever be is refused at once, and what is cached stays', () => {
  const rig = new AllocatorRig({ limitBytes: 450 * MiB })
  rig.free(rig.allocate(100 * MiB))
  expect(() => rig.allocate(451 * MiB)).toThrow(/451\.00 MiB requested, 450\.00 MiB free of 450\.00 MiB; 0 B resident/)
  expect(rig.statistics().reservedBytes).toBe(100 * MiB)
  expect(rig.completed(1)).toBe(0)
})

test('what is cached and fragmented is said, and no setting that would not have helped', () => {
  // The holes between blocks are too much for growing segments too: 150 MiB and 100 more.
  const message = run(freeEnds, 249 * MiB, {})
  expect(message).toMatch(
    /159\.00 MiB free of 249\.00 MiB; 90\.00 MiB resident, 110\.00 MiB cached in pieces of at most 6/,
  )
  expect(message).not.toMatch(/expandableSegments|maxSplitSizeMb/)
  expect(run(freeEnds, 249 * MiB, { expandableSegments: true })).toBeDefined()
})
