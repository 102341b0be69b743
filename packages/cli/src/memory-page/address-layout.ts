/** A range of addresses to be drawn. */
export interface AddressRange {
  readonly address: number
  readonly bytes: number
}

/** A part of a range that lies in one row. */
interface RowPart {
  /** Of the range, among those given. */
  readonly index: number
  readonly row: number
  /** From the beginning of the row, in bytes. */
  readonly x: number
  /** What is drawn: from this address, so many bytes. */
  readonly address: number
  readonly bytes: number
}

export interface AddressLayout {
  readonly rowBytes: number
  readonly rows: number
  /** By index, then by address. */
  readonly parts: readonly RowPart[]
}

/**
 * Ranges one after the other in rows of the same scale, as words in lines: one that fits in a row is never broken, a
 * longer one begins a row and fills as many as it takes. `gapBytes` lie between two in a row.
 */
export function layoutAddresses(ranges: readonly AddressRange[], rowBytes: number, gapBytes: number): AddressLayout {
  const parts: RowPart[] = []
  let [row, x] = [0, 0]
  for (const [index, range] of ranges.entries()) {
    if (x > 0 && x + range.bytes > rowBytes) [row, x] = [row + 1, 0]
    for (let done = 0; done < range.bytes; ) {
      const bytes = Math.min(range.bytes - done, rowBytes - x)
      parts.push({ index, row, x, address: range.address + done, bytes })
      done += bytes
      x += bytes
      if (done < range.bytes) [row, x] = [row + 1, 0]
    }
    x += gapBytes
    if (x >= rowBytes) [row, x] = [row + 1, 0]
  }
  return { rowBytes, rows: x > 0 ? row + 1 : row, parts }
}

/**
 * Bytes of a row, a round number, with which the ranges take about `rows` rows: of the scales around that, the one that
 * leaves the least of its rows empty.
 */
export function rowBytesFor(ranges: readonly AddressRange[], rows: number): number {
  const fair = Math.max(4096, ranges.reduce((sum, { bytes }) => sum + bytes, 0) / rows)
  const power = 2 ** Math.floor(Math.log2(fair))
  let [best, bestFill] = [power, 0]
  for (const factor of [0.875, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5]) {
    const rowBytes = power * factor
    if (rowBytes < 0.9 * fair || rowBytes > 2 * fair) continue
    const fill = (fair * rows) / (rowBytes * Math.max(1, layoutAddresses(ranges, rowBytes, 0).rows))
    if (fill > bestFill + 0.02) [best, bestFill] = [rowBytes, fill]
  }
  return best
}

/**
 * Ranges as they are at any moment, united: where one of these lies, nothing moves while the cursor does. Grouped by
 * pool, each by address.
 */
export function uniteRanges<R extends AddressRange & { readonly pool: string }>(ranges: Iterable<R>): R[] {
  const sorted = [...ranges].sort((a, b) => compareText(a.pool, b.pool) || a.address - b.address)
  const united: R[] = []
  for (const range of sorted) {
    const last = united.at(-1)
    if (last !== undefined && last.pool === range.pool && range.address < last.address + last.bytes) {
      const end = Math.max(last.address + last.bytes, range.address + range.bytes)
      united[united.length - 1] = { ...last, bytes: end - last.address }
    } else united.push(range)
  }
  return united
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
