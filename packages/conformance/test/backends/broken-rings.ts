import type { PlacementBackend } from '@spillway/core'
import * as steps from './broken-ring-steps.js'
import { inOrder, ring, ringOf } from './ring.js'
import type { RingConfig } from './slot-steps.js'

/** A backend with one mistake, the tests that must find it, and what they must say. */
export interface BrokenBackend {
  readonly mistake: string
  readonly backend: PlacementBackend<RingConfig>
  /** Nothing else fails. */
  readonly alone?: true
  /** Parts of the paths of tests, each of which fails. */
  readonly caughtBy: readonly { readonly test: string; readonly says: RegExp }[]
}

const everyForward = 'offloader › async, checked › every parameter has its bytes in every forward'
const adversarial = 'offloader › adversarial order 1, checked › every parameter has its bytes in every forward'

export const brokenRings: readonly BrokenBackend[] = [
  {
    mistake: 'forgets the wait',
    backend: ringOf(steps.ForgetsTheWait),
    caughtBy: [
      { test: everyForward, says: /read-after-write: copy on stream 1 .* reads bytes that may not be written yet/ },
      { test: adversarial, says: /layers\.\d.*bytes are wrong[\s\S]*read-after-write/ },
    ],
  },
  {
    mistake: 'waits on the wrong event',
    backend: ringOf(steps.WaitsOnTheWrongEvent),
    caughtBy: [
      { test: everyForward, says: /read-after-write: copy on stream 1 .* reads bytes that may not be written yet/ },
    ],
  },
  {
    mistake: 'frees a slot early',
    backend: ringOf(steps.FreesEarly),
    caughtBy: [{ test: everyForward, says: /copy on stream 1 .* reads bytes that may not be written yet/ }],
  },
  {
    mistake: 'overwrites a slot that is still read',
    backend: ringOf(steps.OverwritesWhatIsRead),
    caughtBy: [
      { test: everyForward, says: /write-after-read: copy on stream 2 .* overwrites bytes that may still be read/ },
    ],
  },
  {
    mistake: 'places fewer bytes than it says',
    backend: ringOf(steps.PlacesLessThanItSays),
    caughtBy: [
      {
        test: 'offloader › async › bytes and storage kinds are what the statistics say',
        says: /reports offloadedBytes \d+, but its parameters off the device have \d+/,
      },
    ],
  },
  {
    mistake: 'has device memory that it does not count',
    backend: ringOf(steps.HidesDeviceMemory),
    caughtBy: [
      {
        test: 'offloader › async › device memory is what the statistics say, at its peak too',
        says: /device bytes in use, against residentBytes \+ slotBytes and rounding: got \d+, expected at most \d+/,
      },
    ],
  },
  {
    mistake: 'copies on the compute stream',
    alone: true,
    backend: ringOf(steps.CopiesOnTheComputeStream),
    caughtBy: [{ test: 'overlap › ', says: /no copy ever ran beside the compute stream's work/ }],
  },
  {
    mistake: 'leaks a handle',
    backend: ringOf(steps.LeaksAHandle),
    caughtBy: [{ test: everyForward, says: /still held: got \{"handles":\{"event":3\}/ }],
  },
  {
    mistake: 'pins memory with pinning off',
    backend: ringOf(steps.PinsWhatMustNotBePinned),
    caughtBy: [
      {
        test: 'offloader › async › with pinning off, no byte is pinned',
        says: /pinned bytes after wrapModules, with pinning off: got 512, expected 0/,
      },
    ],
  },
  {
    mistake: 'does not pin with pinning on',
    backend: ringOf(steps.NeverPins),
    caughtBy: [
      {
        test: 'offloader › async › with pinning on, host memory is pinned in exact size',
        says: /pageable bytes after wrapModules, with pinning on: got \d+, expected 0|live host memory has/,
      },
    ],
  },
  {
    mistake: 'breaks after a throw',
    backend: ringOf(steps.BreaksAfterAThrow),
    caughtBy: [
      {
        test: 'lifecycle › async › a forward that throws anywhere is followed by a right one',
        says: /the forward after one that threw (in|before) module \d+: layers\.\d+\..* bytes are wrong/,
      },
    ],
  },
  {
    mistake: 'counts on the order of modules',
    backend: ringOf(steps.CountsOnTheOrder),
    caughtBy: [
      {
        test: 'offloader › async › modules left out, repeated, reversed and in any order have their bytes',
        says: /the forward .*: layers\.\d+\..* bytes are wrong/,
      },
    ],
  },
  {
    mistake: 'knows one stream only',
    backend: ringOf(steps.KnowsOneStream),
    caughtBy: [
      {
        test: 'offloader › async, checked › forwards on other streams, each after the one before, read the right bytes',
        says: /write-after-read|read-after-write/,
      },
    ],
  },
  {
    mistake: 'loses bytes of odd strides',
    backend: ringOf(steps.LosesBytesOfStrides),
    caughtBy: [
      {
        test: 'offloader › async › odd dtypes, strides, scalars and empty tensors keep their bytes and layouts',
        says: /layers\.\d+\.\S+, read as module \d+ of \d+: \d+ of \d+ bytes are wrong/,
      },
    ],
  },
  {
    mistake: 'keeps what an aborted wrapModules had placed',
    backend: ringOf(steps.KeepsWhatWasAborted),
    caughtBy: [
      {
        test: 'lifecycle › async › an aborted wrapModules leaves nothing',
        says: /statistics after a wrapModules that was aborted|residentBytes|offloadedBytes/,
      },
      { test: 'fault: every point where the device can fail › wrapModules', says: /failure \d+ of every point/ },
    ],
  },
  {
    mistake: 'keeps the memory of a wrapModules that failed',
    backend: ringOf(steps.KeepsMemoryOfAFailure),
    caughtBy: [
      {
        test: 'lifecycle › async › an aborted wrapModules leaves nothing',
        says: /handles and bytes after a wrapModules that was aborted at allocation \d+: got/,
      },
      {
        test: 'fault: every point where the device can fail › wrapModules',
        says: /failure \d+ of every point .*: handles and bytes after a wrapModules that failed/,
      },
    ],
  },
  {
    mistake: 'gives the old parameters away before the new ones are there',
    alone: true,
    backend: ringOf(steps.GivesTheOldAwayFirst),
    caughtBy: [
      { test: 'fault: every point where the device can fail › replaceParameters', says: /failure \d+ of every point/ },
    ],
  },
  {
    mistake: 'counts more onloads than there were',
    backend: ringOf(steps.CountsTwice),
    caughtBy: [
      {
        test: 'offloader › async › every parameter has its bytes in every forward',
        says: /onloadedBytes, against the bytes that the device has copied .*: got \d+, expected \d+/,
      },
    ],
  },
  {
    mistake: 'leaves its slots behind',
    backend: ringOf(steps.LeavesItsSlots),
    caughtBy: [{ test: everyForward, says: /dispose left \d+ bytes behind/ }],
  },
  {
    mistake: 'does not rebuild its slots after a sleep',
    backend: ringOf(steps.ForgetsToRebuild),
    caughtBy: [
      {
        test: 'offloader › async › asleep and awake again',
        says: /the forward after waking, .*: layers\.\d\..* bytes are wrong.*at 0 came eeeeeeeeeeeeeeee/,
      },
    ],
  },
  {
    mistake: 'takes what is in a slot at the capture for what is there at a replay',
    backend: { ...inOrder, name: 'broken', create: async (...all) => new steps.TrustsTheSlotInAGraph(...all) },
    caughtBy: [
      {
        test: 'offloader › async › forwards in other orders between replays',
        says: /the replay after the forward .*: layers\.\d+\..* bytes are wrong/,
      },
      {
        test: 'offloader › async › a step in pieces, captured and not',
        says: /a step with pieces .* replayed: piece \d, .*: layers\.\d+\..* bytes are wrong/,
      },
    ],
  },
  {
    mistake: 'says that it supports reload, and does not',
    backend: { ...ring, name: 'broken', supports: { ...ring.supports, reload: true } },
    caughtBy: [
      {
        test: 'lifecycle › async › what supports says is there',
        says: /supports\.reload is true, and what create\(\) returned lacks reloadable/,
      },
    ],
  },
  {
    mistake: 'believes a copy that could not be enqueued',
    alone: true,
    backend: ringOf(steps.BelievesAFailedCopy),
    caughtBy: [
      {
        test: 'fault: every point where the device can fail › a forward',
        says: /failure \d+ of every point .*: the forward after one that failed: .*bytes are wrong/,
      },
    ],
  },
]
