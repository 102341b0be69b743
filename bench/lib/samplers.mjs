// @ts-check
/** @import { Stream } from '../../packages/core/dist/index.js' */

/**
 * A sampler of throughput: work a second, over as many pieces as fill `seconds`. Found once: every sample has as many.
 *
 * @param {object} options
 * @param {(index: number) => void} options.enqueue one piece of the work
 * @param {number} options.work of one piece, such as bytes
 * @param {readonly Stream[]} options.streams what it is enqueued to
 * @param {boolean} [options.waitForEach] for each piece before the next is enqueued
 * @param {number} options.seconds
 * @param {AbortSignal} options.signal
 * @returns {() => Promise<number>}
 */
export function throughput({ enqueue, work, streams, waitForEach = false, seconds, signal }) {
  /** @param {number} pieces */
  const run = async (pieces) => {
    const start = performance.now()
    for (let i = 0; i < pieces; i++) {
      enqueue(i)
      if (waitForEach || i === pieces - 1) await Promise.all(streams.map((stream) => stream.synchronize({ signal })))
    }
    return (performance.now() - start) / 1000
  }
  let pieces = 0
  return async () => {
    if (pieces === 0) {
      await run(1)
      pieces = await countFor(seconds, run)
    }
    // As much again: copies that another subject left under way are over then, and take nothing from what is timed.
    await run(pieces)
    return (work * pieces) / (await run(pieces))
  }
}

/**
 * A sampler of durations: seconds for one of `count` runs.
 *
 * @param {object} options
 * @param {(count: number) => Promise<void> | void} options.run
 * @param {number} options.count
 * @param {() => Promise<void>} [options.settle] what is left to wait for, untimed
 * @returns {() => Promise<number>}
 */
export function duration({ run, count, settle }) {
  return async () => {
    await run(count)
    await settle?.()
    const start = performance.now()
    await run(count)
    const seconds = (performance.now() - start) / 1000
    await settle?.()
    return seconds / count
  }
}

/**
 * @param {number} seconds
 * @param {(pieces: number) => Promise<number>} run
 */
async function countFor(seconds, run) {
  for (let pieces = 1; ; pieces *= 4) {
    const taken = await run(pieces)
    if (taken >= seconds / 4) return Math.max(1, Math.round((pieces * seconds) / taken))
  }
}
