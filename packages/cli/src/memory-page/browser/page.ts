// What runs in the page that memory-page.ts makes.
import './page.css'
import type { MemoryTrace } from '@spillway/device'
import { MemoryHistory } from '../memory-history.js'
import { element, textOf } from './elements.js'
import { MemoryApp } from './memory-app.js'

const data = element('trace', HTMLScriptElement).textContent
const watching = document.body.hasAttribute('data-watch')

async function decode(base64: string): Promise<MemoryTrace> {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
  return (await new Response(stream).json()) as MemoryTrace
}

function showFailure(error: unknown): void {
  const failure = element('failure', HTMLElement)
  failure.textContent = `This trace cannot be shown: ${textOf(error)}. It takes a browser of 2023 or later.`
  failure.hidden = false
}

/**
 * A page from disk may read no file, but may frame one: itself, as it is by now. The frame says what is in it and does
 * nothing else.
 */
function watch(app: MemoryApp): void {
  let [shown, frame]: [string, HTMLIFrameElement | undefined] = [data, undefined]
  window.addEventListener('message', async ({ source, data: found }: MessageEvent<unknown>) => {
    if (frame === undefined || source !== frame.contentWindow || typeof found !== 'string' || found === shown) return
    shown = found
    try {
      app.show(new MemoryHistory(await decode(found)))
    } catch {
      // Cut off while it was written: the next one is whole.
    }
  })
  setInterval(() => {
    frame?.remove()
    frame = document.createElement('iframe')
    frame.hidden = true
    frame.src = location.href.replace(/#.*$/, '')
    document.body.append(frame)
  }, 1000)
}

if (watching && window.parent !== window) window.parent.postMessage(data, '*')
else {
  try {
    const history = new MemoryHistory(await decode(data))
    element('main', HTMLElement).hidden = false
    const app = new MemoryApp(history)
    if (watching) watch(app)
  } catch (error) {
    showFailure(error)
  }
}
