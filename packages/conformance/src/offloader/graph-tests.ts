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
    name: 'a step in pieces, captured and not, each a forward of its own, with no wait between them',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const { order } = engine
      const third = Math.ceil(order.length / 3)
      const parts = [order.slice(0, third), order.slice(third, 2 * third), order.slice(2 * third)]
      const pieces = []
      for (const part of parts) {
        // What this leaves behind at the capture is not there at the replays.
        await engine.forward({ order: part, what: `a forward of ${part.join(' ')} before its capture` })
        pieces.push({ part, ...(await capture(rig, engine, part)) })
      }
      // Which pieces are replayed: the middle one, the others, all of them, none.
      for (const replayed of [[1], [0, 2], [0, 1, 2], [], [1]]) {
        for (const { reading } of pieces) reading.clear()
        for (const [i, { reading, graph }] of pieces.entries()) {
          if (replayed.includes(i)) rig.compute.launch(graph)
          else engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
        }
        await rig.compute.synchronize()
        for (const [i, { reading, part }] of pieces.entries()) {
          reading.check(`a step with pieces ${replayed.join(' and ')} replayed: piece ${i}, ${part.join(' ')}`)
        }
      }
      await engine.forward({ what: 'a forward after the pieces' })
      await engine.finish()
    },
  },
  {
    name: 'a graph that was disposed, and its forward captured again',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      for (let round = 1; round <= 3; round++) {
        const { graph, reading } = await capture(rig, engine)
        await replayOnce(rig, graph, reading, `the replay of capture ${round}`)
        // Once more, and disposed before it is done.
        reading.clear()
        rig.compute.launch(graph)
        await graph.dispose()
        await rig.compute.synchronize()
        reading.check(`the replay of capture ${round} whose graph was disposed`)
        await engine.forward({ what: `the forward after the graph of capture ${round} was disposed` })
      }
      await engine.finish()
    },
  },
  {
    name: 'a graph that is replayed on another stream than it was captured on',
    level: 1,
    async run(rig, subject) {
      const engine = await openForGraphs(rig, subject)
      const { graph, reading } = await capture(rig, engine)
      const other = rig.keep(rig.device.createStream())
      for (const order of [engine.order, [...engine.order].reverse()]) {
        reading.clear()
        other.launch(graph)
        // The caller orders replays on streams that the backend does not know of.
        await other.synchronize()
        reading.check('a replay on another stream')
        await engine.forward({ order, what: 'the forward after a replay on another stream' })
        // Where a forward has been, a replay comes after it without a wait.
        const eager = await engine.reading(order)
        engine.offloader.forward(other, (scope) => eager.enqueue(scope, other))
        reading.clear()
        other.launch(graph)
        engine.offloader.forward(rig.compute, ({ before, after }) => {
          before(order[0]!)
          after(order[0]!)
        })
        await Promise.all([other.synchronize(), rig.compute.synchronize()])
        eager.check('a forward on another stream')
        reading.check('the replay right behind it')
        await eager.dispose()
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
