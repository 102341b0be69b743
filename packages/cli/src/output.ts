import { formatBytes, isSpillwayError, messageOf } from '@spillway/core'
import type { Model } from '@spillway/decoder'

/** stdout is for results; people's text about them goes to stderr. */
export class Output {
  readonly json: boolean
  #progress = false
  /** Text is on the terminal whose line has not ended. */
  #lineOpen = false

  constructor(json: boolean) {
    this.json = json
  }

  /** A part of the text being written; not in JSON mode, where it is in the object. */
  text(part: string): void {
    if (this.json || part === '') return
    process.stdout.write(part)
    this.#lineOpen = !part.endsWith('\n')
  }

  line(text: string): void {
    if (this.json) return
    process.stdout.write(`${text}\n`)
    this.#lineOpen = false
  }

  object(value: unknown): void {
    if (this.json) process.stdout.write(`${toJson(value)}\n`)
  }

  note(text: string): void {
    this.endProgress()
    // On a terminal both streams are one text; in a file the text stays as it is.
    if (this.#lineOpen && process.stdout.isTTY && process.stderr.isTTY) this.line('')
    process.stderr.write(`${text}\n`)
  }

  /** Drawn over itself on a terminal, left out elsewhere. */
  progress(text: string): void {
    if (!process.stderr.isTTY) return
    // A line that wraps is not drawn over.
    process.stderr.write(`\r\u001b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`)
    this.#progress = true
  }

  endProgress(): void {
    if (this.#progress) process.stderr.write('\r\u001b[K')
    this.#progress = false
  }

  error(error: unknown): void {
    const coded = isSpillwayError(error)
    const code = coded ? error.code : 'SPILLWAY_INTERNAL'
    this.note(`${code}: ${messageOf(error)}`)
    const because = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : ''
    if (!messageOf(error).includes(because)) this.note(`  because: ${because}`)
    this.object({ error: { code, message: messageOf(error), details: coded ? error.details : {} } })
  }
}

/** Details come from backends too, and may hold what JSON cannot: numbers too large, or themselves. */
function toJson(value: unknown): string {
  const open: unknown[] = []
  return JSON.stringify(value, function (this: unknown, _key, part: unknown) {
    if (typeof part === 'bigint') return part.toString()
    if (typeof part !== 'object' || part === null) return part
    // `this` is the object that `part` lies in: what was opened after it is closed again.
    while (open.length > 0 && open.at(-1) !== this) open.pop()
    if (open.includes(part)) return '(circular)'
    open.push(part)
    return part
  })
}

export function statsLine(model: Model): string {
  const { offloadedBytes, residentBytes, slotBytes, peakDeviceBytes, pinned } = model.stats()
  const parts = [
    `offloaded ${formatBytes(offloadedBytes)}`,
    `resident ${formatBytes(residentBytes)}`,
    `slots ${formatBytes(slotBytes)}`,
    `peak on device ${formatBytes(peakDeviceBytes)} of ${formatBytes(model.device.budget.limitBytes)}`,
    `${pinned.pin ? 'pinned' : 'not pinned'} (${pinned.reason})`,
  ]
  return parts.join(', ')
}

/** Decimal, as links and memories are sold. */
export function formatRate(bytesPerSecond: number): string {
  const [unit, divisor] =
    bytesPerSecond >= 1e12 ? ['TB/s', 1e12] : bytesPerSecond >= 1e9 ? ['GB/s', 1e9] : ['MB/s', 1e6]
  return `${(bytesPerSecond / (divisor as number)).toPrecision(3)} ${unit}`
}
