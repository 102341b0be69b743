import { isSpillwayError, type KernelOperation, type ModuleSpec } from '@spillway/core'
import { ensure, ensureAtLeast, ensureCode, ensureCoded, ensureSame, fail } from '../assert.js'
import { Engine } from '../engine.js'
import { layerSpecs, model } from '../model.js'
import { ObservedBackend } from '../observed-backend.js'
import type { RigTest, Subject } from '../subject.js'

const modelOf = ({ configured, layers }: Subject) => ({ backends: [configured], specs: model(layers) })

/** Calls in the wrong order, aborted, broken off and disposed at any time. */
export const lifecycleTests: readonly RigTest[] = [
  {
    name: 'calls that come too early or too late are refused and change nothing',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.create(rig, { backends: [subject.configured] })
      const { offloader } = engine
      const refused = (call: string, action: () => unknown) => ensureCode('SPILLWAY_INVALID_STATE', call, action)
      const forward = () => offloader.forward(rig.compute, () => {})
      await refused('replaceParameters before wrapModules', () => offloader.replaceParameters('layers.0', new Map()))
      await refused('postInit before wrapModules', () => offloader.postInit())
      await refused('a forward before wrapModules', forward)
      await engine.wrap(model(subject.layers))
      await refused('a forward before postInit', forward)
      await ensureCode('SPILLWAY_INVALID_SPEC', 'wrapping a module twice', () =>
        offloader.wrapModules(model(subject.layers)),
      )
      const both = [offloader.wrapModules(layerSpecs(1, undefined, 100)), offloader.postInit()]
      const settled = await Promise.allSettled(both)
      const [first, second] = settled as [(typeof settled)[0], (typeof settled)[0]]
      ensureSame(first.status, 'fulfilled', 'the first of two calls at once')
      ensure(
        second.status === 'rejected' && isSpillwayError(second.reason, 'SPILLWAY_INVALID_STATE'),
        'the second of two calls at once is refused with SPILLWAY_INVALID_STATE',
      )
      await engine.loadParameters([offloader.modules.get('layers.100')!])
      await engine.ready()
      await refused('postInit twice', () => offloader.postInit())
      await refused('wrapModules after postInit', () => offloader.wrapModules(layerSpecs(1, undefined, 200)))
      await engine.forward()
      await engine.finish()
      await ensureCode('SPILLWAY_DISPOSED', 'a forward after dispose', forward)
      await ensureCode('SPILLWAY_DISPOSED', 'wrapModules after dispose', () => offloader.wrapModules(layerSpecs(1)))
    },
  },
  {
    name: 'calls of a forward in the wrong order end it, and the next forward is right',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      const { offloader } = engine
      const [first, second] = engine.order as [string, string]
      const wrong: [string, (scope: ReturnType<typeof offloader.beginForward>) => void][] = [
        ['before of a module that is not there', (scope) => scope.before('no.such')],
        ['after without before', (scope) => scope.after(first)],
        ['before inside of another module', (scope) => [scope.before(first), scope.before(second)]],
        ['after of another module', (scope) => [scope.before(first), scope.after(second)]],
        ['end within a module', (scope) => [scope.before(second), scope.end(true)]],
      ]
      for (const [what, body] of wrong) {
        const scope = offloader.beginForward(rig.compute)
        await ensureCode('SPILLWAY_FORWARD_ORDER', what, () => body(scope))
        scope.end(false)
        await engine.forward({ what: `the forward after one with ${what}` })
      }
      const scope = offloader.beginForward(rig.compute)
      await ensureCode('SPILLWAY_FORWARD_OPEN', 'a forward within a forward', () => offloader.beginForward(rig.compute))
      scope.end(true)
      await ensureCode('SPILLWAY_FORWARD_ASYNC', 'a body that returns a promise', () =>
        offloader.forward(rig.compute, async () => {}),
      )
      await engine.forward({ what: 'the last forward' })
      await engine.finish()
    },
  },
  {
    name: 'a forward that throws anywhere is followed by a right one',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.open(rig, modelOf(subject))
      const { order } = engine
      for (let at = 0; at < order.length; at++) {
        for (const inside of [false, true]) {
          const reading = await engine.reading()
          const thrown = new Error('the body threw')
          try {
            engine.offloader.forward(rig.compute, ({ before, after }) => {
              let to = 0
              for (const [i, name] of order.entries()) {
                if (i === at && !inside) throw thrown
                before(name)
                if (i === at) throw thrown
                to = reading.enqueueModule(name, rig.compute, to)
                after(name)
              }
            })
            fail('the forward did not throw')
          } catch (error) {
            ensure(error === thrown, `a forward whose body threw, threw something else: ${String(error)}`)
          } finally {
            await reading.dispose()
          }
          const where = `${inside ? 'in' : 'before'} module ${at + 1}`
          await engine.forward({ what: `the forward after one that threw ${where}` })
        }
      }
      await engine.finish()
    },
  },
  {
    name: 'an aborted wrapModules leaves nothing, whichever allocation it was aborted at',
    level: 1,
    run: (rig, subject) =>
      eachAllocation(async (atAllocation) => {
        const before = rig.held()
        const observed = new ObservedBackend(subject.configured)
        const engine = await Engine.create(rig, { backends: [observed.configured] })
        await engine.wrap(model(subject.layers))
        const held = rig.held()
        const { stats } = snapshot(engine)
        const more = layerSpecs(subject.layers, undefined, subject.layers)
        const controller = new AbortController()
        const reason = new Error('enough')
        const count = countAllocations(observed, atAllocation, () => controller.abort(reason))
        let aborted: unknown
        try {
          await engine.offloader.wrapModules(more, { signal: controller.signal })
        } catch (error) {
          aborted = error
        }
        observed.onAllocation = () => {}
        if (aborted !== undefined) {
          ensure(
            isSpillwayError(aborted, 'SPILLWAY_ABORTED'),
            `wrapModules aborted at allocation ${atAllocation} rejected with ${String(aborted)}, not SPILLWAY_ABORTED`,
          )
          const when = `after a wrapModules that was aborted at allocation ${atAllocation}`
          await rig.ensureHeld(held, `handles and bytes ${when}`)
          ensureSame(snapshot(engine).stats, stats, `statistics ${when}`)
          // Other modules than those of the call that was aborted: nothing of it may turn up.
          await engine.wrap(layerSpecs(2, undefined, 3 * subject.layers))
          await engine.ready()
          await engine.forward({ what: `a forward ${when}` })
        }
        await engine.offloader.dispose()
        await rig.ensureHeld(before, 'handles and bytes after dispose')
        return count() >= atAllocation
      }),
  },
  {
    name: 'a signal that fired before, and specs that are wrong, leave nothing',
    level: 1,
    async run(rig, subject) {
      const engine = await Engine.create(rig, { backends: [subject.configured] })
      const { offloader } = engine
      const held = rig.held()
      const signal = AbortSignal.abort()
      await ensureCode('SPILLWAY_ABORTED', 'wrapModules with a signal that has fired', () =>
        offloader.wrapModules(model(subject.layers), { signal }),
      )
      const [one] = layerSpecs(1) as [ModuleSpec]
      const wrong: [string, unknown][] = [
        ['no module', []],
        ['two modules of one name', [one, one]],
        ['a module that is null', [null]],
        ['a shape of NaN', [{ ...one, parameters: [{ ...one.parameters[0]!, shape: [Number.NaN, 3] }] }]],
        ['a tie to nothing', [{ ...one, parameters: [{ ...one.parameters[0]!, tiedTo: 'no.such' }] }]],
      ]
      for (const [what, specs] of wrong) {
        await ensureCode('SPILLWAY_INVALID_SPEC', `wrapModules with ${what}`, () =>
          offloader.wrapModules(specs as never),
        )
      }
      await rig.ensureHeld(held, 'handles and bytes after calls that were refused')
      await engine.wrap(model(subject.layers))
      await engine.ready()
      await engine.forward()
      await engine.finish()
    },
  },
  {
    name: 'dispose in every state, twice, gives everything back',
    level: 1,
    async run(rig, subject) {
      const before = rig.held()
      const states: [string, (engine: Engine) => Promise<unknown>][] = [
        ['a new offloader', async () => {}],
        ['one whose modules are wrapped', (engine) => engine.wrap(model(subject.layers))],
        ['one that was never used', (engine) => engine.wrap(model(subject.layers)).then(() => engine.ready())],
        ['one in use', (engine) => wrapReady(engine, subject).then(() => engine.forward())],
        ['one with an open forward', (engine) => wrapReady(engine, subject).then(() => openForward(engine))],
        ['one with work enqueued', (engine) => wrapReady(engine, subject).then(() => enqueueForwards(engine))],
      ]
      for (const [what, prepare] of states) {
        const engine = await Engine.create(rig, { backends: [subject.configured] })
        await prepare(engine)
        const first = engine.offloader.dispose()
        ensure(engine.offloader.dispose() === first, 'a second dispose() returns the promise of the first')
        await first
        await rig.compute.synchronize()
        await rig.ensureHeld(before, `handles and bytes after disposing ${what}`)
      }
    },
  },
  {
    name: 'dispose while modules are being wrapped stops it and gives everything back',
    level: 1,
    run: (rig, subject) =>
      eachAllocation(async (atAllocation) => {
        const before = rig.held()
        const observed = new ObservedBackend(subject.configured)
        const { offloader } = await Engine.create(rig, { backends: [observed.configured] })
        let disposing: Promise<void> | undefined
        const count = countAllocations(observed, atAllocation, () => {
          disposing = offloader.dispose()
        })
        try {
          await offloader.wrapModules(model(subject.layers))
        } catch (error) {
          ensureCoded(error, `wrapModules, disposed at allocation ${atAllocation}`)
        }
        await disposing
        await offloader.dispose()
        await rig.ensureHeld(before, `handles and bytes after a dispose at allocation ${atAllocation} of wrapModules`)
        return count() >= atAllocation
      }),
  },
  {
    name: 'what supports says is there, and what it denies is not',
    level: 1,
    async run(rig, { configured, supports, layers }) {
      const observed = new ObservedBackend(configured)
      const engine = await Engine.open(rig, { backends: [observed.configured], specs: model(layers) })
      const steps = observed.steps as { kernels?: unknown; reloadable?: unknown }
      for (const [flag, member] of [
        ['kernels', steps.kernels],
        ['reload', steps.reloadable],
      ] as const) {
        const name = flag === 'reload' ? 'reloadable' : flag
        ensure(
          (member !== undefined) === supports[flag],
          `supports.${flag} is ${supports[flag]}, and what create() returned ${member === undefined ? 'lacks' : 'has'} ${name}`,
        )
      }
      if (!supports.kernels) {
        const weight = engine.offloader.modules.get('layers.0')!.parameters.get('attention.weight')!
        const operation: KernelOperation = { kind: 'linear', weight, maxRows: 4, input: 'f32', output: 'f32' }
        ensureSame(engine.offloader.planKernel(operation), null, 'planKernel, since supports.kernels is false')
      }
      await engine.finish()
    },
  },
]

/** Calls `body` with 1, 2, … until it says that there was no such allocation. */
async function eachAllocation(body: (atAllocation: number) => Promise<boolean>): Promise<void> {
  let atAllocation = 1
  while (await body(atAllocation)) atAllocation++
  ensureAtLeast(atAllocation, 2, 'allocations that the backend makes through its context in wrapModules, and one')
}

/** Calls `action` at the given allocation from now on; returns how many there were. */
function countAllocations(observed: ObservedBackend, at: number, action: () => void): () => number {
  let count = 0
  observed.onAllocation = () => {
    if (++count === at) action()
  }
  return () => count
}

function snapshot(engine: Engine) {
  const { offloadedBytes, residentBytes, slotBytes, onloadedBytes } = engine.offloader.stats()
  return { stats: { offloadedBytes, residentBytes, slotBytes, onloadedBytes } }
}

async function wrapReady(engine: Engine, { layers }: Subject): Promise<void> {
  await engine.wrap(model(layers))
  await engine.ready()
}

async function openForward(engine: Engine): Promise<void> {
  const scope = engine.offloader.beginForward(engine.rig.compute)
  scope.before(engine.order[1]!)
}

async function enqueueForwards(engine: Engine): Promise<void> {
  const reading = await engine.reading()
  for (let round = 0; round < 2; round++) {
    engine.offloader.forward(engine.rig.compute, (scope) => reading.enqueue(scope, engine.rig.compute))
  }
  await reading.dispose()
}
