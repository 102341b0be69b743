import { createOffloader, isSpillwayError, type Replacement, type Supports } from '@spillway/core'
import { ensureAtLeast, ensureCoded, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { eachFailure, type FailureSource } from '../failures.js'
import { layerSpecs, model } from '../model.js'
import type { Subject } from '../subject.js'
import { capture, replayOnce } from './graph-tests.js'
import { checkParameters, replacementTensor } from './replacement-tests.js'

/** A call, broken off at every place where the device can fail, one after another. */
export interface FaultTest {
  readonly name: string
  readonly level: number
  readonly needs?: keyof Supports
  /** It allocates nothing through its context: only where the device itself can be made to fail is there a test. */
  readonly everywhere?: true
  run(subject: Subject, source: FailureSource): Promise<void>
}

const environment = { pinMemoryDisabledBy: undefined }

export const faultTests: readonly FaultTest[] = [
  {
    name: 'making an offloader',
    level: 1,
    async run(subject, source) {
      await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const held = rig.held()
        const { device, compute } = rig
        const error = await attempt(async () => {
          rig.keep(await createOffloader({ device, compute, backends: [backend], environment }))
        })
        if (error !== undefined) await rig.ensureHeld(held, 'handles and bytes after a create that failed')
        await runModel(await Engine.create(rig, { backends: [backend] }), subject)
      })
    },
  },
  {
    name: 'wrapModules',
    level: 1,
    async run(subject, source) {
      const strikes = await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const engine = await Engine.load(rig, { backends: [backend], specs: model(subject.layers) })
        const more = layerSpecs(subject.layers, undefined, subject.layers)
        const [held, before] = [rig.held(), engine.offloader.modules]
        const stats = statsOf(engine)
        const error = await attempt(() => engine.offloader.wrapModules(more))
        if (error === undefined) {
          await engine.loadParameters()
        } else {
          await rig.ensureHeld(held, 'handles and bytes after a wrapModules that failed')
          ensureSame(statsOf(engine), stats, 'statistics after a wrapModules that failed')
          ensureSame(
            [...engine.offloader.modules.keys()],
            [...before.keys()],
            'modules after a wrapModules that failed',
          )
          await engine.wrap(more)
        }
        await engine.ready()
        await engine.forward({ order: [...engine.offloader.modules.keys()] })
        await engine.forward()
        await engine.finish()
      })
      ensureAtLeast(strikes, 1, 'failures of wrapModules')
    },
  },
  {
    name: 'replaceParameters',
    level: 1,
    async run(subject, source) {
      const strikes = await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const engine = await Engine.load(rig, { backends: [backend], specs: model(subject.layers) })
        const layer = `layers.${subject.layers - 1}`
        const odd = { dtype: 'f16', shape: [9, 5], stride: [7, 1] } as const
        const other = rig.keep(await replacementTensor(rig, 'host', 5, odd))
        const next = new Map<string, Replacement | null>([
          ['attention.weight', { tensor: other.tensor, use: 'linear' }],
          ['mlp.weight', null],
        ])
        const [held, stats] = [rig.held(), statsOf(engine)]
        const error = await attempt(() => engine.offloader.replaceParameters(layer, next))
        if (error !== undefined) {
          await rig.ensureHeld(held, 'handles and bytes after a replaceParameters that failed')
          ensureSame(statsOf(engine), stats, 'statistics after a replaceParameters that failed')
          await checkParameters(rig, engine, layer)
          await engine.offloader.replaceParameters(layer, next)
        }
        engine.contents.set(`${layer}.attention.weight`, other.bytes)
        engine.contents.delete(`${layer}.mlp.weight`)
        await checkParameters(rig, engine, layer)
        await engine.ready()
        await engine.forward()
        await engine.finish()
      })
      ensureAtLeast(strikes, 1, 'failures of replaceParameters')
    },
  },
  {
    name: 'postInit',
    level: 1,
    async run(subject, source) {
      await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const before = rig.held()
        const engine = await Engine.load(rig, { backends: [backend], specs: model(subject.layers) })
        const error = await attempt(() => engine.ready())
        if (error === undefined) await engine.forward()
        await engine.offloader.dispose()
        await rig.ensureHeld(before, 'handles and bytes after a postInit that failed, and dispose')
        await runModel(await Engine.create(rig, { backends: [backend] }), subject)
      })
    },
  },
  {
    name: 'a forward',
    level: 1,
    everywhere: true,
    async run(subject, source) {
      const strikes = await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const before = rig.held()
        const engine = await Engine.open(rig, { backends: [backend], specs: model(subject.layers) })
        await engine.forward()
        const reading = rig.keep(await engine.reading([...engine.order].reverse()))
        const error = await attempt(() => {
          engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
        })
        await rig.compute.synchronize()
        if (error === undefined) reading.check('a forward that got over a failure')
        await reading.dispose()
        if (await worksAgain(engine)) {
          await engine.forward({ what: 'the second forward after one that failed' })
        } else {
          await engine.offloader.dispose()
          await rig.ensureHeld(before, 'handles and bytes after a forward that failed, and dispose')
          await runModel(await Engine.create(rig, { backends: [backend] }), subject)
        }
      })
      ensureAtLeast(strikes, 1, 'failures of a forward')
    },
  },
  {
    name: 'a captured forward',
    level: 1,
    needs: 'graphs',
    everywhere: true,
    async run(subject, source) {
      await eachFailure(
        subject,
        source,
        async ({ rig, backend, attempt }) => {
          const engine = await Engine.open(rig, { backends: [backend], specs: model(subject.layers) })
          engine.allowOtherCopies()
          const reading = rig.keep(await engine.reading())
          const error = await attempt(async () => {
            rig.compute.beginCapture()
            engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
            const graph = rig.keep(rig.compute.endCapture())
            rig.compute.launch(graph)
            await rig.compute.synchronize()
          })
          if (rig.compute.capturing) {
            try {
              await rig.compute.endCapture().dispose()
            } catch (failure) {
              ensureCoded(failure, 'ending a capture that was broken off')
            }
          }
          await rig.compute.synchronize()
          if (error === undefined) reading.check('a replay')
          if (await worksAgain(engine)) return
          await engine.offloader.dispose()
          await runModel(await Engine.create(rig, { backends: [backend] }), subject)
        },
        ['unjoined-fork'],
      )
    },
  },
  {
    name: 'a replay',
    level: 1,
    needs: 'graphs',
    everywhere: true,
    async run(subject, source) {
      const strikes = await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const engine = await Engine.open(rig, { backends: [backend], specs: model(subject.layers) })
        engine.allowOtherCopies()
        const { graph, reading } = await capture(rig, engine)
        reading.clear()
        const error = await attempt(async () => {
          rig.compute.launch(graph)
          await rig.compute.synchronize()
        })
        await rig.compute.synchronize()
        if (error === undefined) reading.check('a replay that got over a failure')
        // The graph is what it was, and so is what it relies on.
        await engine.forward({ order: [...engine.order].reverse(), what: 'the forward after a replay that failed' })
        await replayOnce(rig, graph, reading, 'the replay after one that failed')
        await engine.finish()
      })
      ensureAtLeast(strikes, 1, 'failures of a replay')
    },
  },
  {
    name: 'dispose',
    level: 1,
    everywhere: true,
    async run(subject, source) {
      await eachFailure(subject, source, async ({ rig, backend, attempt }) => {
        const before = rig.held()
        const engine = await Engine.open(rig, { backends: [backend], specs: model(subject.layers) })
        await engine.forward()
        await attempt(() => engine.offloader.dispose())
        await rig.ensureHeld(before, 'handles and bytes after a dispose that failed')
        await runModel(await Engine.create(rig, { backends: [backend] }), subject)
      })
    },
  },
]

/** A forward after a failure: right, or core has taken the offloader out of service since it could not be ended. */
async function worksAgain(engine: Engine): Promise<boolean> {
  try {
    await engine.forward({ what: 'the forward after one that failed' })
    return true
  } catch (error) {
    if (!isSpillwayError(error, 'SPILLWAY_INVALID_STATE')) throw error
    return false
  }
}

function statsOf(engine: Engine) {
  const { offloadedBytes, residentBytes, slotBytes, onloadedBytes } = engine.offloader.stats()
  return { offloadedBytes, residentBytes, slotBytes, onloadedBytes }
}

/** The next call works: a whole life, on the same device. */
async function runModel(engine: Engine, { layers }: Subject): Promise<void> {
  await engine.wrap(model(layers))
  await engine.ready()
  await engine.forward()
  await engine.finish()
}
