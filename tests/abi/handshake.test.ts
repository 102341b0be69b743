import { readFileSync } from 'node:fs'
import { attach, handleOf } from '@spillway/device'
import { expect, test } from 'vitest'
import { expectCode, onDevice } from '../../packages/device/test/device-rig.js'
import { probe } from './abi-probe.js'

const header = readFileSync(new URL('../../native/include/spillway/abi.h', import.meta.url), 'utf8')
const number = (pattern: RegExp) => Number(pattern.exec(header)![1])
const major = number(/#define SPILLWAY_ABI_MAJOR (\d+)u/)
const minor = number(/#define SPILLWAY_ABI_MINOR (\d+)u/)
const tableBytes = number(/SPILLWAY_ASSERT_SIZE\(spillway_api, (\d+)\)/)

test('the device’s table is taken, by a consumer that needs all of it or less', () => {
  probe.attach(attach())
  probe.attach(attach(), 64)
  probe.attach(probe.makeTable(major, minor, tableBytes, true))
  probe.attach(probe.makeTable(major, minor, tableBytes + 8, true))
  probe.attach(attach())
})

test.each([
  ['another major', major + 1, minor, tableBytes],
  ['a later minor', major, minor + 1, tableBytes],
  ['a shorter table', major, minor, tableBytes - 8],
  ['an empty table', major, minor, 0],
  ['nothing but its numbers', 65_535, 65_535, 8],
])('%s is SPILLWAY_ABI_MISMATCH, with both versions and sizes', async (_what, theirMajor, theirMinor, bytes) => {
  const error = await expectCode('SPILLWAY_ABI_MISMATCH', () =>
    probe.attach(probe.makeTable(theirMajor, theirMinor, bytes, true)),
  )
  expect(error.message).toContain(`built for ABI ${major}.${minor} (${tableBytes} bytes)`)
  expect(error.message).toContain(`provides ${theirMajor}.${theirMinor} (${bytes} bytes)`)
  expect(error.message).toMatch(/^the test addon .* install versions of both that belong together$/)
})

test('a device older than its consumer is SPILLWAY_ABI_MISMATCH', async () => {
  const error = await expectCode('SPILLWAY_ABI_MISMATCH', () => probe.attach(attach(), tableBytes + 8))
  expect(error.message).toContain(`(${tableBytes + 8} bytes)`)
})

test('what is no table of the device is SPILLWAY_ABI_FOREIGN', () =>
  onDevice({}, async (device) => {
    const event = device.createEvent()
    const untagged = probe.makeTable(major, minor, tableBytes, false)
    for (const value of [untagged, probe.makeBox(), handleOf(event), {}, { abi: 0 }, null, undefined, 7, 'table']) {
      const error = await expectCode('SPILLWAY_ABI_FOREIGN', () => probe.attach(value))
      expect(error.message).toMatch(/the test addon was given something/)
    }
    await event.dispose()
  }))

test('what is no handle of the device is refused before it is read', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    for (const value of [attach(), probe.makeBox(), {}, null, undefined, 7]) {
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => probe.noTwin(value as never))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => probe.fill(handleOf(stream), value as never, 1))
    }
    const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => probe.noTwin(handleOf(device)))
    expect(error.message).toMatch(/expected a stream, got a device/)
    await stream.dispose()
    await expectCode('SPILLWAY_DISPOSED', () => probe.noTwin(handleOf(stream)))
  }))

test('after a refused handshake the addon still works with the table it had', () =>
  onDevice({}, async (device) => {
    await expectCode('SPILLWAY_ABI_FOREIGN', () => probe.attach({}))
    expect(probe.extension(handleOf(device), 'graph', 8)).toBe(true)
  }))
