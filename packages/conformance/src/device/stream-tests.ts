import { ensure, ensureBytes, ensureCode, ensureSame } from '../assert.js'
import type { RigTest } from '../subject.js'
import { bytesOf, deviceBuffer, hostBuffer, hostStorages, order, uniform } from './bytes.js'

const KiB = 1024

/** Order within a stream and between streams; copies and fills. */
export const streamTests: readonly RigTest<undefined>[] = [
  {
    name: 'a stream does its work in the order it came',
    level: 1,
    async run(rig) {
      const buffer = deviceBuffer(rig, 64 * KiB)
      for (let value = 0; value < 200; value++) {
        rig.compute.fill(buffer, value)
        rig.compute.fill(buffer, value + 1, { offset: 10, bytes: 20 })
      }
      const bytes = await bytesOf(rig, buffer)
      const seen = [9, 10, 29, 30, 64 * KiB - 1].map((at) => bytes[at])
      ensureSame(seen, [199, 200, 200, 199, 199], 'bytes 9, 10, 29, 30 and the last')
    },
  },
  {
    name: 'copies between all kinds of storage, at odd offsets, move the right bytes and no other',
    level: 1,
    async run(rig) {
      const kinds = ['device', ...hostStorages(rig)] as const
      const [size, toOffset, fromOffset, bytes] = [5000, 129, 1023, 3001]
      for (const [i, from] of kinds.entries()) {
        for (const [j, to] of kinds.entries()) {
          const what = `a copy from ${from} to ${to} memory`
          const source = await hostBuffer(rig, 'pageable', size, 10 * i + j)
          const target = await hostBuffer(rig, 'pageable', size, 500 + 10 * i + j)
          const make = async (kind: (typeof kinds)[number], like: typeof source) => {
            const buffer = kind === 'device' ? deviceBuffer(rig, size) : (await hostBuffer(rig, kind, size, 0)).buffer
            rig.compute.copy(buffer, like.buffer)
            return buffer
          }
          const [a, b] = [await make(from, source), await make(to, target)]
          rig.compute.copy(b, a, { toOffset, fromOffset, bytes })
          const expected = Uint8Array.from(target.bytes)
          expected.set(source.bytes.subarray(fromOffset, fromOffset + bytes), toOffset)
          ensureBytes(await bytesOf(rig, b), expected, what)
          ensureBytes(await bytesOf(rig, a), source.bytes, `the source of ${what}`)
        }
      }
    },
  },
  {
    name: 'lengths have defaults; empty copies and fills do nothing',
    level: 1,
    async run(rig) {
      const host = await hostBuffer(rig, 'pageable', 16, 1)
      const buffer = deviceBuffer(rig, 24)
      rig.compute.fill(buffer, 7)
      rig.compute.copy(buffer, host.buffer)
      rig.compute.fill(buffer, 9, { offset: 23 })
      rig.compute.copy(buffer, host.buffer, { toOffset: 20, fromOffset: 2 })
      rig.compute.copy(buffer, host.buffer, { bytes: 0 })
      rig.compute.fill(buffer, 1, { bytes: 0 })
      const expected = Uint8Array.from([...host.bytes, 7, 7, 7, 7, ...host.bytes.subarray(2, 6)])
      ensureBytes(await bytesOf(rig, buffer), expected, 'the buffer')
    },
  },
  {
    name: 'copyBatch: all of its copies, or none when one is refused',
    level: 1,
    async run(rig) {
      const hosts = await Promise.all(hostStorages(rig).map((storage, i) => hostBuffer(rig, storage, 3000 + i, 20 + i)))
      const targets = hosts.map(({ bytes }) => deviceBuffer(rig, bytes.length + 3))
      for (const target of targets) rig.compute.fill(target, 5)
      const before = rig.device.counters()
      const copies = hosts.map(({ buffer }, i) => ({ to: targets[i]!, from: buffer, toOffset: 2, fromOffset: 1 }))
      const tooLong = { to: targets[0]!, from: hosts[0]!.buffer, bytes: 1e6 }
      await ensureCode('SPILLWAY_INVALID_ARGUMENT', 'a batch with a copy that is too long', () =>
        rig.compute.copyBatch([...copies, tooLong]),
      )
      await rig.compute.synchronize()
      ensureSame(rig.device.counters(), before, 'counters after a batch that was refused')
      rig.compute.copyBatch([])
      rig.compute.copyBatch(copies)
      for (const [i, { bytes }] of hosts.entries()) {
        const expected = Uint8Array.from([5, 5, ...bytes.subarray(1), 5, 5])
        ensureBytes(await bytesOf(rig, targets[i]!), expected, `what came from ${hostStorages(rig)[i]} memory`)
      }
      const { hostToDeviceCopies } = rig.device.counters()
      ensureSame(hostToDeviceCopies - before.hostToDeviceCopies, hosts.length, 'copies counted')
    },
  },
  {
    name: 'ranges outside of their buffers, overlaps and values that are no byte are refused and change nothing',
    level: 1,
    async run(rig) {
      const host = await hostBuffer(rig, 'pageable', 16, 1)
      const buffer = deviceBuffer(rig, 16)
      rig.compute.fill(buffer, 3)
      await rig.compute.synchronize()
      const before = rig.device.counters()
      const refused = (what: string, action: () => unknown) => ensureCode('SPILLWAY_INVALID_ARGUMENT', what, action)
      for (const range of [
        { bytes: 17 },
        { toOffset: 1, bytes: 16 },
        { fromOffset: 16, bytes: 1 },
        { toOffset: -1 },
        { toOffset: Number.NaN },
        { bytes: 0.5 },
        { fromOffset: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER },
      ]) {
        await refused(`a copy of ${JSON.stringify(range)}`, () => rig.compute.copy(buffer, host.buffer, range))
      }
      await refused('a copy onto itself', () => rig.compute.copy(buffer, buffer))
      for (const byte of [-1, 256, 1.5, Number.NaN]) {
        await refused(`a fill with ${byte}`, () => rig.compute.fill(buffer, byte))
      }
      await refused('a fill past the end', () => rig.compute.fill(buffer, 1, { offset: 1, bytes: 16 }))
      await rig.compute.synchronize()
      ensureSame(rig.device.counters(), before, 'counters after calls that were refused')
      ensureSame(uniform(await bytesOf(rig, buffer), 'the buffer'), 3, 'every byte')
    },
  },
  {
    name: 'a wait orders a stream after what was recorded, back and forth between streams',
    level: 1,
    async run(rig) {
      const other = rig.keep(rig.device.createStream())
      const [slot, seen] = [deviceBuffer(rig, 32 * KiB), deviceBuffer(rig, 8 * 32 * KiB)]
      for (let round = 0; round < 8; round++) {
        order(rig, rig.compute, other)
        other.fill(slot, round + 1)
        order(rig, other, rig.compute)
        rig.compute.copy(seen, slot, { toOffset: round * 32 * KiB, bytes: 32 * KiB })
      }
      const bytes = await bytesOf(rig, seen)
      for (let round = 0; round < 8; round++) {
        const part = bytes.subarray(round * 32 * KiB, (round + 1) * 32 * KiB)
        ensureSame(uniform(part, `what round ${round + 1} saw`), round + 1, `what round ${round + 1} saw`)
      }
    },
  },
  {
    name: 'a wait means the record made last before it, even when the event is gone',
    level: 1,
    async run(rig) {
      const other = rig.keep(rig.device.createStream())
      const event = rig.device.createEvent()
      const buffer = deviceBuffer(rig, 32 * KiB)
      const seen = deviceBuffer(rig, 32 * KiB)
      other.wait(event)
      rig.compute.record(event)
      rig.compute.fill(buffer, 5)
      rig.compute.record(event)
      other.wait(event)
      await event.dispose()
      other.copy(seen, buffer)
      await other.synchronize()
      ensureSame(uniform(await bytesOf(rig, seen), 'what the other stream saw'), 5, 'what the other stream saw')
    },
  },
  {
    name: 'synchronize settles when everything enqueued is done, or when its signal fires',
    level: 1,
    async run(rig) {
      const { buffer } = await hostBuffer(rig, 'pageable', 64 * KiB, 1)
      const target = deviceBuffer(rig, 64 * KiB)
      const { hostToDeviceBytes } = rig.device.counters()
      for (let round = 0; round < 5; round++) rig.compute.copy(target, buffer)
      await Promise.all([rig.compute.synchronize(), rig.compute.synchronize({ signal: new AbortController().signal })])
      const copied = rig.device.counters().hostToDeviceBytes - hostToDeviceBytes
      ensureSame(copied, 5 * 64 * KiB, 'bytes copied by the time synchronize settled')
      const reason = new Error('enough')
      const error = await ensureCode('SPILLWAY_ABORTED', 'synchronize with a signal that has fired', () =>
        rig.compute.synchronize({ signal: AbortSignal.abort(reason) }),
      )
      ensure(error.cause === reason, 'the cause of SPILLWAY_ABORTED is the signal’s reason')
    },
  },
  {
    name: 'streams have the priority that was asked for',
    level: 1,
    async run(rig) {
      for (const priority of ['low', 'normal', 'high'] as const) {
        ensureSame(rig.keep(rig.device.createStream({ priority })).priority, priority, 'the priority')
      }
      ensureSame(rig.compute.priority, 'normal', 'the priority when none is given')
      await ensureCode('SPILLWAY_INVALID_ARGUMENT', 'a priority that does not exist', () =>
        rig.device.createStream({ priority: 'urgent' as never }),
      )
    },
  },
]
