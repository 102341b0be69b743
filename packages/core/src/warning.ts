/**
 * Says that something goes on otherwise than asked, or slower than it could. Like warnings of Node itself it goes to
 * stderr once per process and text, or to `process.on('warning')` as `{ name: 'SpillwayWarning', code, message }`.
 * `code` has a heading in docs/ERRORS.md.
 */
export function warn(code: string, message: string): void {
  if (given.has(message)) return
  given.add(message)
  process.emitWarning(message, { type: 'SpillwayWarning', code })
}

const given = new Set<string>()
