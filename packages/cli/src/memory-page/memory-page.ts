import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { MemoryTrace } from '@spillway/device'

export interface MemoryPageOptions {
  /** The page looks once a second whether its own file was written anew, and shows what is there then. */
  readonly watch?: boolean
}

/**
 * One HTML file that shows a trace and needs nothing else: opened from disk, without a network, in light or dark. What
 * the trace says, names above all, is in it as base64 only, and reaches the page as text: nothing in it can be markup
 * or a script, and the page's policy allows no script but its own.
 */
export function memoryPage(trace: MemoryTrace, { watch = false }: MemoryPageOptions = {}): string {
  const { script, style } = pageFiles()
  const data = gzipSync(JSON.stringify(trace), { level: 4 }).toString('base64')
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "base-uri 'none'",
    "form-action 'none'",
    ...(watch ? ["frame-src 'self' file:"] : []),
  ].join('; ')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Spillway memory</title>
<style>${style}</style>
</head>
<body${watch ? ' data-watch' : ''}>
${body}
<script type="application/octet-stream" id="trace">${data}</script>
<script type="module">${script}</script>
</body>
</html>
`
}

const body = `<header>
<h1>Device memory</h1>
<p id="about"></p>
</header>
<noscript><p class="notice">This page draws with its own script, which the browser does not run.</p></noscript>
<p id="failure" class="notice" role="alert" hidden></p>
<ul id="notices" class="notice" aria-label="About this trace" hidden></ul>
<main hidden>
<section aria-label="Figures at the cursor"><dl id="figures"></dl></section>
<section class="card" aria-label="Timeline">
<div class="bar">
<div class="buttons" role="group" aria-label="Cursor">
<button type="button" id="first" aria-label="To the beginning" title="To the beginning (Home)">⇤</button>
<button type="button" id="back" aria-label="One event back" title="One event back (←)">‹</button>
<button type="button" id="play" title="Play (space)">▶ play</button>
<button type="button" id="forward" aria-label="One event on" title="One event on (→)">›</button>
<button type="button" id="last" aria-label="To the end" title="To the end (End)">⇥</button>
<button type="button" id="shortage" aria-label="To the next failed allocation" title="To the next failed allocation (o)">out of memory</button>
</div>
<p id="event" aria-live="polite"></p>
<label>Across <select id="axis"><option value="events">events</option><option value="time">time</option></select></label>
</div>
<canvas id="timeline" aria-hidden="true"></canvas>
<input type="range" id="cursor" min="0" step="1" aria-label="Cursor: events done">
<ul id="key" class="keys" aria-label="What the timeline shows">
<li><i class="reserved"></i>reserved</li><li><i class="requested"></i>requested</li><li><i class="limit"></i>limit</li>
<li><i class="failed"></i>out of memory</li><li><i class="fragmented"></i>fragmentation, 0 to 100 %</li>
</ul>
</section>
<div id="columns">
<section class="card" aria-label="Segments at the cursor">
<div class="bar">
<h2>Segments</h2>
<p id="scale"></p>
<label><input type="checkbox" id="still"> leave room for those that come and go</label>
<div class="buttons" role="group" aria-label="Scale">
<button type="button" id="coarser" aria-label="Coarser" title="Coarser (-)">−</button>
<button type="button" id="finer" aria-label="Finer" title="Finer (+)">+</button>
</div>
</div>
<div id="map-scroll"><canvas id="map" tabindex="0" role="application" aria-label="Segments by address, drawn to scale; arrow keys go from block to block" aria-describedby="block"></canvas></div>
<ul class="keys" aria-label="What the segments show">
<li><i class="idle"></i>free</li><li><i class="pending"></i>free, work pending</li><li><i class="expandable"></i>expandable segment</li><li><i class="touched"></i>touched by the last event</li>
</ul>
</section>
<aside>
<section class="card"><h2>Tags</h2><ul id="tags"></ul></section>
<section class="card"><h2>Block</h2><dl id="block" aria-live="polite"></dl></section>
<section class="card"><h2>Free blocks</h2><table id="free" aria-label="Free blocks by size"></table></section>
</aside>
</div>
<section class="card"><h2>Statistics, at the end of the trace</h2><div class="scroll"><table id="statistics"></table></div></section>
<p class="hint">Keys: ← → one event, with Shift a hundred; Home, End; space plays; o: next failed allocation; + − scale.</p>
</main>
<div id="tip" aria-hidden="true" hidden></div>`

/** Made by the build (tsup.config.ts) from browser/page.ts and browser/page.css. */
function pageFiles(): { readonly script: string; readonly style: string } {
  const manifest = createRequire(import.meta.url).resolve('spillway/package.json')
  const read = (name: string): string => readFileSync(join(manifest, '../dist/memory-page', name), 'utf8').trim()
  return { script: read('page.js'), style: read('page.css') }
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
