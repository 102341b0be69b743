import type { Graph } from '@spillway/core'
import { ensure, ensureAtLeast, ensureCode, ensureSame } from '../assert.js'
import { Engine, type Order, type Reading } from '../engine.js'
import { model, pattern } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'

const modelOf = ({ configured, layers }: Subject) => ({ backends: [configured], specs: model(layers) })

/** Forwards inside of a capture; for a backend that denies them, that they are refused. */
export function graphTests(graphs: boolean): readonly RigTest[] {
  return graphs ? captured : refused
}

const refused: readonly RigTest[] = [
  {
    name: 'a forward inside of a capture is refused with SPILLWAY_NOT_SUPPORTED, since supports.graphs is false',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      if (!rig.device.capabilities.graphs) return
      rig.compute.beginCapture()
      try {
        await ensureCode('SPILLWAY_NOT_SUPPORTED', 'beginForward inside of a capture', () =>
          engine.offloader.beginForward(rig.compute),
        )
        await ensureCode('SPILLWAY_NOT_SUPPORTED', 'forward inside of a capture', () =>
          engine.offloader.forward(rig.compute, () => {}),
        )
      } finally {
        await rig.compute.endCapture().dispose()
      }
      await engine.forward({ what: 'a forward after the refusal' })
      await engine.finish()
    },
  },
]

const captured: readonly RigTest[] = [
  {
    name: 'a captured forward reads the right bytes at every replay',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      await engine.forward({ what: 'the forward before the capture' })
      const { graph, reading } = await capture(rig, engine)
      ensureAtLeast(graph.nodeCount, engine.order.length, 'operations in the graph')
      for (let replay = 1; replay <= 3; replay++) await replayOnce(rig, graph, reading, `replay ${replay}`)
      await engine.forward({ what: 'a forward after the replays' })
      await engine.finish()
    },
  },
  {
    name: 'forwards in other orders between replays: each replay brings in what it reads',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const { order } = engine
      // What this one leaves in slots is what the graph reads first, and must bring in all the same.
      await engine.forward({ order: [...order].reverse(), what: 'the reverse forward before the capture' })
      const { graph, reading } = await capture(rig, engine)
      const others: Order[] = [[...order].reverse(), order.slice(-3), [order[2]!, order[1]!, order[2]!], []]
      for (const other of others) {
        await engine.forward({ order: other, what: `the forward ${other.join(' ')} between replays` })
        await replayOnce(rig, graph, reading, `the replay after the forward ${other.join(' ')}`)
      }
      // And with no wait of the host between them.
      engine.offloader.forward(rig.compute, ({ before, after }) => {
        for (const name of others[0]!) {
          before(name)
          after(name)
        }
      })
      await replayOnce(rig, graph, reading, 'the replay right behind a reverse forward')
      await engine.finish()
    },
  },
  {
    name: 'two graphs of different orders, replayed in turns',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const graphs = [await capture(rig, engine), await capture(rig, engine, [...engine.order].reverse())]
      for (let round = 1; round <= 3; round++) {
        for (const [i, { graph, reading }] of graphs.entries()) {
          await replayOnce(rig, graph, reading, `replay ${round} of graph ${i + 1}`)
        }
      }
      await engine.finish()
    },
  },
  {
    name: 'weights that are changed where they lie are read by the next replay',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const { graph, reading } = await capture(rig, engine)
      await replayOnce(rig, graph, reading, 'the first replay')
      let changed = 0
      for (const [module, { spec, parameters }] of engine.offloader.modules) {
        for (const { name, storage, tensor, tiedTo } of parameters.values()) {
          // A slot holds the weights for a while only; where `storage` is device or mapped, they lie where they are read.
          if (tiedTo !== undefined || (storage !== 'device' && storage !== 'mapped')) continue
          const bytes = pattern(++changed + 1000, engine.contents.get(`${module}.${name}`)!.length)
          await rig.write([[tensor, bytes]])
          engine.contents.set(`${spec.name}.${name}`, bytes)
        }
      }
      engine.followTies()
      await replayOnce(rig, graph, reading, `the replay after ${changed} parameters were changed in place`)
      await engine.forward({ what: 'a forward after the change' })
      await engine.finish()
    },
  },
  {
    name: 'a capture that is broken off leaves a backend that works',
    level: 1,
    rig: { allow: ['unjoined-fork'] },
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const { order } = engine
      for (const at of [1, Math.floor(order.length / 2), order.length - 1]) {
        rig.compute.beginCapture()
        await ensureCode('SPILLWAY_FORWARD_ORDER', 'a captured forward that goes wrong', () =>
          engine.offloader.forward(rig.compute, ({ before, after }) => {
            for (const name of order.slice(0, at)) {
              before(name)
              after(name)
            }
            before('no.such')
          }),
        )
        await endCapture(rig)
        await engine.forward({ what: `the forward after a capture that was broken off at module ${at + 1}` })
      }
      const { graph, reading } = await capture(rig, engine)
      await replayOnce(rig, graph, reading, 'a replay of the next capture')
      await engine.finish()
    },
  },
  {
    name: 'without pinned memory a capture works or is refused with SPILLWAY_CAPTURE, and forwards go on',
    level: 1,
    needs: 'unpinned',
    rig: { allow: ['unjoined-fork'] },
    async run(rig, subject) {
      if (!rig.device.capabilities.graphs) return
      const engine = await Engine.open(rig, { ...modelOf(subject), pin: 'off' })
      engine.allowOtherCopies()
      const reading = rig.keep(await engine.reading())
      let error: unknown
      rig.compute.beginCapture()
      try {
        engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
      } catch (thrown) {
        error = thrown
      }
      const graph = await endCapture(rig, error === undefined)
      if (error === undefined) {
        ensure(graph !== undefined, 'the capture ended with a graph')
        await replayOnce(rig, graph, reading, 'a replay without pinned memory')
      } else {
        await ensureCode('SPILLWAY_CAPTURE', 'a capture without pinned memory', () => Promise.reject(error))
      }
      await engine.forward({ what: 'a forward without pinned memory' })
      await engine.finish()
    },
  },
]

async function openForGraphs(rig: Rig, subject: Subject): Promise<Engine> {
  ensure(rig.device.capabilities.graphs, 'the device has no graphs: capabilities.graphs is false')
  const engine = await Engine.open(rig, modelOf(subject))
  engine.allowOtherCopies()
  return engine
}

/** Captures a forward; nothing may have been done by it. */
export async function capture(
  rig: Rig,
  engine: Engine,
  order: Order = engine.order,
): Promise<{ graph: Graph; reading: Reading }> {
  const reading = rig.keep(await engine.reading(order))
  await engine.settledStats()
  const before = rig.device.counters()
  rig.compute.beginCapture()
  try {
    engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
  } catch (error) {
    await endCapture(rig)
    throw error
  }
  const graph = rig.keep(rig.compute.endCapture())
  await engine.settledStats()
  ensureSame(
    rig.device.counters().deviceToHostBytes,
    before.deviceToHostBytes,
    'deviceToHostBytes after a capture: what is captured is recorded, not done',
  )
  return { graph, reading }
}

export async function replayOnce(rig: Rig, graph: Graph, reading: Reading, what: string): Promise<void> {
  await rig.compute.synchronize()
  reading.clear()
  rig.compute.launch(graph)
  await rig.compute.synchronize()
  reading.check(what)
}

/** Of a capture that may have gone wrong, so that there may be no graph to it. */
async function endCapture(rig: Rig, whole = false): Promise<Graph | undefined> {
  try {
    const graph = rig.keep(rig.compute.endCapture())
    return graph
  } catch (error) {
    if (whole) throw error
    await ensureCode('SPILLWAY_CAPTURE', 'ending a capture that was broken off', () => Promise.reject(error))
    return undefined
  }
}
