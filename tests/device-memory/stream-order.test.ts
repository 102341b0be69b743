import { openDevice } from '@spillway/device'
import { expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { runRandomAllocations } from './stream-order.js'

// A violation that the checker finds makes the device's dispose() reject.
test.each([
  ['threads', {}],
  ['checked', { check: true }],
  ['adversarial', { adversarialSeed: 1 }],
  ['adversarial, checked', { adversarialSeed: 2, check: true }],
])('memory is nobody else’s before its work is done, whatever the streams: %s', async (_, mode) => {
  let turnover = 0
  for (let seed = 1; seed <= rounds(15, 300); seed++) {
    const adversary = 'adversarialSeed' in mode ? { adversarialSeed: seed } : {}
    const result = await runRandomAllocations(
      (more) => openDevice('host', { ...mode, ...adversary, ...more }),
      seed,
      150,
    )
    expect(result.wrong, `seed ${seed}`).toEqual([])
    turnover += result.turnover
  }
  expect(turnover / rounds(15, 300)).toBeGreaterThan(1.5)
})

test('work on another stream than the one it was allocated for must wait for that point', async () => {
  const device = await openDevice('host', { check: true })
  const [first, second] = [device.createStream(), device.createStream()]
  const old = device.allocate(4096, { tag: 'old', stream: first })
  first.fill(old, 1)
  await old.dispose()
  const buffer = device.allocate(4096, { tag: 'new', stream: first })
  second.fill(buffer, 2)
  await Promise.all([first.synchronize(), second.synchronize()])
  const [violation, ...more] = device.checker!.takeViolations()
  expect(more).toEqual([])
  expect(violation).toMatchObject({
    kind: 'write-after-write',
    earlier: { what: 'allocation' },
    later: { what: 'fill' },
  })
  await Promise.all([buffer, first, second].map((one) => one.dispose()))
  await device.dispose()
})

test('any step that fails leaves all memory to be given back', async () => {
  for (const at of ['allocation', 'mapping', 'any'] as const) {
    let number = 1
    for (; ; number++) {
      const device = await openDevice('host', { memoryLimitBytes: 64 * 2 ** 20 })
      const stream = device.createStream()
      device.failures.arm({ at, number })
      const buffers = []
      try {
        for (const [bytes, expandableSegments] of [
          [1000, false],
          [3_000_000, false],
          [2000, true],
          [3_000_000, true],
          [9_000_000, true],
        ] as const) {
          buffers.push(device.allocate(bytes, { tag: 'x', stream, allocatorSettings: { expandableSegments } }))
        }
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_/) })
      }
      const { fired } = device.failures
      device.failures.disarm()
      await Promise.all(buffers.map((buffer) => buffer.dispose()))
      device.releaseCachedMemory()
      expect(device.budget).toMatchObject({ usedBytes: 0, cachedBytes: 0 })
      expect(device.memoryStats().reservedBytes).toBe(0)
      // It goes on.
      const again = device.allocate(1000, { tag: 'x' })
      await Promise.all([again.dispose(), stream.dispose()])
      await device.dispose()
      if (!fired) break
    }
    expect(number, at).toBeGreaterThan(3)
  }
})
