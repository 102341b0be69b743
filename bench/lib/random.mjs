// @ts-check
/** Numbers from a seed (mulberry32, by T. Ettinger): the same seed, the same program, on every machine. */
export class Random {
  #state

  /** @param {number} seed */
  constructor(seed) {
    // Neighbouring seeds would begin with similar numbers.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0
    this.below(2)
  }

  /**
   * A whole number from 0 up to, not including, `end`.
   * @param {number} end
   */
  below(end) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end)
  }

  /**
   * @param {number} least
   * @param {number} most
   */
  from(least, most) {
    return least + this.below(most - least + 1)
  }

  /** @param {number} percent */
  chance(percent) {
    return this.below(100) < percent
  }

  /**
   * @template T
   * @param {readonly T[]} items not empty
   */
  pick(items) {
    return /** @type {T} */ (items[this.below(items.length)])
  }

  /**
   * @template T
   * @param {readonly T[]} items
   */
  shuffled(items) {
    const shuffled = [...items]
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      ;[shuffled[i], shuffled[j]] = [/** @type {T} */ (shuffled[j]), /** @type {T} */ (shuffled[i])]
    }
    return shuffled
  }
}
