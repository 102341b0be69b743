/**
 * Pseudo-random numbers from a seed: the same on every machine. The mixing is that of SplitMix (Steele, Lea, Flood:
 * Fast splittable pseudorandom number generators, 2014), in 32 bits.
 */
export class Random {
  #state

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed >>> 0
  }

  /** 0 … 2^32 - 1. */
  next() {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }

  /** 0 … `limit` - 1. */
  below(limit) {
    return this.next() % limit
  }

  chance(probability) {
    return this.next() < probability * 2 ** 32
  }

  pick(list) {
    return list[this.below(list.length)]
  }
}
