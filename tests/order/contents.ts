import { touched } from '../abi/touch-model.js'
import type { Operation } from './conflict.js'
import { MemoryLayout, type Piece } from './memory-layout.js'
import type { Judgement } from './oracle.js'
import { granuleBytes, type Program, writtenBytes } from './program.js'

/** A byte that nobody has written: fresh device memory. Copies pass it on. */
const unwritten = -1

/** What memory holds when a program's operations happen in the order the program asks for them. */
export class Contents {
  /** Steps of kernels that read bytes nobody has written. */
  readonly unwrittenReads: Set<number> = new Set()
  /** By step of a host read: what it sees. */
  readonly seen: Map<number, Int16Array> = new Map()
  readonly #program: Program
  readonly #memories = new Map<string, Int16Array>()

  constructor(program: Program, { operations }: Judgement) {
    this.#program = program
    for (const operation of operations) this.#run(operation)
  }

  /** Every byte of a buffer at the end, -1 where it is anything. undefined: nothing is mapped there. */
  buffer(buffer: number): Int16Array | undefined {
    const layout = new MemoryLayout(this.#program)
    for (const step of this.#program.steps) {
      if (step.do === 'map') layout.map(step.range, step.offset, step.physical)
      if (step.do === 'unmap') layout.unmap(step.range, step.offset, step.bytes)
    }
    const pieces = layout.pieces({ buffer, offset: 0, bytes: this.#program.buffers[buffer]!.bytes })
    return pieces && this.#gather(pieces)
  }

  #memory(name: string): Int16Array {
    let bytes = this.#memories.get(name)
    if (!bytes) {
      const [kind, id] = name.split(' ') as [string, string]
      const spec = this.#program.buffers[Number(id)]
      bytes =
        kind === 'physical'
          ? new Int16Array(this.#program.physicals[Number(id)]! * granuleBytes).fill(unwritten)
          : new Int16Array(spec!.bytes).fill(spec!.kind === 'host' ? 0 : unwritten)
      this.#memories.set(name, bytes)
    }
    return bytes
  }

  #gather(pieces: readonly Piece[]): Int16Array {
    const all = pieces.map(({ memory, from, to }) => this.#memory(memory).subarray(from, to))
    const bytes = new Int16Array(all.reduce((sum, part) => sum + part.length, 0))
    let at = 0
    for (const part of all) {
      bytes.set(part, at)
      at += part.length
    }
    return bytes
  }

  #scatter(pieces: readonly Piece[], bytes: ArrayLike<number>): void {
    let at = 0
    for (const { memory, from, to } of pieces) {
      const target = this.#memory(memory)
      for (let i = from; i < to; i++) target[i] = bytes[at++]!
    }
  }

  #run({ step: index, accesses }: Operation): void {
    const step = this.#program.steps[index]!
    const size = (pieces: readonly Piece[]) => pieces.reduce((sum, { from, to }) => sum + to - from, 0)
    switch (step.do) {
      case 'copy':
        this.#scatter(accesses[0]!.pieces, this.#gather(accesses[1]!.pieces))
        return
      case 'fill':
        this.#scatter(accesses[0]!.pieces, new Uint8Array(size(accesses[0]!.pieces)).fill(step.value))
        return
      case 'write':
        this.#scatter(accesses[0]!.pieces, writtenBytes(step.value, step.to.bytes))
        return
      case 'read':
        this.seen.set(index, this.#gather(accesses[0]!.pieces))
        return
      case 'touch':
        this.#touch(index, accesses, step.seed)
        return
    }
  }

  /** One range after the other, since what a kernel writes to one it may read from the next. */
  #touch(index: number, accesses: Operation['accesses'], seed: number): void {
    const read: { bytes: Uint8Array; mode: 'read' }[] = []
    // Also bytes that the kernel writes itself before it reads them: a launch declares no order.
    const readable = accesses.every(({ mode, pieces }) => mode === 'write' || !this.#gather(pieces).includes(unwritten))
    if (!readable) this.unwrittenReads.add(index)
    for (const { mode, pieces } of accesses) {
      const before = this.#gather(pieces)
      if (mode !== 'write') {
        read.push({ bytes: Uint8Array.from(before), mode: 'read' })
      }
      if (mode === 'read') continue
      const bytes = new Uint8Array(before.length)
      touched([...read, { bytes, mode: 'write' }], seed)
      this.#scatter(pieces, bytes)
    }
  }
}
