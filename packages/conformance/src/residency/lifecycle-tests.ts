import { isSpillwayError } from '@spillway/core'
import { ensure, ensureCode, ensureCoded, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { eachFailure } from '../failures.js'
import type { FaultTest } from '../offloader/fault-tests.js'
import type { RigTest, Subject } from '../subject.js'
import { checkMemory, ownMemory, residencyOf } from './memory.js'
import { openAwake } from './sleep-tests.js'

/** Calls at the wrong time, twice, aborted. */
export const residencyLifecycleTests: readonly RigTest[] = [
  {
    name: 'calls at the wrong time are refused and change nothing',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const scope = engine.offloader.beginForward(rig.compute)
      for (const call of ['sleep', 'wake', 'discard'] as const) {
        await ensureCode('SPILLWAY_FORWARD_OPEN', `${call} in a forward`, () =>
          call === 'sleep' ? residency.sleep({ level: 1 }) : call === 'wake' ? residency.wake() : residency.discard([]),
        )
      }
      scope.end(true)
      for (const level of [3, -1, Number.NaN, '1', undefined]) {
        await ensureCode('SPILLWAY_INVALID_ARGUMENT', `sleep at level ${String(level)}`, () =>
          residency.sleep({ level: level as never }),
        )
      }
      await ensureCode('SPILLWAY_ABORTED', 'sleep with a signal that has fired', () =>
        residency.sleep({ level: 1, signal: AbortSignal.abort() }),
      )
      await engine.forward({ what: 'the forward after calls that were refused' })
      const both = await Promise.allSettled([residency.sleep({ level: 1 }), residency.wake()])
      ensure(
        both[0].status === 'fulfilled' &&
          both[1].status === 'rejected' &&
          isSpillwayError(both[1].reason, 'SPILLWAY_INVALID_STATE'),
        'of two calls at once the second is refused with SPILLWAY_INVALID_STATE',
      )
      await residency.wake()
      await engine.forward({ what: 'the forward after waking' })
    },
  },
  {
    name: 'sleeping twice and waking twice do no harm',
    level: 1,
    async run(rig, subject) {
      const engine = await openAwake(rig, subject)
      const residency = residencyOf(engine.offloader)
      const awake = rig.held()
      const allowRefusal = async (what: string, call: () => Promise<unknown>): Promise<void> => {
        try {
          await call()
        } catch (error) {
          ensureCoded(error, what)
        }
      }
      await allowRefusal('waking when awake', () => residency.wake())
      await residency.sleep({ level: 1 })
      await allowRefusal('sleeping when asleep', () => residency.sleep({ level: 1 }))
      await allowRefusal('sleeping deeper than level 0 when asleep', () => residency.sleep({ level: 0 }))
      await residency.wake()
      await allowRefusal('waking when awake', () => residency.wake())
      await engine.forward({ what: 'the forward after waking' })
      await rig.ensureHeld(awake, 'handles and bytes after waking')
    },
  },
  {
    name: 'dispose in every state, twice, gives everything back',
    level: 1,
    async run(rig, subject) {
      const before = rig.held()
      const states: [string, (residency: ReturnType<typeof residencyOf>) => Promise<unknown>][] = [
        ['awake', async () => {}],
        ['asleep at level 0', (residency) => residency.sleep({ level: 0 })],
        ['asleep at level 1', (residency) => residency.sleep({ level: 1 })],
        ['asleep at level 2', (residency) => residency.sleep({ level: 2 })],
        ['discarded', (residency) => residency.discard(['weights'])],
        ['woken', (residency) => residency.sleep({ level: 1 }).then(() => residency.wake())],
      ]
      for (const [what, prepare] of states) {
        const { offloader } = await openAwake(rig, subject)
        await prepare(residencyOf(offloader))
        const first = offloader.dispose()
        ensure(offloader.dispose() === first, 'a second dispose() returns the promise of the first')
        await first
        await rig.ensureHeld(before, `handles and bytes after disposing one that is ${what}`)
        await ensureCode('SPILLWAY_DISPOSED', 'state after dispose', () => residencyOf(offloader).state())
      }
    },
  },
  {
    name: 'memory comes in the size asked for, is charged, and is given back',
    level: 1,
    async run(rig, { configured }) {
      const { offloader } = await Engine.create(rig, { backends: [configured] })
      const held = rig.held()
      const source = offloader.memory('workspace')
      const options = { stream: rig.compute, recovery: { kind: 'copy' } } as const
      for (const bytes of [1, 4096, 4097, 100_000]) {
        const buffer = source.allocate(bytes, options)
        ensure(buffer.bytes >= bytes, `asked for ${bytes} bytes, a buffer of ${buffer.bytes} came`)
        ensure(rig.held().deviceBytes - held.deviceBytes >= bytes, `${bytes} bytes are not charged to the budget`)
        await buffer.dispose()
        await rig.ensureHeld(held, `handles and bytes after ${bytes} bytes were given back`)
      }
      const error = await ensureCode('SPILLWAY_OUT_OF_MEMORY', 'more than the device has', () =>
        source.allocate(2 * rig.device.budget.limitBytes, options),
      )
      ensure(typeof error.details.requestedBytes === 'number', 'SPILLWAY_OUT_OF_MEMORY has details.requestedBytes')
      await rig.ensureHeld(held, 'handles and bytes after an allocation that failed')
    },
  },
]

/** Sleep, wake and discard, broken off at every place where the device can fail. */
export const residencyFaultTests: readonly FaultTest[] = (['allocate', 'sleep', 'wake', 'discard'] as const).map(
  (call) => ({
    name: call,
    level: 1,
    everywhere: true,
    run: async (subject, source) => {
      await eachFailure(subject, source, (trial) => tryCall(subject, call, trial))
    },
  }),
)

async function tryCall(
  { layers }: Subject,
  call: 'allocate' | 'sleep' | 'wake' | 'discard',
  { rig, backend, attempt }: Parameters<Parameters<typeof eachFailure>[2]>[0],
): Promise<void> {
  const engine = await openAwake(rig, { configured: backend, layers } as Subject)
  const { offloader } = engine
  const residency = residencyOf(offloader)
  const cache = await ownMemory(rig, offloader, { tag: 'kv_cache', bytes: 5000 })
  if (call === 'wake') await residency.sleep({ level: 1 })
  const [held, epoch] = [rig.held(), residency.epoch('kv_cache')]
  const error = await attempt(async () => {
    if (call === 'allocate') {
      const options = { stream: rig.compute, recovery: { kind: 'copy' } } as const
      await offloader.memory('workspace').allocate(10_000, options).dispose()
    } else if (call === 'sleep') await residency.sleep({ level: 1 })
    else if (call === 'wake') await residency.wake()
    else await residency.discard(['kv_cache'])
  })
  if (error !== undefined && call === 'allocate') await rig.ensureHeld(held, 'handles and bytes after the failure')
  // Old state or new, both can be told: what is away comes back.
  if ([...residency.state().values()].some((state) => state !== 'awake'))
    await residency.wake({ before: [rig.compute] })
  for (const [tag, state] of residency.state()) ensureSame(state, 'awake', `the state of ${tag} after waking`)
  if (residency.epoch('kv_cache') === epoch) await checkMemory(rig, cache, 'the cache, its epoch unchanged')
  else ensure(call === 'discard', `the epoch of the cache has changed in ${call}`)
  await engine.forward({ what: `the forward after ${call} failed` })
  await residency.sleep({ level: 1 })
  await residency.wake()
  await engine.forward({ what: 'the forward after one more sleep' })
}
