/** A value as it may stand in an error sentence: one line, short, and never throwing, whatever came in from outside. */
export function printable(value: unknown): string {
  try {
    if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}…` : value)
    if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value)
    if (typeof value === 'bigint') return `${value}n`
    if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`
    const text = JSON.stringify(value)
    return text.length > 80 ? `${text.slice(0, 77)}…` : text
  } catch {
    return 'a value that cannot be shown'
  }
}

/** A name from outside, quoted and cut only where it is not a plain word. */
export function printableName(name: string): string {
  return /^[\w@./+-]{1,120}$/.test(name) ? name : printable(name)
}
