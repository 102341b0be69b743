import { type FailurePoint, handleOf, type NativeDevice, openDevice } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { expectCode, expectNothingLeft, KiB, MiB } from '../../packages/device/test/device-rig.js'
import { launchTouch, probe } from '../abi/abi-probe.js'

/** Uses every failure point; afterwards nothing is left, whether it throws or not. */
async function everything(device: NativeDevice): Promise<void> {
  const open: { dispose(): Promise<void> }[] = []
  const keep = <T extends { dispose(): Promise<void> }>(handle: T): T => {
    open.push(handle)
    return handle
  }
  try {
    const [main, side] = [keep(device.createStream()), keep(device.createStream())]
    const event = keep(device.createEvent())
    const host = keep(await device.allocateHost(KiB, { storage: 'mapped' }))
    const target = keep(device.allocate(KiB, { tag: 'slot' }))
    const timestamp = probe.createTimestamp(handleOf(device))
    main.copy(target, host)
    probe.recordTimestamp(timestamp, handleOf(main))
    main.fill(target, 3)
    main.record(event)
    side.wait(event)
    launchTouch(side, {
      touch: [
        { buffer: target, mode: 'read' },
        { buffer: host, mode: 'write' },
      ],
    })
    side.record(event)
    main.wait(event)
    main.beginCapture()
    main.record(event)
    side.wait(event)
    side.fill(target, 4)
    probe.recordTimestamp(timestamp, handleOf(side))
    side.record(event)
    main.wait(event)
    const graph = keep(main.endCapture())
    main.launch(graph)
    const { granularityBytes } = device.virtualMemory
    const range = keep(device.virtualMemory.reserve(2 * granularityBytes))
    const memory = keep(device.virtualMemory.createPhysical(granularityBytes, 'pool'))
    range.map(granularityBytes, memory)
    const part = keep(range.buffer(granularityBytes, 64))
    main.fill(part, 1)
    await main.synchronize()
    range.unmap(granularityBytes, granularityBytes)
    await side.synchronize()
  } finally {
    probe.dropTimestamps()
    for (const handle of open.reverse()) await handle.dispose()
  }
}

/** How often `everything` passes each point. */
const passes: Readonly<Record<FailurePoint, number>> = {
  allocation: 3,
  copy: 4,
  launch: 2,
  event: 12,
  mapping: 5,
  stream: 4,
  capture: 2,
  pinning: 1,
}
const points = Object.keys(passes) as FailurePoint[]
const rows: readonly [string, { check?: boolean; adversarialSeed?: number }][] = [
  ['async', { check: false }],
  ['checked', { check: true }],
  ['adversarial and checked', { check: true, adversarialSeed: 4 }],
]

describe.each(rows)('%s', (_, options) => {
  const open = () => openDevice('host', { threads: 2, memoryLimitBytes: MiB, ...options })

  test('the points are counted, whether or not one is armed', async () => {
    const device = await open()
    await everything(device)
    expect(device.failures.passed()).toEqual(passes)
    expect(device.failures.fired).toBe(false)
    await device.dispose()
  })

  test.each(points)('every %s fails once, with a code, leaves nothing, and the next call works', async (at) => {
    for (let number = 1; number <= passes[at]; number++) {
      const device = await openDevice('host', { ...options, memoryLimitBytes: MiB, injectFailure: { at, number } })
      const code = at === 'allocation' || at === 'pinning' ? 'SPILLWAY_OUT_OF_MEMORY' : 'SPILLWAY_SYSTEM'
      const error = await expectCode(code, () => everything(device))
      expect(error.message).toContain('injectFailure')
      expect(device.failures.fired).toBe(true)
      await settled(device)
      await everything(device)
      await settled(device)
      // Cut off in the middle, a program may well have left a fork unjoined, but no work unordered.
      for (const { kind } of device.checker?.takeViolations() ?? []) expect(kind).toBe('early-free')
      await device.dispose()
    }
  })

  test('any: the k-th of all of them', async () => {
    const all = Object.values(passes).reduce((sum, count) => sum + count)
    const device = await open()
    for (let number = 1; number <= all; number++) {
      // With nothing cached every round takes the same steps.
      device.releaseCachedMemory()
      device.failures.arm({ at: 'any', number })
      await expectCode('SPILLWAY_', () => everything(device).catch((error) => Promise.reject(withoutEnd(error))))
      await settled(device)
    }
    device.releaseCachedMemory()
    device.failures.arm({ at: 'any', number: all + 1 })
    await everything(device)
    expect(device.failures.fired).toBe(false)
    device.failures.disarm()
    await everything(device)
    device.checker?.takeViolations()
    await device.dispose()
  })
})

/** An error whose code is cut to what all share. */
function withoutEnd(error: unknown): unknown {
  const { name, code, message } = error as { name: string; code: string; message: string }
  return { name, code: code.slice(0, 'SPILLWAY_'.length), message }
}

/** Work that was enqueued before the failure may still hold its buffers. */
async function settled(device: NativeDevice): Promise<void> {
  for (let turn = 0; turn < 500 && Object.values(device.counters().liveHandles).some((count) => count > 0); turn++) {
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  expectNothingLeft(device)
}

test.each([
  [{ at: 'nowhere', number: 1 }],
  [{ at: 'copy', number: 0 }],
  [{ at: 'copy', number: 1.5 }],
  [{ at: 'copy', number: Number.NaN }],
  [{ at: 'copy' }],
  [{}],
  [null],
  ['copy'],
])('%j is no failure to inject', async (failure) => {
  const device = await openDevice('host', { memoryLimitBytes: MiB })
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.failures.arm(failure as never))
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('host', { injectFailure: failure as never }))
  await device.dispose()
})

test.each([-1, 0.5, 2 ** 32, Number.NaN, '7', {}])('%s is no seed', async (seed) => {
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('host', { adversarialSeed: seed as never }))
})
