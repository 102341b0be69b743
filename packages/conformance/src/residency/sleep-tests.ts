import { ensure, ensureAtLeast, ensureAtMost, ensureCode, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { largeModel } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'
import { checkMemory, ownMemory, residencyOf, totalOf } from './memory.js'

/** Large enough that a module is several pieces of device memory. */
export async function openAwake(rig: Rig, { configured, layers }: Subject): Promise<Engine> {
  const bytes = Math.ceil((4 * (await rig.pieceBytes())) / 4096) * 4096
  const specs = largeModel(layers, Math.min(bytes, 2 ** 20))
  const engine = await Engine.open(rig, { backends: [configured], specs })
  engine.allowOtherCopies()
  return engine
}

/** Buffers and addresses of every parameter. */
export function places(engine: Engine): readonly (readonly [name: string, pointer: bigint | string])[] {
  return [...engine.offloader.modules].flatMap(([module, { parameters }]) =>
    Array.from(parameters.values(), ({ name, tensor: { buffer, offset } }) => {
      const where = buffer.kind === 'device-buffer' ? buffer.pointer + BigInt(offset) : buffer.storage
      return [`${module}.${name}`, where] as const
    }),
  )
}

/** Sleep at each level, and what is there after waking. */
export const sleepTests: readonly RigTest[] = [
  {
    name: 'level 1: memory is given back, and waking brings the same bytes to the same addresses',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      await engine.forward()
      const [held, before] = [rig.held(), places(engine)]
      const { deviceToHostBytes } = rig.device.counters()
      const report = await residency.sleep({ level: 1 })
      const asleep = rig.held()
      const copied = rig.device.counters().deviceToHostBytes - deviceToHostBytes
      ensureSame(report.copiedBytes, copied, 'copiedBytes of the sleep, against what the device has copied to the host')
      ensureAtLeast(report.keptBytes + report.copiedBytes, engine.parameterBytes, 'keptBytes + copiedBytes')
      ensureAtLeast(report.freedBytes, engine.parameterBytes, 'freedBytes')
      ensureSame(held.deviceBytes - asleep.deviceBytes, report.freedBytes, 'device bytes that sleeping gave back')
      ensure(residency.state().get('weights') !== 'awake', 'the state of weights after sleep is awake')
      await ensureCode('SPILLWAY_ASLEEP', 'a forward while asleep', () => engine.offloader.beginForward(rig.compute))
      // Whoever takes the memory now may write to it.
      const other = rig.device.allocate(engine.parameterBytes, { tag: 'other', stream: rig.compute })
      rig.compute.fill(other, 0xee)
      await rig.compute.synchronize()
      await other.dispose()
      const { hostToDeviceBytes } = rig.device.counters()
      const woken = await residency.wake()
      const back = rig.device.counters().hostToDeviceBytes - hostToDeviceBytes
      ensureSame(woken.copiedBytes, back, 'copiedBytes of the wake, against what the device has copied from the host')
      ensureSame(residency.state().get('weights'), 'awake', 'the state of weights after wake')
      ensureSame(rig.held().deviceBytes, held.deviceBytes, 'device bytes after wake')
      ensureSame(places(engine), before, 'addresses after wake')
      await engine.forward({ what: 'the forward after waking' })
      await engine.forward({ order: [...engine.order].reverse(), what: 'the reverse forward after waking' })
      await engine.settledStats()
    },
  },
  {
    name: 'again and again, nothing grows',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      await residency.sleep({ level: 1 })
      const asleep = rig.held()
      await residency.wake()
      await rig.compute.synchronize()
      const awake = rig.held()
      for (let round = 1; round <= 3; round++) {
        await engine.forward({ what: `forward ${round}` })
        await residency.sleep({ level: round === 2 ? 0 : 1 })
        if (round !== 2) ensureSame(rig.held(), asleep, `handles and bytes in sleep ${round + 1}`)
        await residency.wake()
        ensureSame(rig.held(), awake, `handles and bytes after wake ${round + 1}`)
      }
      await engine.forward({ what: 'the last forward' })
    },
  },
  {
    name: 'level 0 shuts the gate and moves nothing',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const [held, counters] = [rig.held(), rig.device.counters()]
      const { copiedBytes, discardedBytes, freedBytes } = await residency.sleep({ level: 0 })
      ensureSame({ copiedBytes, discardedBytes, freedBytes }, noBytes, 'the report of a sleep at level 0')
      await ensureCode('SPILLWAY_ASLEEP', 'a forward at level 0', () => engine.offloader.beginForward(rig.compute))
      ensureSame(rig.held(), held, 'handles and bytes at level 0')
      ensureSame(rig.device.counters(), counters, 'the device’s counters at level 0')
      ensureSame((await residency.wake()).copiedBytes, 0, 'copiedBytes of a wake from level 0')
      await engine.forward({ what: 'the forward after waking' })
    },
  },
  {
    name: 'level 2 discards weights and keeps what is tagged runtime',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const { offloader } = engine
      const residency = residencyOf(offloader)
      const runtime = await ownMemory(rig, offloader, { tag: 'runtime', bytes: 5000 })
      const [held, before] = [rig.held(), places(engine)]
      const report = await residency.sleep({ level: 2 })
      ensureAtLeast(report.discardedBytes, engine.parameterBytes, 'discardedBytes')
      ensureAtLeast(held.deviceBytes - rig.held().deviceBytes, engine.parameterBytes, 'device bytes given back')
      const imageBytes = totalOf(rig.held().hostBytes) - totalOf(held.hostBytes)
      ensureAtMost(
        imageBytes,
        5000 + (await rig.pieceBytes()),
        'host bytes taken at level 2, where only runtime is kept',
      )
      await residency.wake()
      ensureSame(places(engine), before, 'addresses after a wake from level 2')
      await checkMemory(rig, runtime, 'memory with the tag runtime, after level 2')
      await engine.loadParameters(undefined, 77)
      await engine.forward({ what: 'the forward after loading again' })
    },
  },
  {
    name: 'tags: only what is named sleeps',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const bytes = 4 * (await rig.pieceBytes())
      const cache = await ownMemory(rig, engine.offloader, { tag: 'kv_cache', bytes })
      const held = rig.held()
      await residency.sleep({ level: 1, tags: ['kv_cache'] })
      const states = (): unknown => ['weights', 'kv_cache'].map((tag) => residency.state().get(tag) === 'awake')
      ensureSame(states(), [true, false], 'whether weights and kv_cache are awake')
      const given = held.deviceBytes - rig.held().deviceBytes
      ensureAtLeast(given, bytes, 'device bytes given back')
      ensureAtLeast(
        rig.held().deviceBytes,
        engine.parameterBytes,
        'device bytes still taken, with the weights, which stay',
      )
      await residency.wake({ tags: ['kv_cache'], before: [rig.compute] })
      ensureSame(states(), [true, true], 'whether weights and kv_cache are awake')
      ensureSame(cache.buffer.pointer, cache.pointer, 'the address of the cache')
      await checkMemory(rig, cache, 'the cache after waking')
      await engine.forward({ what: 'the forward after waking' })
    },
  },
  {
    name: 'discard gives the memory of a tag back and raises its epoch, and no other’s',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const bytes = 4 * (await rig.pieceBytes())
      const cache = await ownMemory(rig, engine.offloader, { tag: 'kv_cache', bytes })
      const epochs = (): number[] => ['kv_cache', 'weights'].map((tag) => residency.epoch(tag))
      const [first, weights] = epochs() as [number, number]
      await residency.sleep({ level: 1 })
      await residency.wake()
      ensureSame(epochs(), [first, weights], 'epochs after a sleep that kept everything')
      const { deviceBytes } = rig.held()
      const { deviceToHostBytes } = rig.device.counters()
      await residency.discard(['kv_cache'])
      ensureSame(epochs()[1], weights, 'the epoch of weights after kv_cache was discarded')
      ensureAtLeast(epochs()[0]!, first + 1, 'the epoch of kv_cache after it was discarded')
      ensureAtLeast(deviceBytes - rig.held().deviceBytes, bytes, 'device bytes given back')
      ensureSame(rig.device.counters().deviceToHostBytes, deviceToHostBytes, 'deviceToHostBytes after a discard')
      await residency.wake({ before: [rig.compute] })
      ensureSame(rig.held().deviceBytes, deviceBytes, 'device bytes after waking')
      ensureSame(cache.buffer.pointer, cache.pointer, 'the address of the cache')
      await rig.write([[cache.tensor, cache.bytes]])
      await checkMemory(rig, cache, 'the cache, written anew')
      await engine.forward({ what: 'the forward after the cache was discarded' })
    },
  },
]

const noBytes = { copiedBytes: 0, discardedBytes: 0, freedBytes: 0 }
