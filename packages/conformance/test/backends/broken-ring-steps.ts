import {
  type DeviceBuffer,
  dtypeBytes,
  type Event,
  elementCount,
  type ForwardSteps,
  type HostBuffer,
  type ModuleSpec,
  type OffloadStats,
  type PlacedModule,
  type Replacement,
  Slab,
  type Stream,
  slabLayout,
} from '@spillway/core'
import { InOrderSteps, RingSteps } from './ring.js'
import type { Placed, Slot } from './slot-steps.js'

export class ForgetsTheWait extends RingSteps {
  override awaitLoaded(): void {}
}

export class WaitsOnTheWrongEvent extends RingSteps {
  override awaitLoaded(_: number, stream: Stream): void {
    stream.wait(this.fork)
  }
}

/** Takes the slot as free when its layer begins, not when it is done. */
export class FreesEarly extends RingSteps {
  override before(i: number, stream: Stream): void {
    super.before(i, stream)
    super.after(i)
  }
  override after(): void {}
}

export class OverwritesWhatIsRead extends RingSteps {
  #forks = 0
  // The first copies come after the allocation of their slots; nothing has read those yet.
  override forkCopies(): void {
    if (this.#forks++ < this.slots.length) super.forkCopies()
  }
}
export class PlacesLessThanItSays extends RingSteps {
  override isOffloaded(spec: ModuleSpec, targets: ReadonlySet<string>): boolean {
    return super.isOffloaded(spec, targets) && spec.name !== 'layers.1'
  }
  override stats(): OffloadStats {
    const stats = super.stats()
    const layer = this.placed.get('layers.1')
    const bytes = layer === undefined ? 0 : layer.own.reduce((sum, one) => sum + slabLayout([one]).bytes, 0)
    return {
      ...stats,
      offloadedBytes: stats.offloadedBytes + bytes,
      residentBytes: stats.residentBytes - bytes,
    }
  }
}

/** Has every layer on the device besides, where it does not count it. */
export class HidesDeviceMemory extends RingSteps {
  readonly #hidden: DeviceBuffer[] = []
  override async place(...[spec, own, offloaded, signal]: Parameters<RingSteps['place']>): Promise<Placed> {
    const placed = await super.place(spec, own, offloaded, signal)
    if (offloaded) {
      const { compute } = this.context
      const recovery = { kind: 'copy' } as const
      const bytes = placed.slab!.buffer.bytes
      this.#hidden.push(this.context.memory('workspace').allocate(bytes, { stream: compute, recovery }))
    }
    return placed
  }
  override async dispose(): Promise<void> {
    await super.dispose()
    for (const buffer of this.#hidden) await buffer.dispose()
  }
}

export class CopiesOnTheComputeStream extends RingSteps {
  override onload(i: number): void {
    const slot = this.slotOf(i)
    slot.holds = undefined
    this.copy(this.stream, slot, i)
    this.stream.record(slot.loaded)
    slot.holds = i
  }
}

const leaked: Event[] = []
export class LeaksAHandle extends RingSteps {
  override end(ok: boolean): void {
    super.end(ok)
    leaked.push(this.context.device.createEvent())
  }
}

/** Takes a bounce buffer for each layer, past the context. */
export class PinsWhatMustNotBePinned extends RingSteps {
  readonly #bounce: HostBuffer[] = []
  override async place(...[spec, own, offloaded, signal]: Parameters<RingSteps['place']>): Promise<Placed> {
    const { device } = this.context
    if (offloaded) this.#bounce.push(await device.allocateHost(64, { storage: 'pinned' }))
    return super.place(spec, own, offloaded, signal)
  }
  override async dispose(): Promise<void> {
    await super.dispose()
    for (const buffer of this.#bounce) await buffer.dispose()
  }
}

export class NeverPins extends RingSteps {
  override async place(...[spec, own, offloaded, signal]: Parameters<RingSteps['place']>): Promise<Placed> {
    const placed = await super.place(spec, own, offloaded, signal)
    if (!offloaded || placed.slab === undefined) return placed
    const { bytes } = placed.slab.buffer
    await placed.slab.buffer.dispose()
    const buffer = await this.context.device.allocateHost(bytes, { storage: 'pageable' })
    return { ...placed, slab: new Slab(own, buffer) }
  }
}

/** Takes it that every forward ends well, and so that the slots hold the first layers after each. */
export class BreaksAfterAThrow extends RingSteps {
  override end(ok: boolean): void {
    if (ok) super.end(ok)
    else for (const [s, slot] of this.slots.entries()) slot.holds = s
  }
}

/** Takes it that layers come in order, so that a slot holds what it should. */
export class CountsOnTheOrder extends RingSteps {
  override before(i: number, stream: Stream): void {
    this.awaitLoaded(i, stream)
  }
}

/** Forgets that a forward may be on another stream than the last. */
export class KnowsOneStream extends RingSteps {
  override follow(stream: Stream): void {
    if (this.stream === stream) super.follow(stream)
  }
}

/** Copies as many bytes as the elements of each parameter have, and so cuts off the end of one with gaps. */
export class LosesBytesOfStrides extends RingSteps {
  override copy(stream: Stream, slot: Slot, i: number): void {
    const { own, slab } = this.ring[i]!
    const { offsets } = slabLayout(own)
    for (const { name, dtype, shape } of own) {
      const [at, bytes] = [offsets.get(name)!, elementCount(shape) * dtypeBytes[dtype]]
      stream.copy(slot.buffer, slab!.buffer, { toOffset: at, fromOffset: at, bytes })
      this.onloadedBytes += bytes
    }
  }
}

/** Remembers a module as soon as it has memory for it. */
export class KeepsWhatWasAborted extends RingSteps {
  override async place(...[spec, own, offloaded, signal]: Parameters<RingSteps['place']>): Promise<Placed> {
    const placed = await super.place(spec, own, offloaded, signal)
    this.placed.set(spec.name, placed)
    return placed
  }
}

export class KeepsMemoryOfAFailure extends RingSteps {
  override async giveBack(): Promise<void> {}
}

/** Makes room first: when there is none for the new parameters, the old ones are gone too. */
export class GivesTheOldAwayFirst extends RingSteps {
  override async replaceParameters(name: string, next: ReadonlyMap<string, Replacement | null>): Promise<PlacedModule> {
    const { spec, own, slab } = this.placed.get(name)!
    const { buffer } = slab!
    const copy = await this.context.device.allocateHost(buffer.bytes, { storage: 'pageable' })
    this.context.compute.copy(copy, buffer)
    await this.context.compute.synchronize()
    await buffer.dispose()
    const again = await this.place(spec, own, buffer.kind === 'host-buffer')
    this.context.compute.copy(again.slab!.buffer, copy)
    await this.context.compute.synchronize()
    await copy.dispose()
    this.placed.set(name, again)
    return super.replaceParameters(name, next)
  }
}

/** Says more onloads than there were. */
export class CountsTwice extends RingSteps {
  override copy(stream: Stream, slot: Slot, i: number): void {
    super.copy(stream, slot, i)
    if (this.onloadedBytes % 3 === 0) this.onloadedBytes += 1
  }
}

export class LeavesItsSlots extends RingSteps {
  override async dispose(): Promise<void> {
    this.slots.splice(0)
    await super.dispose()
  }
}

/** Believes what it enqueued, though enqueuing failed. */
export class BelievesAFailedCopy extends RingSteps {
  override onload(i: number): void {
    const slot = this.slotOf(i)
    slot.holds = i
    this.forkCopies()
    this.copy(this.copies, slot, i)
    this.copies.record(slot.loaded)
  }
}

export class ForgetsToRebuild extends RingSteps {
  override rebuild(): void {}
}

/** In a capture, too, takes what the last forward left in a slot for what is there at a replay. */
export class TrustsTheSlotInAGraph extends InOrderSteps {
  override beginForward(stream: Stream): ForwardSteps {
    const forward = super.beginForward(stream)
    if (!stream.capturing) return forward
    const before = this.slots.map(({ holds }) => holds)
    return {
      ...forward,
      end: (ok) => {
        forward.end(ok)
        for (const [s, slot] of this.slots.entries()) slot.holds = before[s]
      },
    }
  }
  override before(i: number): void {
    if (this.slotOf(i).holds !== i) this.onload(i)
  }
}
