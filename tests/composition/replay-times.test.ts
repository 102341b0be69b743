import { openDevice } from '@spillway/device'
import { describe, test } from 'vitest'
import { expectReplaysTimed } from './replay-times.js'

const linkBytesPerSecond = 2e8

describe('times of replayed tokens', () => {
  test.each([
    ['host', {}],
    ['host, checked', { check: true }],
    ['host, checked, adversarial', { check: true, adversarialSeed: 5 }],
  ] as const)('%s', async (_, options) => {
    const device = await openDevice('host', { memoryLimitBytes: 2 ** 26, linkBytesPerSecond, ...options })
    try {
      await expectReplaysTimed(device, linkBytesPerSecond)
    } finally {
      await device.dispose()
    }
  })
})
