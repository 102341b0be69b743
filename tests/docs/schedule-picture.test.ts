import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { BenchmarkResult, RunResult } from '../../bench/lib/result.js'
import { drawSchedules } from '../../bench/lib/schedule-chart.mjs'
import { type Schedule, simulateSchedule } from '../../packages/prefetch/src/schedule.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Whose rates the picture has, and whose step times it is held against. */
const file = '2026-11-21-nvidia-h200-products-offload-decode-prefill-schedule-overhead.json'
const layers = 16
/** As the benchmark names them. */
const placements = [
  { name: 'every second layer', groupSize: 2, numInGroup: 1, slots: 2 },
  { name: 'last 4 of 8', groupSize: 8, numInGroup: 4, slots: 2 },
  { name: 'last 4 of 8, 4 slots', groupSize: 8, numInGroup: 4, slots: 4 },
]

const run = JSON.parse(readFileSync(join(root, 'bench/results', file), 'utf8')) as RunResult
const benchmark = run.benchmarks.find(({ name }) => name === 'schedule') as BenchmarkResult
const linkBytesPerSecond = median('link, pinned host to device')
// The head and the embedding have a share in it: too little to see.
const layerMs = (1000 * median('resident, a step')) / layers
const layerBytes = (2 * Number(benchmark.parameters['offloaded bytes'])) / layers

function median(name: string): number {
  const found = benchmark.figures.find((figure) => figure.name === name)
  if (found === undefined) throw new Error(`${file} has no figure ${name}`)
  return found.median
}

function simulated({ groupSize, numInGroup, slots }: (typeof placements)[number]) {
  const modules = Array.from({ length: layers }, (_, i) => ({
    name: String(i),
    computeMs: layerMs,
    onloadBytes: i % groupSize >= groupSize - numInGroup ? layerBytes : 0,
  }))
  const offloaded = new Set(modules.filter(({ onloadBytes }) => onloadBytes > 0).map(({ name }) => name))
  return { offloaded, ...simulateSchedule({ modules, slots, linkBytesPerSecond }) }
}

/** Of what the link did, the share that nobody waited for. */
function hiddenPercent({ modules }: Schedule): string {
  const sum = (of: 'linkMs' | 'waitMs') => modules.reduce((all, module) => all + module[of], 0)
  return `${(100 * (1 - sum('waitMs') / sum('linkMs'))).toFixed(0)} %`
}

function picture(): string {
  const schedules = placements.map((placement) => {
    const schedule = simulated(placement)
    const slots = placement.name.includes('slots') ? '' : `, ${placement.slots} slots`
    const measured = (1000 * median(`${placement.name}, a step`)).toFixed(1)
    const title =
      `${placement.name}${slots}: a step takes ${schedule.stepMs.toFixed(1)} ms (measured: ${measured}); ` +
      `${hiddenPercent(schedule)} of the copies hidden`
    return { ...schedule, title }
  })
  const gigabytes = (linkBytesPerSecond / 1e9).toFixed(1)
  return drawSchedules(
    [
      'Half of the layers offloaded, the same bytes: where they lie decides who waits',
      `Simulated: ${benchmark.parameters.model}; a step of ${benchmark.parameters.rows} rows, ${layerMs.toFixed(1)} ms a layer; a link of ${gigabytes} GB/s.`,
      `Rates and measured steps: ${run.hardware.gpu?.name}, ${run.date.slice(0, 10)}, commit ${run.commit?.id.slice(0, 12)}; bench/results.`,
    ],
    schedules,
  )
}

// npm run docs:schedule draws it anew.
test('docs/schedule.svg is the simulated schedule of the result that it names', async () => {
  await expect(picture()).toMatchFileSnapshot(join(root, 'docs/schedule.svg'))
})

test.each(placements)('$name: simulated from so little, a step takes as long as measured, within 3 %', (placement) => {
  const measuredMs = 1000 * median(`${placement.name}, a step`)
  expect(Math.abs(simulated(placement).stepMs / measuredMs - 1)).toBeLessThan(0.03)
})

test('a bar for everything in a step, where it is on the axis', () => {
  const drawn = drawSchedules(
    ['<title>'],
    [
      {
        title: 'a & b',
        stepMs: 10,
        offloaded: new Set(['1']),
        events: [
          { lane: 'compute', module: '0', startMs: 0, endMs: 4 },
          { lane: 'wait', module: '1', startMs: 4, endMs: 7 },
          { lane: 'compute', module: '1', startMs: 7, endMs: 10 },
          { lane: 'copy', module: '1', startMs: 10, endMs: 17 },
        ],
      },
    ],
  )
  expect(drawn).toContain('<title>&#60;title&#62;</title>')
  expect(drawn).toContain('a &#38; b')
  const bars = Array.from(drawn.matchAll(/class="bar (\w+)" x="([\d.]+)" y="(\d+)" width="([\d.]+)"/g), (match) =>
    match.slice(1).map((text) => (Number.isNaN(Number(text)) ? text : Number(text))),
  )
  const [compute, copy] = [92 + 12, 92 + 12 + 28]
  // 9 pixels a millisecond, from 72 on, to 15 ms; the step comes again at both ends.
  expect(bars).toEqual([
    ['copy', 72, copy, 63],
    ['resident', 72, compute, 36],
    ['wait', 108, compute, 27],
    ['offloaded', 135, compute, 27],
    ['copy', 162, copy, 45],
    ['resident', 162, compute, 36],
    ['wait', 198, compute, 9],
  ])
})
