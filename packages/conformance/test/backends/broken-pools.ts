import type { Fence, ResidencyBackend, ResidencySteps, SleepReport, WakeReport } from '@spillway/core'
import { type Entry, PoolSteps, poolOf } from './pool.js'

/** A residency backend with one mistake, the tests that must find it, and what they must say. */
export interface BrokenPool {
  readonly mistake: string
  readonly backend: ResidencyBackend<Readonly<Record<string, never>>>
  readonly caughtBy: readonly { readonly test: string; readonly says: RegExp }[]
}

/** Sleeps, and holds on to its memory. */
class GivesNothingBack extends PoolSteps {
  override async giveBack(): Promise<void> {}
}

class BringsNothingBack extends PoolSteps {
  override restore(): number {
    return 0
  }
}

/** Unmaps what other streams may still use. */
class DoesNotWait extends PoolSteps {
  override sleep(options: Parameters<ResidencySteps['sleep']>[0]): Promise<SleepReport> {
    return super.sleep({ ...options, after: [] })
  }
}

/** Makes an image of what its owner has on the host already. */
class StoresTwice extends PoolSteps {
  override keeps(entry: Entry, level: 0 | 1 | 2): boolean {
    return super.keeps(entry, level) || entry.recovery.kind === 'backed'
  }
}

/** Keeps an image of weights at level 2 as well. */
class DiscardsNothing extends PoolSteps {
  override keeps(entry: Entry): boolean {
    return super.keeps(entry, 1)
  }
}

class ForgetsTheEpoch extends PoolSteps {
  override raiseEpoch(): void {}
}

class KeepsItsImages extends PoolSteps {
  readonly #kept: Entry['image'][] = []
  override async dropImages(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      this.#kept.push(entry.image)
      entry.image = undefined
    }
  }
  override async dispose(): Promise<void> {
    await super.dispose()
    for (const image of this.#kept) await image?.dispose()
  }
}

/** When there is no room for all, what was mapped so far stays, and is forgotten. */
class KeepsHalfAWake extends PoolSteps {
  override async mapAll(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      const memory = this.device.virtualMemory.createPhysical(entry.mappedBytes, entry.tag)
      entry.range.map(0, memory)
      entry.memory = memory
    }
  }
}

class WakesBackwards extends PoolSteps {
  override async wake(options?: Parameters<ResidencySteps['wake']>[0]): Promise<WakeReport> {
    this.entries.reverse()
    return super.wake(options)
  }
}

/** Never says that a fence is open. */
class KeepsItsFencesShut extends PoolSteps {
  override fence(module: string): Fence {
    return { ...super.fence(module), open: false }
  }
}

const row = 'residency › async, checked › '
export const brokenPools: readonly BrokenPool[] = [
  {
    mistake: 'gives nothing back',
    backend: poolOf(GivesNothingBack),
    caughtBy: [
      {
        test: `${row}level 1: memory is given back`,
        says: /device bytes that sleeping gave back: got 0, expected \d+/,
      },
    ],
  },
  {
    mistake: 'brings nothing back',
    backend: poolOf(BringsNothingBack),
    caughtBy: [
      {
        test: `${row}level 1: memory is given back`,
        says: /the forward after waking: embed\.weight, read as module 1 of \d+: 256 of 256 bytes are wrong/,
      },
    ],
  },
  {
    mistake: 'does not wait for the streams it is told of',
    backend: poolOf(DoesNotWait),
    caughtBy: [{ test: `${row}sleep waits for the streams in after`, says: /early-free|still uses|in use/ }],
  },
  {
    mistake: 'stores backed memory twice',
    backend: poolOf(StoresTwice),
    caughtBy: [
      {
        test: `${row}backed memory comes back`,
        says: /copiedBytes of a sleep where everything is backed: got \d+, expected 0/,
      },
    ],
  },
  {
    mistake: 'keeps weights at level 2',
    backend: poolOf(DiscardsNothing),
    caughtBy: [{ test: `${row}level 2 discards weights`, says: /discardedBytes: got 0, expected at least \d+/ }],
  },
  {
    mistake: 'forgets to raise the epoch',
    backend: poolOf(ForgetsTheEpoch),
    caughtBy: [
      {
        test: `${row}discard gives the memory of a tag back`,
        says: /the epoch of kv_cache after it was discarded: got 0, expected at least 1/,
      },
    ],
  },
  {
    mistake: 'keeps its images',
    backend: poolOf(KeepsItsImages),
    caughtBy: [{ test: `${row}again and again, nothing grows`, says: /handles and bytes in sleep \d: got/ }],
  },
  {
    mistake: 'keeps half of a wake for which there was no room',
    backend: poolOf(KeepsHalfAWake),
    caughtBy: [
      {
        test: `${row}no room to wake`,
        says: /handles and bytes after a wake for which there was no room: got/,
      },
      { test: 'fault: every point where the device can fail › wake', says: /failure \d+ of every point/ },
    ],
  },
  {
    mistake: 'rebuilds in the wrong order',
    backend: poolOf(WakesBackwards),
    caughtBy: [{ test: `${row}rebuild is called at each wake`, says: /calls of rebuild at wake 1: got \[3,2,1,0\]/ }],
  },
  {
    mistake: 'keeps its fences shut',
    backend: poolOf(KeepsItsFencesShut),
    caughtBy: [{ test: `${row}the fence of a module opens`, says: /the fence of embed is open when awake/ }],
  },
]
