import type { Graph } from '@spillway/core'
import { ensure, ensureAtMost, ensureBytes, ensureCode, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { pattern } from '../model.js'
import { capture, replayOnce } from '../offloader/graph-tests.js'
import type { RigTest } from '../subject.js'
import { checkMemory, ownMemory, residencyOf, totalOf, viewOf } from './memory.js'
import { openAwake, places } from './sleep-tests.js'

/** Where bytes come from when memory is back, and who waits for whom. */
export const recoveryTests: readonly RigTest[] = [
  {
    name: 'backed memory comes back from its owner’s host bytes, which are not stored twice',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const residency = residencyOf(offloader)
      const bytes = 4 * (await rig.pieceBytes())
      const image = rig.keep(await rig.staging(bytes))
      const backed = await ownMemory(rig, offloader, { tag: 'weights', bytes, recovery: { kind: 'backed', image } })
      const held = rig.held()
      const { copiedBytes } = await residency.sleep({ level: 1 })
      ensureSame(copiedBytes, 0, 'copiedBytes of a sleep where everything is backed')
      ensureAtMost(totalOf(rig.held().hostBytes), totalOf(held.hostBytes), 'host bytes, no second image')
      // Other bytes than were on the device: so it shows where they come from.
      const next = pattern(88, bytes)
      image.write(next)
      await residency.wake({ before: [rig.compute] })
      ensureBytes((await rig.read([backed.tensor]))[0]!, next, 'backed memory after waking')
      ensure(!image.disposed, 'the image, which is its owner’s, was disposed')
      ensureSame(backed.buffer.pointer, backed.pointer, 'the address of backed memory')
    },
  },
  {
    name: 'rebuild is called at each wake, in the order of the modules, and enqueues where it is told',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const residency = residencyOf(offloader)
      const bytes = 4096
      const calls: number[] = []
      const slots = []
      for (let i = 0; i < 4; i++) {
        const image = rig.keep(await rig.staging(bytes))
        image.write(pattern(20 + i, bytes))
        const memory = await ownMemory(rig, offloader, {
          tag: 'weights',
          bytes,
          module: `layers.${i}`,
          recovery: {
            kind: 'rebuild',
            rebuild(stream) {
              calls.push(i)
              stream.copy(memory.buffer, image)
            },
          },
        })
        slots.push(memory)
      }
      for (let round = 1; round <= 2; round++) {
        const { copiedBytes } = await residency.sleep({ level: 1 })
        ensureSame(copiedBytes, 0, 'copiedBytes of a sleep where everything can be rebuilt')
        ensureSame(calls.length, 4 * (round - 1), 'calls of rebuild before the wake')
        await residency.wake({ before: [rig.compute] })
        ensureSame(calls.slice(4 * (round - 1)), [0, 1, 2, 3], `calls of rebuild at wake ${round}`)
        const read = await rig.read(slots.map(({ tensor }) => tensor))
        for (const [i, one] of read.entries()) ensureBytes(one, pattern(20 + i, bytes), `memory ${i}, rebuilt`)
      }
    },
  },
  {
    name: 'the fence of a module opens when its memory is back; forwards wait for it by themselves',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const reading = rig.keep(await engine.reading())
      for (const module of engine.order)
        ensure(residency.fence(module).open, `the fence of ${module} is open when awake`)
      await residency.sleep({ level: 1 })
      await residency.wake()
      // At once, on another stream than any that the backend was told of.
      const stream = rig.keep(rig.device.createStream())
      engine.offloader.forward(stream, (scope) => reading.enqueue(scope, stream))
      await stream.synchronize()
      reading.check('a forward right after waking')
      for (const module of engine.order) ensure(residency.fence(module).open, `the fence of ${module} is open again`)
    },
  },
  {
    name: 'sleep waits for the streams in after',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const bytes = 16 * (await rig.pieceBytes())
      const memory = await ownMemory(rig, offloader, { tag: 'workspace', bytes })
      const stream = rig.keep(rig.device.createStream())
      const seen = rig.keep(rig.device.allocate(bytes, { tag: 'seen', stream }))
      for (let round = 0; round < 4; round++) stream.copy(seen, memory.buffer)
      await residencyOf(offloader).sleep({ level: 1, after: [stream] })
      await residencyOf(offloader).wake({ before: [stream, rig.compute] })
      stream.copy(seen, memory.buffer)
      await stream.synchronize()
      ensureBytes((await rig.read([viewOf(seen, bytes)]))[0]!, memory.bytes, 'what other streams read')
    },
  },
  {
    name: 'a captured forward is right over a sleep and a wake',
    level: 1,
    needs: 'graphs',
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      if (!rig.device.capabilities.graphs) return
      const { graph, reading } = await capture(rig, engine)
      await replayOnce(rig, graph, reading, 'a replay before the sleep')
      for (let round = 1; round <= 2; round++) {
        await residency.sleep({ level: 1 })
        await residency.wake()
        await replayAtOnce(graph)
        reading.check(`the replay after wake ${round}`)
      }
      async function replayAtOnce(one: Graph): Promise<void> {
        reading.clear()
        rig.compute.launch(one)
        await rig.compute.synchronize()
      }
    },
  },
  {
    name: 'no room to wake: it stays asleep, loses nothing, and wakes when there is room',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const before = places(engine)
      await residency.sleep({ level: 1 })
      const { limitBytes, usedBytes } = rig.device.budget
      const piece = await rig.pieceBytes()
      const rest = Math.floor((limitBytes - usedBytes - engine.parameterBytes / 2) / piece) * piece
      const filler = rig.keep(rig.device.allocate(rest, { tag: 'other', stream: rig.compute }))
      const asleep = rig.held()
      await ensureCode('SPILLWAY_OUT_OF_MEMORY', 'wake where there is no room', () => residency.wake())
      await rig.ensureHeld(asleep, 'handles and bytes after a wake for which there was no room')
      await ensureCode('SPILLWAY_ASLEEP', 'a forward after a wake that failed', () =>
        engine.offloader.beginForward(rig.compute),
      )
      await filler.dispose()
      await residency.wake()
      ensureSame(places(engine), before, 'addresses after waking')
      await engine.forward({ what: 'the forward after the second wake' })
    },
  },
  {
    name: 'memory given back while it sleeps is gone, image and all',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const residency = residencyOf(offloader)
      const stays = await ownMemory(rig, offloader, { tag: 'workspace', bytes: 5000 })
      await residency.sleep({ level: 1 })
      await residency.wake()
      const [held, bytes] = [rig.held(), 8 * (await rig.pieceBytes())]
      for (let round = 0; round < 3; round++) {
        const goes = await ownMemory(rig, offloader, { tag: 'workspace', bytes, seed: round })
        await residency.sleep({ level: 1 })
        await goes.buffer.dispose()
        await residency.wake({ before: [rig.compute] })
        await rig.ensureHeld(held, 'handles and bytes after memory was given back asleep')
      }
      await checkMemory(rig, stays, 'the other memory')
    },
  },
  {
    name: 'use passes the source of a tag, and what its function returns',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const residency = residencyOf(offloader)
      const options = { stream: rig.compute, recovery: { kind: 'copy' } } as const
      const direct = residency.use('workspace', (source) => {
        ensureSame(source.tag, 'workspace', 'the tag of the source')
        return source.allocate(100, options)
      })
      const later = await residency.use('kv_cache', async (source) => source.allocate(100, options))
      ensure(direct.bytes >= 100 && later.bytes >= 100, 'use returned no buffer')
      await Promise.all([direct.dispose(), later.dispose()])
    },
  },
]
