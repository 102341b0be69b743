import type { MemoryEvent } from './memory-log.js'

interface Range {
  readonly address: number
  readonly bytes: number
}
interface Work extends Range {
  readonly stream: number
  readonly position: number
}

const granuleBytes = 512

/**
 * What is wrong with a log, each as a sentence; none: nothing. Knows nothing of how an allocator works: every byte of a
 * live block has memory and belongs to no other, memory in use by a stream's work goes to no other stream and not back to
 * the source, and at the end all is given back.
 */
export function checkReuse(log: readonly MemoryEvent[]): string[] {
  const wrong: string[] = []
  const live = new Map<number, Range & { readonly stream: number }>()
  const completed = new Map<number, number>()
  let backed: Range[] = []
  let reserved: Range[] = []
  let work: Work[] = []
  const pending = (one: Work) => (completed.get(one.stream) ?? 0) < one.position

  const take = (ranges: Range[], range: Range, what: string): Range[] => {
    const holder = ranges.find((one) => contains(one, range))
    if (holder === undefined) {
      wrong.push(`${what} of ${text(range)}, which is not there`)
      return ranges
    }
    const end = range.address + range.bytes
    return [
      ...ranges.filter((one) => one !== holder),
      ...[
        { address: holder.address, bytes: range.address - holder.address },
        { address: end, bytes: holder.address + holder.bytes - end },
      ].filter(({ bytes }) => bytes > 0),
    ]
  }

  log.forEach((event, index) => {
    const at = `event ${index}: ${event.kind}`
    switch (event.kind) {
      case 'create':
      case 'map': {
        const range = { address: event.address, bytes: event.bytes }
        if (backed.some((one) => overlap(one, range))) wrong.push(`${at} of ${text(range)}, which is there already`)
        if (event.kind === 'map' && !reserved.some((one) => contains(one, range))) {
          wrong.push(`${at} of ${text(range)}, which is not reserved`)
        }
        backed = joined([...backed, range])
        break
      }
      case 'destroy':
      case 'unmap': {
        const range = { address: event.address, bytes: event.bytes }
        for (const [id, block] of live) if (overlap(block, range)) wrong.push(`${at} under the live block ${id}`)
        for (const one of work) {
          if (overlap(one, range) && pending(one)) wrong.push(`${at} under work of stream ${one.stream}`)
        }
        backed = take(backed, range, at)
        work = work.filter((one) => !contains(range, one))
        break
      }
      case 'reserve':
        reserved.push({ address: event.address, bytes: event.bytes })
        break
      case 'unreserve':
        if (backed.some((one) => overlap(one, event))) wrong.push(`${at} of memory that is mapped`)
        reserved = take(reserved, event, at)
        break
      case 'allocate': {
        const { id, address, bytes, requestedBytes, stream } = event
        if (address % granuleBytes !== 0) wrong.push(`${at} ${id} at ${address}, which is not aligned`)
        if (bytes < requestedBytes) wrong.push(`${at} ${id} has ${bytes} bytes, not ${requestedBytes}`)
        if (!backed.some((one) => contains(one, event))) wrong.push(`${at} ${id} has no memory at ${text(event)}`)
        for (const [other, block] of live) {
          if (overlap(block, event)) wrong.push(`${at} ${id} at ${text(event)} overlaps the live block ${other}`)
        }
        work = work.filter(pending)
        for (const one of work) {
          if (one.stream === stream || !overlap(one, event)) continue
          wrong.push(`${at} ${id} for stream ${stream} while stream ${one.stream} may use it`)
        }
        live.set(id, { address, bytes, stream })
        break
      }
      case 'free': {
        const block = live.get(event.id)
        if (block === undefined) wrong.push(`${at} of ${event.id}, which is not live`)
        else for (const use of event.uses) work.push({ address: block.address, bytes: block.bytes, ...use })
        live.delete(event.id)
        break
      }
      case 'complete':
        completed.set(event.stream, Math.max(event.position, completed.get(event.stream) ?? 0))
        break
      case 'end':
        for (const range of backed) wrong.push(`${at}: ${text(range)} was not given back`)
        for (const range of reserved) wrong.push(`${at}: the addresses ${text(range)} were not given back`)
    }
  })
  return wrong
}

function overlap(a: Range, b: Range): boolean {
  return a.address < b.address + b.bytes && b.address < a.address + a.bytes
}

function contains(outer: Range, inner: Range): boolean {
  return outer.address <= inner.address && inner.address + inner.bytes <= outer.address + outer.bytes
}

function text({ address, bytes }: Range): string {
  return `${address.toString(16)} + ${bytes}`
}

/** Neighbours as one: a block may lie in memory that was mapped in several steps. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = []
  for (const range of [...ranges].sort((a, b) => a.address - b.address)) {
    const last = result.at(-1)
    if (last !== undefined && last.address + last.bytes === range.address) {
      result[result.length - 1] = { address: last.address, bytes: last.bytes + range.bytes }
    } else result.push(range)
  }
  return result
}
