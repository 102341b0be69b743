// A program over streams as plain data: what a generator makes, an oracle judges, a device runs, and a failure prints.
import type { HostStorage, StreamPriority } from '@spillway/core'
import type { TouchMode } from '../abi/abi-probe.js'

/** Size in bytes of one granule of virtual memory: ranges and physical memory are counted in granules. */
export const granuleBytes: number = 64 * 1024

/** Streams, events and device buffers are made where a step first names them; host buffers before the first step. */
export interface Program {
  readonly buffers: readonly BufferSpec[]
  /** Granules of each address range. */
  readonly ranges: readonly number[]
  /** Granules of each piece of physical memory. */
  readonly physicals: readonly number[]
  readonly priorities: readonly StreamPriority[]
  readonly steps: readonly Step[]
}

/** All sizes and offsets in bytes. `range`: part of an address range, whatever is mapped there. */
export type BufferSpec =
  | { readonly kind: 'host'; readonly bytes: number; readonly storage: HostStorage }
  | { readonly kind: 'device'; readonly bytes: number }
  | { readonly kind: 'range'; readonly bytes: number; readonly range: number; readonly offset: number }

export interface Span {
  readonly buffer: number
  readonly offset: number
  readonly bytes: number
}

type Disposable = 'buffer' | 'stream' | 'event' | 'graph' | 'range' | 'physical'

/** Numbers name objects: streams, events, promises and graphs by the steps alone, the others by the program's lists. */
export type Step =
  | { readonly do: 'copy'; readonly stream: number; readonly to: Span; readonly from: Span }
  | { readonly do: 'fill'; readonly stream: number; readonly to: Span; readonly value: number }
  | {
      readonly do: 'touch'
      readonly stream: number
      readonly spans: readonly (Span & { readonly mode: TouchMode })[]
      readonly seed: number
    }
  | { readonly do: 'record'; readonly stream: number; readonly event: number; readonly external?: boolean }
  | { readonly do: 'wait'; readonly stream: number; readonly event: number; readonly external?: boolean }
  /** Asks for the promise; `await` waits for it. */
  | { readonly do: 'synchronize'; readonly stream: number; readonly promise: number }
  | { readonly do: 'await'; readonly promise: number }
  /** The host does something else for a while: no order, but time for streams to end and promises to settle. */
  | { readonly do: 'pause' }
  | { readonly do: 'read'; readonly from: Span }
  | { readonly do: 'write'; readonly to: Span; readonly value: number }
  | { readonly do: 'beginCapture'; readonly stream: number }
  | { readonly do: 'endCapture'; readonly stream: number; readonly graph: number }
  | { readonly do: 'launch'; readonly stream: number; readonly graph: number }
  | { readonly do: 'map'; readonly range: number; readonly offset: number; readonly physical: number }
  | { readonly do: 'unmap'; readonly range: number; readonly offset: number; readonly bytes: number }
  | { readonly do: 'dispose'; readonly kind: Disposable; readonly id: number }

/** The bytes that a host write puts down: no two of them alike, within reason. */
export function writtenBytes(value: number, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (value * 31 + i * 7 + 1) & 0xff)
}

/** Steps that make order. */
export function isEdge(step: Step): boolean {
  return step.do === 'record' || step.do === 'wait' || step.do === 'synchronize' || step.do === 'await'
}

/** The program without a step; a synchronization goes with what waits for it. */
export function without(program: Program, step: Step): Program {
  const gone = (other: Step) =>
    other === step || (step.do === 'synchronize' && other.do === 'await' && other.promise === step.promise)
  return { ...program, steps: program.steps.filter((other) => !gone(other)) }
}

export function describeProgram(program: Program): string {
  const { steps, ...rest } = program
  return [JSON.stringify(rest), ...steps.map((step, i) => `${String(i).padStart(3)} ${JSON.stringify(step)}`)].join(
    '\n',
  )
}
