// @ts-check
/** @import { Decoding } from './decoding.mjs' */
/** @import { Recorder } from './recorder.mjs' */

/**
 * That every token was computed, and how: one replay each where the model says that it replays.
 * @param {Recorder} recorder
 * @param {string} name
 * @param {Decoding} decoding
 */
export function checkReplays(recorder, name, decoding) {
  const { graph, reason } = decoding.model.decodeGraph
  recorder.parameters({ [`${name}, graph`]: graph })
  if (!graph) recorder.note(`${name}: no graph: ${reason}`)
  const { tokens, graphLaunches } = decoding.sampled
  recorder.checkEqual(`${name}: graphs launched for ${tokens} tokens`, graphLaunches, graph ? tokens : 0)
}

/**
 * That every token brought all offloaded weights in. Copies run ahead of the tokens: by the slots, once a sample.
 * @param {Recorder} recorder
 * @param {string} name
 * @param {Decoding} decoding
 */
export function checkOnloads(recorder, name, decoding) {
  const { samples, tokens, onloadedBytes } = decoding.sampled
  const { offloadedBytes, slotBytes, pinned } = decoding.model.stats()
  recorder.parameters({ [`${name}, offloaded bytes`]: offloadedBytes, [`${name}, pinned`]: pinned.pin })
  recorder.check({
    name: `${name}: bytes brought in`,
    passed: offloadedBytes > 0 && Math.abs(onloadedBytes - tokens * offloadedBytes) <= samples * slotBytes,
    detail: `${onloadedBytes} for ${tokens} tokens, ${offloadedBytes} offloaded`,
  })
}

/**
 * That the same weights give the same text wherever they live.
 * @param {Recorder} recorder
 * @param {string} name
 * @param {readonly number[]} found
 * @param {readonly number[]} expected
 */
export function checkTokens(recorder, name, found, expected) {
  const length = Math.min(found.length, expected.length)
  const differs = found.slice(0, length).findIndex((token, i) => token !== expected[i])
  recorder.check({
    name: `${name}: same tokens as resident`,
    passed: length > 0 && differs < 0,
    detail: differs < 0 ? `${length} tokens` : `the ${differs + 1}th of ${length} differs`,
  })
}
