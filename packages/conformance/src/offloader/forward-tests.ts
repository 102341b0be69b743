import { ensure, ensureCode, ensureSame } from '../assert.js'
import { Engine, type Order } from '../engine.js'
import { draws, layerSpecs, model, oddModel, tiedModel } from '../model.js'
import type { RigTest, Subject } from '../subject.js'

const modelOf = ({ configured, layers }: Subject) => ({ backends: [configured], specs: model(layers) })

/** What a forward reads, whatever its order, streams and parameters are. */
export const forwardTests: readonly RigTest[] = [
  {
    name: 'every parameter has its bytes in every forward',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      for (const round of [1, 2, 3]) await engine.forward({ what: `forward ${round}` })
      await engine.finish()
    },
  },
  {
    name: 'forwards enqueued one after another, with no wait between, read the right bytes',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      const readings = []
      for (let round = 0; round < 4; round++) readings.push(rig.keep(await engine.reading()))
      for (const reading of readings) {
        engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
      }
      await rig.compute.synchronize()
      for (const [round, reading] of readings.entries()) reading.check(`forward ${round + 1} of 4`)
      await engine.finish()
    },
  },
  {
    name: 'modules left out, repeated, reversed and in any order have their bytes',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      const all = engine.order
      const draw = draws(1)
      const orders: Order[] = [
        all,
        [...all].reverse(),
        all.filter((_, i) => i % 2 === 0),
        all.flatMap((name) => [name, name]),
        all.slice(-2),
        [],
        ...Array.from({ length: 6 }, () => Array.from({ length: all.length }, () => all[draw(all.length)]!)),
        all,
      ]
      for (const order of orders) await engine.forward({ order, what: `the forward ${order.join(' ')}` })
      await engine.finish()
    },
  },
  {
    name: 'forwards on other streams, each after the one before, read the right bytes',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      const streams = [rig.compute, rig.keep(rig.device.createStream()), rig.keep(rig.device.createStream())]
      const readings = []
      for (const stream of [...streams, ...streams])
        readings.push({ stream, reading: rig.keep(await engine.reading()) })
      // No wait of the host between them: what one forward leaves in the slots, the next may overwrite too early.
      for (const { stream, reading } of readings) {
        engine.offloader.forward(stream, (scope) => reading.enqueue(scope, stream))
      }
      for (const stream of streams) await stream.synchronize()
      for (const [i, { reading }] of readings.entries()) reading.check(`forward ${i + 1}, on stream ${(i % 3) + 1}`)
      await engine.finish()
    },
  },
  {
    name: 'odd dtypes, strides, scalars and empty tensors keep their bytes and layouts',
    level: 1,
    async run(rig, { configured, layers }) {
      const engine = await Engine.load(rig, { backends: [configured], specs: oddModel(layers) })
      const modules = await engine.ready()
      for (const spec of engine.specs) {
        for (const { name, dtype, shape, stride } of spec.parameters) {
          const { tensor } = modules.get(spec.name)!.parameters.get(name)!
          const layout = { dtype: tensor.dtype, shape: [...tensor.shape], stride: [...tensor.stride] }
          ensureSame(layout, { dtype, shape, stride }, `the layout of ${spec.name}.${name}`)
        }
      }
      await engine.forward()
      await engine.forward({ order: [...engine.order].reverse(), what: 'the reverse forward' })
      await engine.finish()
    },
  },
  {
    name: 'tied parameters have the bytes of their target when their own module runs',
    level: 1,
    async run(rig, { configured, layers }) {
      const engine = await Engine.open(rig, { backends: [configured], specs: tiedModel(layers) })
      const before = engine.parameterBytes
      for (const round of [1, 2]) await engine.forward({ what: `forward ${round}` })
      await engine.forward({ order: ['tower', 'head', 'embed', ...engine.order], what: 'ties before their targets' })
      const { offloadedBytes, residentBytes } = engine.offloader.stats()
      ensureSame(offloadedBytes + residentBytes, before, 'bytes, every tied parameter counted once')
      await engine.finish()
    },
  },
  {
    name: 'modules wrapped in several calls are one model',
    level: 1,
    async run(rig, { configured, layers }) {
      const engine = await Engine.create(rig, { backends: [configured] })
      await engine.wrap(model(layers))
      await engine.wrap(layerSpecs(layers, undefined, layers))
      await engine.ready()
      for (const round of [1, 2]) await engine.forward({ what: `forward ${round}` })
      const before = engine.offloader.modules
      await ensureCode('SPILLWAY_INVALID_STATE', 'wrapModules after postInit', () =>
        engine.offloader.wrapModules(layerSpecs(1, undefined, 500)),
      )
      ensure(engine.offloader.modules === before, 'a refused wrapModules changed the modules')
      await engine.finish()
    },
  },
  {
    name: 'addresses stay from postInit on',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.load(rig, modelOf(subject))
      const ready = await engine.ready()
      const places = () =>
        [...engine.offloader.modules].flatMap(([module, { parameters }]) =>
          Array.from(parameters.values(), ({ name, storage, tensor: { buffer, offset } }) =>
            [
              module,
              name,
              storage,
              offset,
              buffer.kind === 'device-buffer' ? `${buffer.pointer}` : buffer.storage,
            ].join(),
          ),
        )
      const first = places()
      ensure(ready === engine.offloader.modules, 'modules is what postInit returned')
      for (let round = 0; round < 2; round++) await engine.forward()
      await engine.forward({ order: [...engine.order].reverse() })
      ensureSame(places(), first, 'the places of the parameters after three forwards')
      await engine.finish()
    },
  },
  {
    name: 'two offloaders on one device do not disturb each other',
    level: 1,
    async run(rig, subject) {
      const engines = [await Engine.load(rig, modelOf(subject)), await Engine.load(rig, modelOf(subject))]
      await engines[1]!.loadParameters(undefined, 50)
      for (const engine of engines) await engine.offloader.postInit()
      for (let round = 0; round < 2; round++) {
        for (const [i, engine] of engines.entries()) await engine.forward({ what: `forward of offloader ${i + 1}` })
      }
      await engines[0]!.offloader.dispose()
      await engines[1]!.forward({ what: 'the second offloader, when the first is disposed' })
      await engines[1]!.offloader.dispose()
    },
  },
]
