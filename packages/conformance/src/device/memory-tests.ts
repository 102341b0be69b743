import { ensure, ensureAtLeast, ensureBytes, ensureCode, ensureSame } from '../assert.js'
import { pattern } from '../model.js'
import type { RigTest } from '../subject.js'
import { bytesOf, deviceBuffer, hostBuffer, hostStorages } from './bytes.js'

/** Sizes, the budget, handles and counters. */
export const deviceMemoryTests: readonly RigTest<undefined>[] = [
  {
    name: 'host memory has exactly the size asked for, in the counter of its storage',
    level: 1,
    async run(rig) {
      for (const storage of hostStorages(rig)) {
        const before = rig.held()
        const buffer = await rig.device.allocateHost(12_345, { storage })
        ensureSame([buffer.kind, buffer.storage, buffer.bytes], ['host-buffer', storage, 12_345], `${storage} memory`)
        const expected = { ...before.hostBytes, [storage]: before.hostBytes[storage] + 12_345 }
        ensureSame(rig.held().hostBytes, expected, `live host bytes with 12345 of ${storage}`)
        ensureSame(rig.held().deviceBytes, before.deviceBytes, 'device bytes')
        const bytes = pattern(3, 12_345)
        buffer.write(bytes)
        buffer.write(Uint8Array.of(1, 2), 7)
        bytes.set([1, 2], 7)
        ensureBytes(buffer.read(), bytes, `${storage} memory`)
        ensureBytes(buffer.read(12_300), bytes.subarray(12_300), `the end of ${storage} memory`)
        for (const [what, action] of [
          ['a write past the end', () => buffer.write(Uint8Array.of(1, 2), 12_344)],
          ['a read before the start', () => buffer.read(-1, 1)],
          ['a read past the end', () => buffer.read(1, 12_345)],
        ] as const) {
          await ensureCode('SPILLWAY_INVALID_ARGUMENT', what, action)
        }
        await buffer.dispose()
        ensureSame(rig.held(), before, `handles and bytes after ${storage} memory was disposed`)
      }
    },
  },
  {
    name: 'the budget charges device memory by tag, keeps the peak, and is given back',
    level: 1,
    async run(rig) {
      const { budget } = rig.device
      const piece = await rig.pieceBytes()
      const before = rig.held()
      const one = rig.device.allocate(3 * piece, { tag: 'weights' })
      const two = rig.device.allocate(5, { tag: 'kv_cache', stream: rig.compute, module: 'layers.3' })
      ensureSame([one.kind, one.storage, one.tag], ['device-buffer', 'device', 'weights'], 'a device buffer')
      ensure(one.bytes === 3 * piece && two.bytes === 5, 'buffers have exactly the size asked for')
      ensureAtLeast(budget.usedBytes - before.deviceBytes, 3 * piece + 5, 'usedBytes')
      ensureAtLeast(budget.usedBytesByTag.weights ?? 0, 3 * piece, 'usedBytesByTag.weights')
      ensureAtLeast(budget.usedBytesByTag.kv_cache ?? 0, 5, 'usedBytesByTag.kv_cache')
      const used = budget.usedBytes
      await Promise.all([one.dispose(), two.dispose()])
      ensureSame(rig.held(), before, 'handles and bytes after both were disposed')
      ensureAtLeast(budget.peakBytes, used, 'peakBytes')
      ensureSame(budget.usedBytesByTag.weights ?? 0, 0, 'usedBytesByTag.weights')
    },
  },
  {
    name: 'out of memory says what was asked and what is free; what fits still works',
    level: 1,
    rig: { memoryLimitBytes: 16 * 2 ** 20 },
    async run(rig) {
      const { budget } = rig.device
      ensureSame(budget.limitBytes, 16 * 2 ** 20, 'limitBytes, as the device was opened')
      const half = rig.device.allocate(8 * 2 ** 20, { tag: 'weights' })
      const held = rig.held()
      const error = await ensureCode('SPILLWAY_OUT_OF_MEMORY', 'more than is free', () =>
        rig.device.allocate(9 * 2 ** 20, { tag: 'scratch', module: 'layers.3.mlp' }),
      )
      for (const key of ['requestedBytes', 'freeBytes', 'totalBytes']) {
        ensure(
          Number.isSafeInteger(error.details[key]),
          `details.${key} of SPILLWAY_OUT_OF_MEMORY is a number of bytes`,
        )
      }
      ensureAtLeast(error.details.requestedBytes as number, 9 * 2 ** 20, 'details.requestedBytes')
      const byTag = error.details.heldBytesByTag as Record<string, number> | undefined
      ensureAtLeast(byTag?.weights ?? 0, 8 * 2 ** 20, 'details.heldBytesByTag.weights')
      ensureSame(rig.held(), held, 'handles and bytes after an allocation that failed')
      const fits = rig.device.allocate(7 * 2 ** 20, { tag: 'scratch' })
      await Promise.all([half.dispose(), fits.dispose()])
      await rig.device.allocate(16 * 2 ** 20, { tag: 'all' }).dispose()
    },
  },
  {
    name: 'sizes, tags and storages that are none are refused',
    level: 1,
    async run(rig) {
      const refused = (what: string, action: () => unknown) => ensureCode('SPILLWAY_INVALID_ARGUMENT', what, action)
      for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1', undefined]) {
        await refused(`${String(bytes)} device bytes`, () => rig.device.allocate(bytes as never, { tag: 'test' }))
        for (const storage of hostStorages(rig)) {
          await refused(`${String(bytes)} ${storage} bytes`, () => rig.device.allocateHost(bytes as never, { storage }))
        }
      }
      await refused('an empty tag', () => rig.device.allocate(1, { tag: '' }))
      await refused('device as host storage', () => rig.device.allocateHost(1, { storage: 'device' as never }))
      await ensureCode('SPILLWAY_ABORTED', 'allocateHost with a signal that has fired', () =>
        rig.device.allocateHost(1, { storage: 'pageable', signal: AbortSignal.abort() }),
      )
    },
  },
  {
    name: 'a disposed handle is refused; disposing twice is nothing',
    level: 1,
    async run(rig) {
      const { device, compute } = rig
      const make = () => ({
        stream: device.createStream(),
        event: device.createEvent(),
        buffer: device.allocate(64, { tag: 'test' }),
      })
      const gone = make()
      const alive = make()
      const host = rig.keep(await rig.staging(64))
      const goneHost = await rig.staging(64)
      for (const handle of [...Object.values(gone), goneHost]) {
        ensure(!handle.disposed, `a new ${handle.kind} is disposed`)
        await handle.dispose()
        await handle.dispose()
        await handle[Symbol.asyncDispose]()
        ensure(handle.disposed, `a disposed ${handle.kind} is not disposed`)
      }
      const uses: [string, () => unknown][] = [
        ['record on a disposed stream', () => gone.stream.record(alive.event)],
        ['copy on a disposed stream', () => gone.stream.copy(alive.buffer, host)],
        ['fill on a disposed stream', () => gone.stream.fill(alive.buffer, 1)],
        ['synchronize of a disposed stream', () => gone.stream.synchronize()],
        ['record of a disposed event', () => compute.record(gone.event)],
        ['wait for a disposed event', () => compute.wait(gone.event)],
        ['copy to a disposed buffer', () => compute.copy(gone.buffer, host)],
        ['copy from a disposed buffer', () => compute.copy(host, gone.buffer)],
        ['copy from a disposed host buffer', () => compute.copy(alive.buffer, goneHost)],
        ['fill of a disposed buffer', () => compute.fill(gone.buffer, 1)],
        ['read of a disposed host buffer', () => goneHost.read()],
        ['write to a disposed host buffer', () => goneHost.write(new Uint8Array(1))],
      ]
      for (const [what, action] of uses) await ensureCode('SPILLWAY_DISPOSED', what, action)
      for (const handle of Object.values(alive)) await handle.dispose()
    },
  },
  {
    name: 'objects that are no handles of this device are refused',
    level: 1,
    async run(rig) {
      const { compute } = rig
      const buffer = deviceBuffer(rig, 64)
      const forged = { kind: 'device-buffer', bytes: 64, storage: 'device', disposed: false }
      for (const value of [{}, forged, null, 5, 'buffer', new Proxy(buffer, {})]) {
        await ensureCode('SPILLWAY_FOREIGN_HANDLE', 'a copy to what is no handle', () =>
          compute.copy(value as never, buffer, { bytes: 1 }),
        )
      }
      await ensureCode('SPILLWAY_INVALID_ARGUMENT', 'a record of a buffer', () => compute.record(buffer as never))
    },
  },
  {
    name: 'enqueued work keeps what it uses',
    level: 1,
    async run(rig) {
      const before = rig.held()
      const source = await hostBuffer(rig, 'pageable', 100_000, 4)
      const result = rig.keep(await rig.staging(100_000))
      const target = rig.device.allocate(100_000, { tag: 'test' })
      const stream = rig.device.createStream()
      stream.copy(target, source.buffer)
      stream.copy(result, target)
      const done = stream.synchronize()
      await Promise.all([source.buffer.dispose(), target.dispose(), stream.dispose()])
      await done
      ensureBytes(result.read(), source.bytes, 'what work on disposed handles copied')
      await result.dispose()
      await rig.ensureHeld(before, 'handles and bytes afterwards')
    },
  },
  {
    name: 'liveHandles counts every kind',
    level: 1,
    async run(rig) {
      const count = (kind: string): number => rig.device.counters().liveHandles[kind] ?? 0
      const makers = {
        stream: async () => rig.device.createStream(),
        event: async () => rig.device.createEvent(),
        'device-buffer': async () => rig.device.allocate(1, { tag: 'test' }),
        'host-buffer': async () => rig.device.allocateHost(1, { storage: 'pageable' }),
      }
      for (const [kind, make] of Object.entries(makers)) {
        const before = count(kind)
        const handles = [await make(), await make(), await make()]
        ensureSame(count(kind), before + 3, `live handles of kind ${kind}, three of them new`)
        await Promise.all(handles.map((handle) => handle.dispose()))
        ensureSame(count(kind), before, `live handles of kind ${kind}, three of them gone`)
      }
    },
  },
  {
    name: 'counters count what was copied, each way and by tag',
    level: 1,
    async run(rig) {
      const hosts = []
      for (const storage of hostStorages(rig)) hosts.push((await hostBuffer(rig, storage, 1000, 1)).buffer)
      const [weights, cache] = [deviceBuffer(rig, 1000, 'weights'), deviceBuffer(rig, 1000, 'kv_cache')]
      const before = rig.device.counters()
      for (const host of hosts) {
        rig.compute.copy(weights, host)
        rig.compute.copy(host, weights, { bytes: 11 })
      }
      rig.compute.copy(cache, hosts[0]!, { bytes: 7 })
      rig.compute.copy(cache, weights, { bytes: 500 })
      rig.compute.copy(hosts.at(-1)!, hosts[0]!, { bytes: hosts.length > 1 ? 3 : 0 })
      await rig.compute.synchronize()
      const after = rig.device.counters()
      const n = hosts.length
      const expected = {
        hostToDeviceBytes: 1000 * n + 7,
        hostToDeviceCopies: n + 1,
        deviceToHostBytes: 11 * n,
        deviceToHostCopies: n,
        deviceToDeviceBytes: 500,
        hostToHostBytes: n > 1 ? 3 : 0,
        launches: 0,
        graphLaunches: 0,
      }
      const grown = Object.fromEntries(
        Object.keys(expected).map((key) => [
          key,
          after[key as keyof typeof expected] - before[key as keyof typeof expected],
        ]),
      )
      ensureSame(grown, expected, 'what the counters grew by')
      const byTag = { weights: 1000 * n, kv_cache: 7 }
      const grownByTag = Object.fromEntries(
        Object.keys(byTag).map((tag) => [
          tag,
          (after.hostToDeviceBytesByTag[tag] ?? 0) - (before.hostToDeviceBytesByTag[tag] ?? 0),
        ]),
      )
      ensureSame(grownByTag, byTag, 'what hostToDeviceBytesByTag grew by')
    },
  },
  {
    name: 'no two buffers share a byte, whatever was freed before',
    level: 1,
    async run(rig) {
      const live: { readonly buffer: ReturnType<typeof deviceBuffer>; readonly value: number }[] = []
      for (let step = 0; step < 60; step++) {
        if (step % 3 === 2) {
          const { buffer, value } = live.splice((step * 7) % live.length, 1)[0]!
          ensureSame(
            (await bytesOf(rig, buffer)).every((byte) => byte === value),
            true,
            `buffer ${value} is untouched`,
          )
          await buffer.dispose()
        } else {
          const buffer = deviceBuffer(rig, 1 + ((step * 7919) % 30_000))
          rig.compute.fill(buffer, step)
          live.push({ buffer, value: step })
        }
      }
      for (const { buffer, value } of live) {
        ensureSame(
          (await bytesOf(rig, buffer)).every((byte) => byte === value),
          true,
          `buffer ${value} is untouched`,
        )
      }
    },
  },
  {
    name: 'it says what it is',
    level: 1,
    async run(rig) {
      const { device } = rig
      ensureSame([device.kind, device.disposed], ['device', false], 'kind and disposed')
      ensure(device.type === 'host' || device.type === 'cuda', `type is host or cuda, not ${String(device.type)}`)
      ensure(typeof device.name === 'string' && device.name !== '', 'it has a name')
      for (const key of capabilities) {
        ensure(typeof device.capabilities[key] === 'boolean', `capabilities.${key} is true or false`)
      }
    },
  },
]

const capabilities = [
  'pinnedMemory',
  'mappedMemory',
  'unifiedMemory',
  'confidentialComputing',
  'wsl',
  'virtualMemory',
  'graphs',
] as const
