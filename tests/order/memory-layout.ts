import type { BufferSpec, Program, Span } from './program.js'
import { granuleBytes } from './program.js'

/** Bytes [from, to) of one memory, and where a buffer shows them. */
export interface Piece {
  /** Names the bytes themselves: however many buffers and addresses show them. */
  readonly memory: string
  readonly from: number
  readonly to: number
  readonly buffer: number
  readonly offset: number
}

/** Addresses [from, to) of a range: what an unmapping takes away. */
export interface Addresses {
  readonly range: number
  readonly from: number
  readonly to: number
}

/** Which memory is behind which addresses at this point of the program. */
export class MemoryLayout {
  readonly #program: Program
  readonly #mapped: Map<number, { from: number; to: number; physical: number }[]>

  constructor(program: Program) {
    this.#program = program
    this.#mapped = new Map(program.ranges.map((_, range) => [range, []]))
  }

  /** undefined: it cannot be mapped there. */
  map(range: number, offset: number, physical: number): true | undefined {
    const to = offset + this.#program.physicals[physical]! * granuleBytes
    const mapped = this.#mapped.get(range)!
    if (to > this.#program.ranges[range]! * granuleBytes) return undefined
    if (mapped.some((other) => other.from < to && offset < other.to)) return undefined
    mapped.push({ from: offset, to, physical })
    mapped.sort((a, b) => a.from - b.from)
    return true
  }

  /** undefined: these are not whole mappings. */
  unmap(range: number, offset: number, bytes: number): true | undefined {
    const mapped = this.#mapped.get(range)!
    const inside = mapped.filter(({ from, to }) => from < offset + bytes && offset < to)
    let end = offset
    for (const { from, to } of inside) {
      if (from !== end) return undefined
      end = to
    }
    if (inside.length === 0 || end !== offset + bytes) return undefined
    this.#mapped.set(
      range,
      mapped.filter((mapping) => !inside.includes(mapping)),
    )
    return true
  }

  mappings(range: number): readonly { from: number; to: number; physical: number }[] {
    return this.#mapped.get(range)!
  }

  buffer(span: Span): BufferSpec {
    return this.#program.buffers[span.buffer]!
  }

  addresses({ buffer, offset, bytes }: Span): Addresses | undefined {
    const spec = this.#program.buffers[buffer]!
    if (spec.kind !== 'range') return undefined
    return { range: spec.range, from: spec.offset + offset, to: spec.offset + offset + bytes }
  }

  /** undefined: part of the buffer has nothing behind it, so that no part of it can be used. */
  pieces({ buffer, offset, bytes }: Span): readonly Piece[] | undefined {
    const spec = this.#program.buffers[buffer]!
    if (spec.kind !== 'range') {
      return [{ memory: `buffer ${buffer}`, from: offset, to: offset + bytes, buffer, offset }]
    }
    const pieces: Piece[] = []
    let covered = spec.offset
    for (const { from, to, physical } of this.#mapped.get(spec.range)!) {
      if (to <= spec.offset || from >= spec.offset + spec.bytes) continue
      if (from > covered) return undefined
      covered = to
      const begin = Math.max(from, spec.offset + offset)
      const end = Math.min(to, spec.offset + offset + bytes)
      if (begin >= end) continue
      pieces.push({
        memory: `physical ${physical}`,
        from: begin - from,
        to: end - from,
        buffer,
        offset: begin - spec.offset,
      })
    }
    return covered >= spec.offset + spec.bytes ? pieces : undefined
  }
}

export function overlap(a: readonly Piece[], b: readonly Piece[]): boolean {
  return a.some((one) => b.some((two) => one.memory === two.memory && one.from < two.to && two.from < one.to))
}
