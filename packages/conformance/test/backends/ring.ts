import type { BackendContext, OffloaderSteps, PlacementBackend } from '@spillway/core'
import { type RingConfig, SlotSteps } from './slot-steps.js'

/**
 * A placement backend that works as a real one does, ahead and on a stream of its own. It is right; the broken backends
 * of these tests are this one with one thing about it changed.
 */
export class RingSteps extends SlotSteps {
  synchronize(options?: { readonly signal?: AbortSignal }): Promise<void> {
    return this.copies.synchronize(options)
  }
}

export const ring: PlacementBackend<RingConfig> = {
  name: 'ring',
  apiVersion: 1,
  role: 'placement',
  supports: { offloads: true, graphs: false, unpinned: true, kernels: false, reload: false },
  options: { slots: { type: 'integer', default: 2, min: 1, help: 'device slots' } },
  create: async (context, config) => new RingSteps(context, config),
}

/**
 * Copies a layer in whenever it is about to run, on the forward's own stream: slow, and legal in a capture, since it
 * trusts nothing that was in a slot before.
 */
export class InOrderSteps extends SlotSteps {
  override before(i: number): void {
    this.onload(i)
  }
  override after(): void {}
  override restore(): void {}
  override onload(i: number): void {
    const slot = this.slotOf(i)
    slot.holds = undefined
    this.copy(this.stream, slot, i)
    slot.holds = i
  }
  /** What is recorded is not done, and not counted. */
  override countsOnload(): boolean {
    return !this.stream.capturing
  }
}

export const inOrder: PlacementBackend<RingConfig> = {
  ...ring,
  name: 'in-order',
  supports: { ...ring.supports, graphs: true },
  create: async (context, config) => new InOrderSteps(context, config),
}

/** The same, made of another class. */
export function ringOf(
  Steps: new (context: BackendContext, config: RingConfig) => OffloaderSteps,
): PlacementBackend<RingConfig> {
  return { ...ring, name: 'broken', create: async (context, config) => new Steps(context, config) }
}
