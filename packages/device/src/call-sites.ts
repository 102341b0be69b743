import { addon } from './addon.js'

/** Operations whose place in the program is remembered. A violation is between neighbours, hardly ever further apart. */
const remembered = 16_384

interface Stack {
  stack?: string
}

const sites: { readonly site: number; readonly at: Stack }[] = []
const listeners = new Set<() => void>()

/** Remembers from now on where operations are enqueued; `pending` is called when there are violations to fetch. */
export function watchCallSites(pending: () => void): void {
  if (listeners.size === 0 && sites.length === 0) addon().onSite(note)
  listeners.add(pending)
}

export function forgetCallSites(pending: () => void): void {
  listeners.delete(pending)
}

// Only takes the stack; making text of it, which costs fifty times as much, waits until somebody wants to read it.
function note(site: number, pending: boolean): void {
  const at: Stack = {}
  Error.captureStackTrace(at, note)
  sites[site % remembered] = { site, at }
  if (pending) for (const listener of listeners) listener()
}

/** The call stack, innermost first, without the frames of this package that lead into the addon. */
export function callSite(site: number): string {
  if (site === 0) return 'not by JavaScript'
  const known = sites[site % remembered]
  if (known?.site !== site) return `more than ${remembered} operations before the last one`
  const lines = (known.at.stack ?? '').split('\n').filter((line) => line.trimStart().startsWith('at '))
  const own = lines.findIndex((line) => !isOwnFrame(line))
  return lines
    .slice(Math.max(own, 0))
    .map((line) => line.trim())
    .join('\n')
}

const ownFrames = /\bNative(Stream|HostBuffer|Graph)\.|\b(AddressRange)\./
function isOwnFrame(line: string): boolean {
  return ownFrames.test(line)
}
