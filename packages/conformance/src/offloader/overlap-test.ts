import type { OffloaderSteps } from '@spillway/core'
import { fail } from '../assert.js'
import { Engine } from '../engine.js'
import { largeModel } from '../model.js'
import { ObservedBackend } from '../observed-backend.js'
import { Rig } from '../rig.js'
import type { Subject } from '../subject.js'

const seeds = 24

/**
 * Whether copies run beside the compute stream's work. A backend says that they do by having `synchronize`: a stream of
 * its own to be waited for. Then there must be a schedule in which a module's work is done and a copy that was started
 * before is not; if copies are part of the compute stream, there can be none. An adversarial device has a schedule for
 * each seed; a GPU would have one that nobody can see.
 */
export async function checkOverlap({ configured, layers, openDevice }: Subject): Promise<void> {
  const specs = largeModel(layers, 4096)
  const outcome: Outcome = { claims: true, copies: true, overlaps: false }
  for (let adversarialSeed = 0; adversarialSeed < seeds; adversarialSeed++) {
    await Rig.run({ openDevice, row: { adversarialSeed }, memoryLimitBytes: 2 ** 28 }, async (rig) => {
      const observed = new ObservedBackend(configured)
      const engine = await Engine.open(rig, { backends: [observed.configured], specs })
      outcome.claims = (observed.steps as OffloaderSteps).synchronize !== undefined
      if (outcome.claims) await engine.forward()
      if (unanswered(outcome)) await watchForward(rig, engine, outcome)
      await engine.finish()
    })
    if (!unanswered(outcome)) return
  }
  fail(
    `in ${seeds} schedules no copy ever ran beside the compute stream's work: whenever a module was done, so was ` +
      'every copy started before. This backend has synchronize(), so it says that it copies on a stream of its own; copy ' +
      'there, let compute wait for the one copy it reads, or leave synchronize() out',
  )
}

/** Without a claim, or without copies, there is nothing to find. */
function unanswered({ claims, copies, overlaps }: Outcome): boolean {
  return claims && copies && !overlaps
}

interface Outcome {
  claims: boolean
  copies: boolean
  overlaps: boolean
}

/** One forward, with a mark behind each module; at each mark, what the device has copied against what was started. */
async function watchForward(rig: Rig, engine: Engine, outcome: Outcome): Promise<void> {
  const { offloader } = engine
  const copied = () => rig.device.counters().hostToDeviceBytes
  const claimedBefore = (await engine.settledStats()).onloadedBytes
  const copiedBefore = copied()
  const reading = await engine.reading()
  const probe = rig.device.createStream()
  const marks: { readonly event: ReturnType<typeof rig.device.createEvent>; readonly startedBytes: number }[] = []
  offloader.forward(rig.compute, ({ before, after }) => {
    let at = 0
    for (const name of engine.order) {
      before(name)
      at = reading.enqueueModule(name, rig.compute, at)
      const event = rig.device.createEvent()
      rig.compute.record(event)
      marks.push({ event, startedBytes: offloader.stats().onloadedBytes - claimedBefore })
      after(name)
    }
  })
  for (const { event, startedBytes } of marks) {
    probe.wait(event)
    await probe.synchronize()
    outcome.overlaps ||= copied() - copiedBefore < startedBytes
    await event.dispose()
  }
  await rig.compute.synchronize()
  outcome.copies = (await engine.settledStats()).onloadedBytes > claimedBefore
  await Promise.all([reading.dispose(), probe.dispose()])
}
