import type { MemorySource, OffloaderSteps } from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { describe, expect, it } from 'vitest'
import { failure, liveHandles, onDevice } from './device-rig.js'
import { model, withSteps } from './model-rig.js'

const call = { prefix: '' }
const page = 4096

/** Handles, device bytes and host bytes: what a failed call must leave as it was. */
function held(device: NativeDevice): unknown {
  const { pinnedBytes, pageableBytes } = device.counters()
  return { handles: liveHandles(device), usedBytes: device.budget.usedBytes, pinnedBytes, pageableBytes }
}

describe('a device that is too small', () => {
  it('for the resident modules: names the module and what would help, for every k that fails', async () => {
    // Each of these takes one page: embed, layers.0, layers.2, norm.
    for (let pages = 0; pages < 4; pages++) {
      await onDevice({ memoryLimitBytes: Math.max(pages * page, 1) }, async (device) => {
        await withSteps(device, { groupSize: 2 }, async (steps) => {
          const before = held(device)
          const error = await failure('SPILLWAY_OUT_OF_MEMORY', () => steps.wrapModules(model(4), call))
          expect(error.message).toContain(['embed', 'layers.0', 'layers.2', 'norm'][pages])
          expect(error.message).toContain('--offload-num-in-group')
          expect(error.details).toMatchObject({ freeBytes: expect.any(Number), totalBytes: expect.any(Number) })
          expect(held(device)).toEqual(before)
          expect(steps.stats()).toEqual({ offloadedBytes: 0, residentBytes: 0, slotBytes: 0, onloadedBytes: 0 })
        })
      })
    }
  })

  it('for the slots: names the slot and the step, leaves no slot, and another try with room works', async () => {
    // embed and norm take a page each; then the slots.
    for (const slots of [0, 1, 2]) {
      await onDevice({ memoryLimitBytes: (2 + slots) * page }, async (device) => {
        await withSteps(device, { prefetchStep: 3 }, async (steps) => {
          await steps.wrapModules(model(4), call)
          const before = held(device)
          const error = await failure('SPILLWAY_OUT_OF_MEMORY', () => steps.postInit())
          expect(error.message).toContain(`slot ${slots + 1} of 3`)
          expect(error.message).toContain('--offload-prefetch-step')
          expect(held(device)).toEqual(before)
          expect(steps.stats()).toMatchObject({ slotBytes: 0, onloadedBytes: 0 })
        })
      })
    }
    await onDevice({ memoryLimitBytes: 5 * page }, async (device) => {
      await withSteps(device, { prefetchStep: 3 }, async (steps) => {
        await steps.wrapModules(model(4), call)
        await steps.postInit()
        expect(device.budget.usedBytes).toBe(5 * page)
      })
    })
  })

  it('for a replacement: the old parameters stand', async () => {
    await onDevice({ memoryLimitBytes: 3 * page }, async (device) => {
      await withSteps(device, { groupSize: 2 }, async (steps) => {
        // embed, layers.0, norm: full; the head is tied
        const placed = (await steps.wrapModules(model(1), call)).filter(({ spec }) => spec.name !== 'head')
        const before = { held: held(device), stats: steps.stats() }
        const { tensor, use } = placed.at(-1)!.parameters.get('weight')!
        const next = new Map([['weight', { tensor, use }]])
        await failure('SPILLWAY_OUT_OF_MEMORY', () => steps.replaceParameters('norm', next))
        expect({ held: held(device), stats: steps.stats() }).toEqual(before)
      })
    })
  })
})

describe('whichever allocation fails', () => {
  /** Counts allocations of both kinds and makes number `k` fail. */
  async function failingAt(
    device: NativeDevice,
    k: number,
    params: readonly string[],
    body: (steps: OffloaderSteps) => Promise<void>,
  ): Promise<number> {
    let count = 0
    const next = (): void => {
      if (++count === k) throw new Error(`allocation ${k} fails`)
    }
    const memory = (tag: string): MemorySource => ({
      tag,
      allocate(bytes, { stream }) {
        next()
        return device.allocate(bytes, { tag, stream })
      },
    })
    const host = {
      async allocate(bytes: number) {
        next()
        return device.allocateHost(bytes, { storage: 'pinned' })
      },
    }
    await withSteps(device, { groupSize: 2, prefetchStep: 2, params }, body, { memory, host })
    return count
  }

  it.each([
    ['whole layers', [], 8 + 2], // embed, norm and six layers, then two slots
    ['parts of layers', ['mlp'], 8 + 3 + 2], // three of the layers in both places
  ])('wrapModules and postInit leave nothing of the failed call, with %s', async (_, params, expected) => {
    await onDevice({}, async (device) => {
      const all = await failingAt(device, 0, params, async (steps) => {
        await steps.wrapModules(model(6), call)
        await steps.postInit()
      })
      expect(all).toBe(expected)
      for (let k = 1; k <= all; k++) {
        await failingAt(device, k, params, async (steps) => {
          let before = held(device)
          let error: unknown
          try {
            await steps.wrapModules(model(6), call)
            before = held(device)
            await steps.postInit()
          } catch (thrown) {
            error = thrown
          }
          expect(String(error)).toContain(`allocation ${k} fails`)
          expect(held(device)).toEqual(before)
        })
      }
    })
  })
})

describe('an aborted wrapModules', () => {
  it('releases what it had and counts none of its layers', async () => {
    await onDevice({}, async (device) => {
      for (let after = 0; after <= 3; after++) {
        const controller = new AbortController()
        let allocations = 0
        const host = {
          async allocate(bytes: number) {
            if (allocations++ === after) controller.abort(new Error('enough'))
            return device.allocateHost(bytes, { storage: 'pinned' })
          },
        }
        await withSteps(
          device,
          { groupSize: 4 },
          async (steps) => {
            const before = held(device)
            const signal = controller.signal
            await steps.wrapModules(model(1), call)
            const first = held(device)
            expect(first).not.toEqual(before)
            const more = model(24)
              .filter(({ role }) => role === 'layer')
              .slice(1)
            const error = await failure('SPILLWAY_ABORTED', () => steps.wrapModules(more, { prefix: '', signal }))
            expect(error.cause).toMatchObject({ message: 'enough' })
            expect(held(device)).toEqual(first)
            // Layer 0 counted, those of the aborted call not: the third from here completes the group.
            const placed = await steps.wrapModules(more.slice(0, 3), call)
            expect(placed.map(({ parameters }) => parameters.get('mlp.weight')!.storage)).toEqual([
              'device',
              'device',
              'pinned',
            ])
          },
          { host },
        )
      }
    })
  })

  it('does nothing when the signal has fired before', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps) => {
        const before = held(device)
        await failure('SPILLWAY_ABORTED', () =>
          steps.wrapModules(model(2), { prefix: '', signal: AbortSignal.abort() }),
        )
        expect(held(device)).toEqual(before)
      })
    })
  })
})

describe('postInit', () => {
  it('is refused while the compute stream is being captured, and leaves nothing', async () => {
    await onDevice({}, async (device) => {
      await withSteps(device, {}, async (steps, compute) => {
        await steps.wrapModules(model(3), call)
        const before = held(device)
        compute.beginCapture()
        await failure('SPILLWAY_CAPTURE', () => steps.postInit())
        await compute.endCapture().dispose()
        expect(held(device)).toEqual(before)
      })
    })
  })
})
