// @ts-check
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { against } from '../lib/figure.mjs'
import { interleave } from '../lib/interleave.mjs'
import { memoryTraces } from '../lib/memory-traces.mjs'
import { Peer } from '../lib/peer.mjs'
import { openDevice } from '../lib/spillway.mjs'
import { replayTrace } from '../lib/trace-replay.mjs'
import { using } from '../lib/using.mjs'
import { measureCalls } from './allocator-calls.mjs'

/** @import { AllocatorSettings } from '../../packages/device/dist/index.js' */
/** @import { Benchmark, Context } from '../lib/benchmark.ts' */
/** @import { ReplayableTrace } from '../lib/memory-trace.ts' */
/** @import { Recorder } from '../lib/recorder.mjs' */
/** @import { Figure } from '../lib/result.ts' */

const GiB = 2 ** 30

/** What of PyTorch's is comparable to which of ours: without virtual memory, and with it. */
const kinds = /** @type {const} */ ([
  { ours: 'ours', expandableSegments: false, theirs: ['PyTorch', 'PyTorch, large blocks whole'] },
  { ours: 'ours, expandable', expandableSegments: true, theirs: ['PyTorch, expandable'] },
])
/** PyTorch has its settings for the whole process. */
const peerSettings = {
  PyTorch: { settings: '', loadsOnly: false },
  'PyTorch, large blocks whole': { settings: 'max_split_size_mb:20', loadsOnly: true },
  'PyTorch, expandable': { settings: 'expandable_segments:True', loadsOnly: false },
}

/** @type {Benchmark} */
export const allocator = {
  summary: 'device memory that traces of allocations take, beside PyTorch’s allocator; a cached allocation and free',
  run: (context, recorder) =>
    using(async (use) => {
      const traces = memoryTraces(await traceSize(context))
      /** @type {Record<string, Peer>} */
      const peers = {}
      if (context.device === 'host') recorder.note('PyTorch was not measured: it caches the memory of GPUs only')
      else {
        for (const [name, { settings, loadsOnly }] of Object.entries(peerSettings)) {
          context.progress(`starting ${name}`)
          const replayed = traces.filter(({ load }) => load || !loadsOnly)
          const peer = use(await startPeer(replayed, settings, context.signal))
          peers[name] = peer
          recorder.peer(peer)
          if (peer.subjects.length === 0) break
        }
      }
      /** @type {Comparison[]} */
      const comparisons = []
      for (const trace of traces) comparisons.push(...(await compare(context, recorder, trace, peers)))
      for (const { ours } of kinds) recordMeans(recorder, ours, comparisons)
      await measureCalls(context, recorder)
    }),
}

/**
 * So that all traces fit, twice what is asked for included.
 * @param {Context} context
 */
async function traceSize({ device: kind, quick }) {
  if (quick) return { scale: 1 / 256, length: 0.05 }
  const device = await openDevice(kind)
  const { limitBytes } = device.budget
  await device.dispose()
  return { scale: Math.min(1, (kind === 'host' ? GiB : limitBytes * 0.6) / (36 * GiB)), length: 1 }
}

/**
 * By way of a file, one JSON object a line, which it has read when it is there: both sides replay the same bytes.
 * @param {readonly ReplayableTrace[]} traces
 * @param {string} settings
 * @param {AbortSignal} signal
 */
async function startPeer(traces, settings, signal) {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-bench-'))
  try {
    const file = join(directory, 'traces.jsonl')
    await writeFile(file, traces.map((trace) => `${JSON.stringify(trace)}\n`).join(''))
    return await Peer.startPython('torch_allocator.py', [file, settings], signal)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** @typedef {{ kind: string, ours: Figure, theirs?: Figure }} Comparison one trace in one way */

/**
 * Peak reserved ÷ peak requested, by each.
 * @param {Context} context
 * @param {Recorder} recorder
 * @param {ReplayableTrace} trace
 * @param {Readonly<Record<string, Peer>>} peers
 */
async function compare(context, recorder, trace, peers) {
  const { name, load, peakRequestedBytes, operations } = trace
  recorder.parameters({ [`${name}, requested bytes`]: peakRequestedBytes })
  /** @type {Record<string, () => Promise<number>>} */
  const subjects = {}
  const allocations = operations.filter(({ operation }) => operation === 'allocate').length
  const wrong = new Set()
  for (const { ours, expandableSegments } of kinds) {
    /** As a loader would have it, or as it is by default; whatever the environment says. @type {AllocatorSettings} */
    const settings = { expandableSegments, maxSplitSizeMb: load ? 20 : Number.POSITIVE_INFINITY }
    subjects[ours] = async () => {
      const { stats, left } = await replayTrace(context, trace, settings)
      if (stats.peakRequestedBytes !== peakRequestedBytes) {
        wrong.add(`${ours}: at most ${stats.peakRequestedBytes} bytes requested, ${peakRequestedBytes} expected`)
      }
      if (stats.allocations !== allocations) wrong.add(`${ours}: ${stats.allocations} of ${allocations} allocations`)
      if (left !== 0) wrong.add(`${ours}: ${left} bytes not given back`)
      return stats.peakReservedBytes / peakRequestedBytes
    }
  }
  for (const [way, peer] of Object.entries(peers)) {
    const sampler = peer.samplers[name]
    if (sampler) subjects[way] = sampler
  }
  const progress = (/** @type {string} */ text) => context.progress(`${name}: ${text}`)
  const samples = await interleave(subjects, { ...context, progress, rounds: 1 })
  recorder.check({
    name: `${name}, replayed`,
    passed: wrong.size === 0,
    detail: [...wrong].join('; ') || 'all allocations counted, all memory given back',
  })
  return kinds.map(({ ours, theirs }) => {
    const figures = theirs
      .filter((way) => subjects[way] !== undefined)
      .map((way) => recorder.figure(`${name}, ${way}`, 'times', samples(way)))
    const [best] = figures.sort((a, b) => a.median - b.median)
    const figure = recorder.figure(`${name}, ${ours}`, 'times', samples(ours), best && against('peer', best))
    return { kind: ours, ours: figure, ...(best && { theirs: best }) }
  })
}

/**
 * @param {Recorder} recorder
 * @param {string} kind
 * @param {readonly Comparison[]} all
 */
function recordMeans(recorder, kind, all) {
  const comparisons = all.filter((one) => one.kind === kind)
  const ours = geometricMean(comparisons.map((one) => one.ours.median))
  const compared = comparisons.flatMap(({ theirs, ours: { ratio } }) => (theirs && ratio ? [{ theirs, ratio }] : []))
  if (compared.length < comparisons.length) {
    recorder.figure(`geometric mean, ${kind}`, 'times', [ours])
    return
  }
  const mean = geometricMean(compared.map(({ theirs }) => theirs.median))
  const theirs = recorder.figure(`geometric mean, PyTorch beside ${kind}`, 'times', [mean])
  recorder.figure(`geometric mean, ${kind}`, 'times', [ours], against('peer', theirs))
  recorder.figure(`worst trace, ${kind} ÷ PyTorch`, 'times', [Math.max(...compared.map(({ ratio }) => ratio))])
}

/** @param {readonly number[]} values */
function geometricMean(values) {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}
