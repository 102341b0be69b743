import { ensureCode, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { model } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'
import { capture, replayOnce } from './graph-tests.js'
import { shelf } from './shelf.js'

/** A placement backend together with a residency backend: what it said of its memory when it took it must hold. */
export const sleepingTests: readonly RigTest[] = [
  {
    name: 'asleep and awake again, whatever the forward before: residents are kept and slots are rebuilt',
    level: 1,
    async run(rig, subject) {
      const engine = await openWithShelf(rig, subject)
      const residency = engine.offloader.residency!
      const { order } = engine
      for (const before of [[], order, [...order].reverse(), order.slice(0, 3)]) {
        await engine.forward({ order: before })
        await residency.sleep({ level: 1 })
        await ensureCode('SPILLWAY_ASLEEP', 'a forward while asleep', () => engine.offloader.beginForward(rig.compute))
        await residency.wake()
        await engine.forward({ what: `the forward after waking, the last before being of ${before.length} modules` })
      }
      await engine.finish()
    },
  },
  {
    name: 'asleep with copies still on their way, and after a forward that threw',
    level: 1,
    async run(rig, subject) {
      const engine = await openWithShelf(rig, subject)
      const residency = engine.offloader.residency!
      for (let at = 0; at < engine.order.length; at++) {
        const thrown = new Error('the body threw')
        try {
          engine.offloader.forward(rig.compute, ({ before, after }) => {
            for (const name of engine.order.slice(0, at)) {
              before(name)
              after(name)
            }
            throw thrown
          })
        } catch (error) {
          ensureSame(error, thrown, 'what a forward whose body throws, throws')
        }
        await residency.sleep({ level: 1 })
        await residency.wake()
        await engine.forward({ what: `the forward after waking, the last before broken off at module ${at + 1}` })
      }
      await engine.finish()
    },
  },
  {
    name: 'a captured forward is right over a sleep and a wake',
    level: 1,
    needs: 'graphs',
    async run(rig, subject) {
      if (!rig.device.capabilities.graphs) return
      const engine = await openWithShelf(rig, subject)
      const residency = engine.offloader.residency!
      const { graph, reading } = await capture(rig, engine)
      for (let round = 1; round <= 2; round++) {
        await replayOnce(rig, graph, reading, `the replay before sleep ${round}`)
        await residency.sleep({ level: 1 })
        await residency.wake()
        await replayOnce(rig, graph, reading, `the replay after wake ${round}`)
      }
      await engine.forward({ what: 'a forward after the replays' })
      await engine.finish()
    },
  },
]

async function openWithShelf(rig: Rig, { configured, layers }: Subject): Promise<Engine> {
  const engine = await Engine.open(rig, { backends: [configured, shelf], specs: model(layers) })
  engine.allowOtherCopies()
  return engine
}
