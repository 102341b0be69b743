import { formatBytes, isSpillwayError, messageOf } from '@spillway/core'
import type { Model } from '@spillway/decoder'

/** stdout is for results; people's text about them goes to stderr. */
export class Output {
  readonly json: boolean
  #progress = false

  constructor(json: boolean) {
    this.json = json
  }

  /** A part of the text being written; not in JSON mode, where it is in the object. */
  text(part: string): void {
    if (!this.json) process.stdout.write(part)
  }

  line(text: string): void {
    if (!this.json) process.stdout.write(`${text}\n`)
  }

  object(value: unknown): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value)}\n`)
  }

  note(text: string): void {
    this.endProgress()
    process.stderr.write(`${text}\n`)
  }

  /** Drawn over itself on a terminal, left out elsewhere. */
  progress(text: string): void {
    if (!process.stderr.isTTY) return
    process.stderr.write(`\r\u001b[K${text}`)
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
    this.object({ error: { code, message: messageOf(error), details: coded ? error.details : {} } })
  }
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
