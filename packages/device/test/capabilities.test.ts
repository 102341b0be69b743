// Machines that the host device can pass for.
import { openDevice } from '@spillway/device'
import { expect, test } from 'vitest'
import { expectCode, onDevice } from './device-rig.js'

test('the host device pins and is none of the others, unless told otherwise', async () => {
  await onDevice({}, async ({ capabilities }) => {
    expect(capabilities).toMatchObject({
      pinnedMemory: true,
      mappedMemory: true,
      unifiedMemory: false,
      confidentialComputing: false,
      wsl: false,
    })
  })
  for (const name of ['unifiedMemory', 'confidentialComputing', 'wsl'] as const) {
    await onDevice({ capabilities: { [name]: true } }, async ({ capabilities }) => {
      expect(capabilities).toMatchObject({ pinnedMemory: true, [name]: true })
      expect(Object.values(capabilities).filter((can) => !can)).toHaveLength(2)
    })
  }
})

test('one that cannot pin refuses pinned and mapped memory, and has pageable', () =>
  onDevice({ capabilities: { pinnedMemory: false } }, async (device) => {
    expect(device.capabilities).toMatchObject({ pinnedMemory: false, mappedMemory: false })
    for (const storage of ['pinned', 'mapped'] as const) {
      const error = await expectCode('SPILLWAY_NOT_SUPPORTED', () => device.allocateHost(64, { storage }))
      expect(error.message).toContain('pageable')
    }
    const buffer = await device.allocateHost(64, { storage: 'pageable' })
    expect(buffer.storage).toBe('pageable')
    await buffer.dispose()
  }))

test.each([
  { capabilities: { unifiedMemory: 'yes' } },
  { capabilities: { pinnedMemory: 0 } },
  { capabilities: 'unified' },
  { capabilities: null },
])('openDevice refuses %o', async (options) => {
  await expectCode('SPILLWAY_INVALID_ARGUMENT', () => openDevice('host', options as object))
})

test('a GPU is what it is', async () => {
  const error = await openDevice('cuda', { capabilities: { unifiedMemory: true } }).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_(NOT_SUPPORTED|DEVICE_UNAVAILABLE)$/) })
})
