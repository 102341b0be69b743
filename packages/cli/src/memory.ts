import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { isSpillwayError, messageOf, printable, SpillwayError, throwIfAborted, writeWhole } from '@spillway/core'
import { usage } from './arguments.js'
import { MemoryHistory } from './memory-page/memory-history.js'
import { memoryMoment } from './memory-page/memory-moment.js'
import { memoryPage } from './memory-page/memory-page.js'
import { memorySummary, terminalText } from './memory-summary.js'
import { mostTraceBytes, readMemoryTrace } from './memory-trace.js'
import type { Invocation } from './session.js'

const lookEveryMs = 250
const toldProblems = 5

/** `spillway memory TRACE`: what a trace says, as text or as a page. */
export async function memory({ given, values, output, signal }: Invocation): Promise<void> {
  const [path, html, watching] = [values.get('TRACE'), given.html, given.watch === true]
  if (typeof path !== 'string' || path === '') {
    throw usage('memory needs a trace: spillway memory TRACE; spillway run --memory-trace TRACE writes one')
  }
  if (html === undefined && watching) throw usage('--watch writes a page again and again: say where with --html FILE')
  if (html === '') throw usage('--html needs the name of a file')
  const show = async (): Promise<void> => {
    const history = new MemoryHistory(await readTraceFile(path))
    const shown = { moment: history.interestingMoment(), ...(html === undefined ? {} : { html }) }
    if (html !== undefined) await writePage(html as string, memoryPage(history.trace, { watch: watching }))
    for (const { at, text } of history.problems.slice(0, toldProblems)) {
      const event = history.events[at]
      output.note(`note: ${event === undefined ? 'the snapshot:' : `event ${event.number}`} ${text}`)
    }
    if (history.problemCount > toldProblems) {
      output.note(`note: ${history.problemCount - toldProblems} more contradictions; what is shown leaves them out`)
    }
    output.object({ trace: path, ...shown, ...summaryObject(history) })
    if (html === undefined) for (const text of memorySummary(history, process.stdout.columns)) output.line(text)
    else output.line(`${html}: ${history.events.length} events of ${terminalText(history.trace.device)}`)
  }
  if (!watching) return show()
  await watch(path, show, (text) => output.note(text), signal)
}

/** Until the signal fires. Files that are not there yet, or not whole, are waited for. */
async function watch(
  path: string,
  show: () => Promise<void>,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<never> {
  let [seen, told]: [string | undefined, string] = [undefined, '']
  const tell = (text: string): void => {
    if (text !== told) note(text)
    told = text
  }
  for (;;) {
    throwIfAborted(signal, 'watching')
    const found = await stat(path).catch(() => undefined)
    const version = found && `${found.ino} ${found.mtimeMs} ${found.size}`
    if (version === undefined) tell(`waiting for ${path}`)
    else if (version !== seen) {
      seen = version
      try {
        await show()
        told = ''
      } catch (error) {
        // A writer that does not rename leaves half a file for a moment: the next look sees the rest.
        if (!isSpillwayError(error, 'SPILLWAY_INVALID_MEMORY_TRACE')) throw error
        tell(`${error.message}; waiting for another`)
      }
    }
    await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined)
  }
}

async function readTraceFile(path: string) {
  let text: string
  try {
    const { size } = await stat(path)
    if (size > mostTraceBytes) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_MEMORY_TRACE',
        `${printable(path)}: it is more than ${mostTraceBytes} bytes`,
      )
    }
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (isSpillwayError(cause)) throw cause
    throw new SpillwayError('SPILLWAY_MEMORY_TRACE_FILE', `${printable(path)} cannot be read: ${messageOf(cause)}`, {
      details: { path },
      cause,
    })
  }
  return readMemoryTrace(text, printable(path))
}

async function writePage(path: string, page: string): Promise<void> {
  try {
    await writeWhole(path, page)
  } catch (cause) {
    throw new SpillwayError('SPILLWAY_MEMORY_TRACE_FILE', `${printable(path)} cannot be written: ${messageOf(cause)}`, {
      details: { path },
      cause,
    })
  }
}

function summaryObject(history: MemoryHistory): Readonly<Record<string, unknown>> {
  const at = history.interestingMoment()
  const { segments, liveBytesByTag, freeSizes: _, ...figures } = memoryMoment(history, at)
  const { device, limitBytes, lostEvents, snapshot } = history.trace
  return {
    device,
    limitBytes,
    events: history.events.length,
    lostEvents,
    contradictions: history.problemCount,
    figures: { ...figures, segments: segments.length, liveBytesByTag: Object.fromEntries(liveBytesByTag) },
    stats: snapshot.stats,
  }
}
