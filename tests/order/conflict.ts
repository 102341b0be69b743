import type { OrderViolationKind } from '@spillway/device'
import type { TouchMode } from '../abi/abi-probe.js'
import type { Addresses, Piece } from './memory-layout.js'

/** One access of the program's, in the order the program asks for them. */
export interface Operation {
  readonly node: number
  /** Index of the step that says what it does. */
  readonly step: number
  /** Of a graph's operation: the step that launched the graph. */
  readonly launch: number | undefined
  readonly accesses: readonly { readonly mode: TouchMode; readonly pieces: readonly Piece[] }[]
  /** Addresses whose mapping it relies on. */
  readonly relies: readonly Addresses[]
  /** Of an unmapping: what it takes away. */
  readonly takes?: Addresses
}

/** Two accesses to the same bytes, at least one of them a write (or an unmapping), that have no order. */
export interface Conflict {
  readonly earlier: Operation
  readonly later: Operation
  readonly kinds: readonly OrderViolationKind[]
  /** The common bytes as the later one's buffer counts them, or, of an unmapping, as the range counts them. */
  readonly buffer: number | undefined
  readonly from: number
  readonly to: number
}

/** The bytes that both touch, at least one of them writing. */
export function inCommon(earlier: Operation, later: Operation): Omit<Conflict, 'earlier' | 'later'>[] {
  const { takes } = later
  if (takes) {
    return earlier.relies
      .filter(({ range, from, to }) => range === takes.range && from < takes.to && takes.from < to)
      .map(({ from, to }) => ({
        kinds: ['early-free'],
        buffer: undefined,
        from: Math.max(from, takes.from),
        to: Math.min(to, takes.to),
      }))
  }
  const common: Omit<Conflict, 'earlier' | 'later'>[] = []
  for (const one of earlier.accesses) {
    for (const two of later.accesses) {
      const kinds = kindsOf(one.mode, two.mode)
      if (kinds.length === 0) continue
      for (const a of one.pieces) {
        for (const b of two.pieces) {
          const from = Math.max(a.from, b.from)
          const to = Math.min(a.to, b.to)
          if (a.memory !== b.memory || from >= to) continue
          common.push({ kinds, buffer: b.buffer, from: from - b.from + b.offset, to: to - b.from + b.offset })
        }
      }
    }
  }
  return common
}

function kindsOf(earlier: TouchMode, later: TouchMode): OrderViolationKind[] {
  const kinds: OrderViolationKind[] = []
  if (earlier !== 'read' && later !== 'write') kinds.push('read-after-write')
  if (earlier !== 'write' && later !== 'read') kinds.push('write-after-read')
  if (earlier !== 'read' && later !== 'read') kinds.push('write-after-write')
  return kinds
}
