// @ts-check
import { formatRatio } from './table.mjs'

/** @import { Figure } from './result.ts' */

const scale = 420
const line = 24
/** What a letter takes in a wide font of that size. */
const letter = 7.5

/**
 * An SVG of bars: each figure's share of its limit. What is held against something else has no bar.
 * @param {readonly { title: string, figures: readonly Figure[] }[]} groups
 */
export function drawRatios(groups) {
  const parts = []
  const longest = groups.flatMap(({ figures }) => limitedOf(figures).map(({ name }) => name.length))
  const label = 24 + letter * Math.max(0, ...longest)
  const width = label + scale + 80
  let y = 12
  for (const { title, figures } of groups) {
    const limited = limitedOf(figures)
    if (limited.length === 0) continue
    y += line
    parts.push(`<text x="16" y="${y}" font-weight="bold">${escapeText(title)}</text>`)
    for (const figure of limited) {
      y += line
      parts.push(bar(figure, label, y))
    }
  }
  const height = y + line
  const whole = label + scale
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<title>Shares of limits measured in the same run</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<g font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">
<line x1="${whole}" y1="16" x2="${whole}" y2="${height - 12}" stroke="#8c959f" stroke-dasharray="3 3"/>
${parts.join('\n')}
</g>
</svg>
`
}

/**
 * @param {Figure} figure
 * @param {number} label where bars begin
 * @param {number} y
 */
function bar(figure, label, y) {
  const { name, ratio = 0, against } = figure
  const length = Math.min(ratio, 1) * scale
  const title = `<title>${escapeText(`of: ${against?.figure}`)}</title>`
  return `<g>${title}<text x="16" y="${y}">${escapeText(name)}</text><rect x="${label}" y="${y - 12}" width="${length.toFixed(1)}" height="16" fill="#2f6feb"/><text x="${label + length + 6}" y="${y}">${formatRatio(figure)}</text></g>`
}

/** @param {readonly Figure[]} figures */
function limitedOf(figures) {
  return figures.filter(({ against }) => against?.kind === 'limit')
}

/** @param {string} text */
function escapeText(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
