// @ts-check
/** @import { TraceEvent } from '../../packages/core/dist/index.js' */

/**
 * A step among others like it: `events` begin at 0 and come again after `stepMs`.
 * @typedef {{ title: string, stepMs: number, events: readonly TraceEvent[], offloaded: ReadonlySet<string> }} Schedule
 */

const [left, top, right] = [72, 92, 16]
const [barHeight, lane, panel] = [22, 28, 104]
const pixelsPerMs = 9
const colors = {
  card: ['#ffffff', '#161b22'],
  ink: ['#1f2328', '#e6edf3'],
  faint: ['#6e7781', '#9198a1'],
  resident: ['#d0d7de', '#3d444d'],
  offloaded: ['#80b8ff', '#1f5fb8'],
  copy: ['#7bd88f', '#22733a'],
  wait: ['#ffb8b0', '#8c2f28'],
}
// Without variables, which not all that draw SVG know. On a page of either colour the picture is a card of its own.
const rules = (/** @type {0 | 1} */ theme) =>
  [
    ...Object.entries(colors).map(([name, pair]) => `.${name} { fill: ${pair[theme]} }`),
    `.bar { stroke: ${colors.card[theme]} }`,
  ].join(' ')
const style = `text { font: 13px system-ui, sans-serif } text.title { font-weight: 600 } text.small { font-size: 11px }
.end { stroke: #d9534f; stroke-dasharray: 4 3 } .tick { stroke: #8c959f; opacity: 0.4 }
${rules(0)}
@media (prefers-color-scheme: dark) { ${rules(1)} }`

/**
 * An SVG with a compute lane and a copy lane for each schedule, all on one axis of time.
 * @param {readonly string[]} heading the first line is the title
 * @param {readonly Schedule[]} schedules
 */
export function drawSchedules(heading, schedules) {
  const endMs = 5 * Math.ceil(Math.max(...schedules.map(({ stepMs }) => stepMs)) / 5 + 0.2)
  const x = (/** @type {number} */ ms) => left + ms * pixelsPerMs
  const bottom = top + schedules.length * panel
  const [width, height] = [x(endMs) + right, bottom + 62]
  const ticks = Array.from({ length: Math.floor(endMs / 10) + 1 }, (_, i) => 10 * i).map(
    (ms) =>
      `<line class="tick" x1="${x(ms)}" y1="${top - 8}" x2="${x(ms)}" y2="${bottom - 8}"/>` +
      `<text class="small faint" x="${x(ms)}" y="${bottom + 8}" text-anchor="middle">${ms} ms</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<title>${escapeText(heading[0] ?? '')}</title>
<style>${style}</style>
<rect class="card" width="100%" height="100%" rx="8"/>
${heading.map((text, i) => `<text x="16" y="${26 + 18 * i}" class="ink ${i === 0 ? 'title' : 'small'}">${escapeText(text)}</text>`).join('\n')}
${ticks.join('\n')}
${schedules.map((schedule, i) => drawSchedule(schedule, top + i * panel, { x, endMs })).join('\n')}
${legend(bottom + 32)}
</svg>
`
}

/**
 * @param {Schedule} schedule
 * @param {number} y
 * @param {{ x: (ms: number) => number, endMs: number }} axis
 */
function drawSchedule({ title, stepMs, events, offloaded }, y, { x, endMs }) {
  const bars = [-1, 0, 1].flatMap((step) =>
    events.map(({ lane: of, module, startMs, endMs: untilMs }) => {
      const [from, to] = [Math.max(0, startMs + step * stepMs), Math.min(endMs, untilMs + step * stepMs)]
      if (to <= from) return ''
      const kind = of === 'compute' ? (offloaded.has(module) ? 'offloaded' : 'resident') : of
      const barY = y + (of === 'copy' ? 12 + lane : 12)
      const barWidth = (to - from) * pixelsPerMs
      const rect = `<rect class="bar ${kind}" x="${round(x(from))}" y="${barY}" width="${round(barWidth)}" height="${barHeight}"/>`
      if (barWidth < 18) return rect
      const middle = round(x((from + to) / 2))
      return `${rect}<text class="ink small" x="${middle}" y="${barY + 15}" text-anchor="middle">${escapeText(of === 'wait' ? 'wait' : module)}</text>`
    }),
  )
  const end = x(stepMs)
  return [
    `<text class="ink" x="16" y="${y}">${escapeText(title)}</text>`,
    `<text class="small faint" x="16" y="${y + 27}">compute</text>`,
    `<text class="small faint" x="16" y="${y + 27 + lane}">copy</text>`,
    ...bars.filter((bar) => bar !== ''),
    `<line class="end" x1="${round(end)}" y1="${y + 4}" x2="${round(end)}" y2="${y + 20 + 2 * lane}"/>`,
  ].join('\n')
}

/** @param {number} y */
function legend(y) {
  const entries = [
    ['resident', 'layer on the device', 16],
    ['offloaded', 'layer offloaded', 166],
    ['copy', 'its copy into a slot', 292],
    ['wait', 'the compute stream waits for it', 440],
  ]
  const parts = entries.map(
    ([kind, text, x]) =>
      `<rect class="${kind}" x="${x}" y="${y}" width="14" height="14"/><text class="ink small" x="${Number(x) + 20}" y="${y + 11}">${text}</text>`,
  )
  return [
    ...parts,
    `<line class="end" x1="652" y1="${y}" x2="652" y2="${y + 14}"/><text class="ink small" x="660" y="${y + 11}">the step ends, the next begins</text>`,
  ].join('\n')
}

/** @param {number} pixels */
function round(pixels) {
  return Number(pixels.toFixed(1))
}

/** @param {string} text */
function escapeText(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
