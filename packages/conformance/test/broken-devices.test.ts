import { openDevice } from '@spillway/device'
import { expect, test } from 'vitest'
import type { DeviceUnderTest, OpenDevice } from '../src/index.js'
import { type CollectedTest, deviceTests, failures } from './collect.js'

type Stream = ReturnType<DeviceUnderTest['createStream']>
type Change = (device: DeviceUnderTest) => void

/** The host device with one thing about it changed. */
function broken(change: Change): OpenDevice {
  return async (options) => {
    const device: DeviceUnderTest = await openDevice('host', options)
    change(device)
    return device
  }
}

const withStreams =
  (change: (stream: Stream) => void): Change =>
  (device) => {
    const create = device.createStream.bind(device)
    device.createStream = (options) => {
      const stream = create(options)
      change(stream)
      return stream
    }
  }

const mistakes: readonly [string, Change, string, RegExp][] = [
  [
    'whose waits do nothing',
    withStreams((stream) => {
      stream.wait = () => {}
    }),
    'streams › async, checked › a wait orders a stream',
    /write-after-read|read-after-write|write-after-write/,
  ],
  [
    'whose copies lose their last byte',
    withStreams((stream) => {
      const copy = stream.copy.bind(stream)
      stream.copy = (to, from, range = {}) => {
        const bytes = range.bytes ?? Math.min(to.bytes - (range.toOffset ?? 0), from.bytes - (range.fromOffset ?? 0))
        copy(to, from, bytes > 100 ? { ...range, bytes: bytes - 1 } : range)
      }
    }),
    'streams › async › copies between all kinds of storage',
    /a copy from device to device memory: \d+ of 5000 bytes are wrong/,
  ],
  [
    'that does not count what is pinned',
    (device) => {
      const counters = device.counters.bind(device)
      device.counters = () => ({ ...counters(), pinnedBytes: 0 })
    },
    'memory › async › host memory has exactly the size asked for',
    /live host bytes with 12345 of pinned: got \{"mapped":0,"pinned":0,"pageable":0\}/,
  ],
  [
    'that hands out more than it was allowed',
    (device) => {
      const allocate = device.allocate.bind(device)
      device.allocate = (bytes, options) => allocate(Math.min(bytes, 2 ** 20), options)
    },
    'memory › async › out of memory says what was asked',
    /more than is free: expected SPILLWAY_OUT_OF_MEMORY, and nothing was thrown/,
  ],
  [
    'whose errors have no codes',
    (device) => {
      const allocate = device.allocate.bind(device)
      device.allocate = (bytes, options) => {
        if (!(bytes > 0)) throw new RangeError('no such size')
        return allocate(bytes, options)
      }
    },
    'memory › async › sizes, tags and storages that are none are refused',
    /0 device bytes: expected SPILLWAY_INVALID_ARGUMENT, got no such size/,
  ],
  [
    'whose graphs keep reading what they read at first',
    withStreams((stream) => {
      const launch = stream.launch.bind(stream)
      let launched = 0
      stream.launch = (graph) => {
        if (launched++ === 0) launch(graph)
      }
    }),
    'graphs › async › a capture records and does nothing',
    /what replay 2 read: \d+ of \d+ bytes are wrong/,
  ],
  [
    'whose graphs make no records for others',
    (device) => {
      const made = new Set<unknown>()
      withStreams((stream) => {
        const [record, wait] = [stream.record.bind(stream), stream.wait.bind(stream)]
        stream.record = (event, options) => {
          if (options?.external) made.add(event)
          record(event, options)
        }
        stream.wait = (event, options) => {
          if (stream.capturing || !made.has(event)) wait(event, options)
        }
      })(device)
    },
    'graphs › async, checked › an external record is made at every replay',
    /read-after-write/,
  ],
  [
    'whose checker finds nothing',
    (device) => {
      Object.assign(device.checker ?? {}, { takeViolations: () => [] })
    },
    'proofs › the checker finds a missing wait',
    /violations of a program that does not wait are /,
  ],
  [
    'that has no checker and does not say so',
    (device) => {
      Object.assign(device, { checker: undefined })
    },
    'proofs › the device can what can says',
    /can\.check is true, and the device has no checker/,
  ],
  [
    'whose failures cannot be armed',
    (device) => {
      Object.assign(device.failures ?? {}, { arm: () => {} })
    },
    'proofs › an injected failure strikes once',
    /what the injected failure at allocation throws: expected an error with a SPILLWAY_ code/,
  ],
]

const deviceTestsOf = (openBroken: OpenDevice): readonly CollectedTest[] => deviceTests({ openDevice: openBroken })

test.each(mistakes)('a device %s is caught', async (_, change, part, says) => {
  const named = deviceTestsOf(broken(change)).filter(({ path }) => path.includes(part))
  expect(named).toHaveLength(1)
  expect([...(await failures(named)).values()].map(({ message }) => message)).toEqual([expect.stringMatching(says)])
})

test('a host device may not be said to be less than it is', async () => {
  const tests = deviceTests({ openDevice: (options) => openDevice('host', options), can: { failures: false } })
  const [message] = [...(await failures(tests)).values()].map((error) => error.message)
  expect(message).toBe('a host device can do everything; leave can.failures out')
})
