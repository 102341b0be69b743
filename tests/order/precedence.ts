/** A graph of what comes before what, with everything that comes before each node as a set of bits. */
export class Precedence {
  readonly #before: Uint32Array[] = []

  get size(): number {
    return this.#before.length
  }

  /** A new node, after these and all that comes before them. */
  add(after: Iterable<number | undefined>): number {
    const node = this.#before.length
    const bits = new Uint32Array((node >>> 5) + 1)
    for (const other of after) {
      if (other === undefined) continue
      const inherited = this.#before[other]!
      for (let i = 0; i < inherited.length; i++) bits[i]! |= inherited[i]!
      bits[other >>> 5]! |= 1 << (other & 31)
    }
    this.#before.push(bits)
    return node
  }

  comesBefore(earlier: number, later: number): boolean {
    return ((this.#before[later]![earlier >>> 5]! >>> (earlier & 31)) & 1) === 1
  }
}
