// @ts-check
import { interleave } from '../lib/interleave.mjs'
import { roundsOf } from '../lib/limits.mjs'
import { duration } from '../lib/samplers.mjs'
import { isSpillwayError, loadNative, openDevice } from '../lib/spillway.mjs'
import { using } from '../lib/using.mjs'

/** @import { probe } from '../../tests/allocator/allocator-probe.ts' */
/** @import { Context } from '../lib/benchmark.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */

/**
 * What a cached allocation and a free take: in native code, and through JavaScript, both together.
 * @param {Context} context
 * @param {Recorder} recorder
 */
export function measureCalls(context, recorder) {
  measureNative(context, recorder)
  return using(async (use) => {
    const device = use(await openDevice(context.device))
    const stream = use(device.createStream())
    /** @type {Promise<void>[]} */
    const disposals = []
    const sample = duration({
      count: context.quick ? 100 : 10_000,
      run(count) {
        for (let i = 0; i < count; i++) disposals.push(device.allocate(4096, { tag: 'bench', stream }).dispose())
      },
      async settle() {
        await Promise.all(disposals.splice(0))
      },
    })
    const samples = await interleave({ sample }, { ...context, rounds: roundsOf(context) })
    recorder.figure('cached, through JavaScript: allocate and free', 's', samples('sample'))
    const { segmentsCreated, allocations } = device.memoryStats()
    recorder.check({
      name: 'allocations of one block that were cached',
      passed: segmentsCreated === 1 && allocations > 1,
      detail: `${allocations} allocations, ${segmentsCreated} segments`,
    })
  })
}

/**
 * By the addon of tests/allocator: the same sources as the device's allocator, over memory that is made up, so that what
 * is timed is the allocator alone.
 * @param {Context} context
 * @param {Recorder} recorder
 */
function measureNative({ quick }, recorder) {
  /** @type {typeof probe} */
  let addon
  try {
    addon = loadNative({
      from: new URL('../../tests/allocator/package.json', import.meta.url).href,
      name: 'allocator_probe',
    })
  } catch (error) {
    if (!isSpillwayError(error, 'SPILLWAY_ADDON_NOT_FOUND')) throw error
    recorder.note('calls in native code were not measured: tests/allocator is not built')
    return
  }
  const live = 1000
  const rig = addon.create(2 ** 40, 2 ** 21, 0)
  const runs = Array.from({ length: quick ? 2 : 9 }, () => addon.measure(rig, live, quick ? 1000 : 100_000))
  // The first one filled the cache.
  const warm = runs.slice(1)
  for (const call of /** @type {const} */ (['allocate', 'free'])) {
    const name = `cached, in native code, among ${live} blocks: ${call}`
    recorder.figure(
      `${name}, median`,
      's',
      warm.map((run) => run[call].medianNs / 1e9),
    )
    recorder.figure(
      `${name}, p99`,
      's',
      warm.map((run) => run[call].p99Ns / 1e9),
    )
  }
}
