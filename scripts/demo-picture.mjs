// node scripts/demo-picture.mjs: runs the demo and draws what it printed as docs/demo.svg, for README.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

const columns = 100
const colors = { 1: '#ffffff', 2: '#8b949e', 32: '#7ee787', 31: '#ff7b72' }

const demo = spawnSync(process.execPath, ['scripts/demo.mjs'], {
  encoding: 'utf8',
  env: { ...process.env, FORCE_COLOR: '1' },
})
if (demo.status !== 0) throw new Error(demo.stderr)

/** Text with its colour codes, as lines of { text, color }. */
function toLines(output) {
  const lines = []
  let color = '#c9d1d9'
  for (const line of output.trimEnd().split('\n')) {
    let spans = []
    let length = 0
    const add = (text) => {
      for (let rest = text; rest !== ''; ) {
        const room = columns - length
        let cut = rest.length <= room ? rest.length : rest.lastIndexOf(' ', room)
        if (cut <= 0) cut = room
        spans.push({ text: rest.slice(0, cut), color })
        length += cut
        rest = rest.slice(cut)
        if (rest !== '') {
          lines.push(spans)
          spans = [{ text: '  ', color }]
          length = 2
          rest = rest.trimStart()
        }
      }
    }
    for (const part of line.split('\u001b[')) {
      const code = part === line ? null : /^(\d+)m/.exec(part)
      if (code) color = colors[code[1]] ?? '#c9d1d9'
      add(code ? part.slice(code[0].length) : part)
    }
    lines.push(spans)
  }
  return lines
}

const escapeText = (text) => text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c])
const lines = toLines(`\u001b[2m$ npm run demo\u001b[0m\n${demo.stdout}`)
const width = columns * 8.4 + 40
const height = lines.length * 19 + 44
const rows = lines.map((spans, i) => {
  const parts = spans.map(({ text, color }) => `<tspan fill="${color}">${escapeText(text)}</tspan>`).join('')
  return `<text x="20" y="${40 + i * 19}" xml:space="preserve">${parts}</text>`
})
writeFileSync(
  'docs/demo.svg',
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>What npm run demo prints</title>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
${rows.join('\n')}
</g>
</svg>
`,
)
console.log(`docs/demo.svg: ${lines.length} lines`)
