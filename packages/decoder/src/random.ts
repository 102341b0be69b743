/**
 * A small seeded generator: the same seed gives the same numbers on every machine and in every version of Node, which
 * Math.random does not promise. Good enough to sample tokens and to fill dummy weights; not for secrets.
 *
 * xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its state filled by
 * SplitMix32 steps, as its authors advise, so that seeds 0 and 1 have nothing in common.
 */
export class Random {
  readonly #state: Uint32Array

  /** `seed`: a safe integer, of which all 53 bits and the sign count; or the four words of the state itself. */
  constructor(seed: number | Uint32Array) {
    this.#state = typeof seed === 'number' ? stateOf(seed) : seed.slice(0, 4)
    // The first output reads one word of four: let every bit of the seed reach all of them before it.
    for (let i = 0; typeof seed === 'number' && i < 8; i++) this.uint32()
  }

  /** Uniform over 0 … 2^32 - 1. */
  uint32(): number {
    const state = this.#state
    const a = state[0] as number
    const b = state[1] as number
    const c = state[2] as number
    const d = state[3] as number
    const scaled = Math.imul(b, 5)
    const result = Math.imul((scaled << 7) | (scaled >>> 25), 9) >>> 0
    const d2 = d ^ b
    const c2 = c ^ a
    state[1] = b ^ c2
    state[0] = a ^ d2
    state[2] = c2 ^ (b << 9)
    state[3] = (d2 << 11) | (d2 >>> 21)
    return result
  }

  /** Uniform over [0, 1), 53 bits. */
  uniform(): number {
    const high = this.uint32() >>> 5
    const low = this.uint32() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** Standard normal (Box and Muller's transform, one of its two values). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform())
  }
}

function stateOf(seed: number): Uint32Array {
  const state = new Uint32Array(4)
  const high = Math.floor(seed / 2 ** 32) >>> 0
  let mix = seed >>> 0
  for (let i = 0; i < state.length; i++) {
    mix = (mix + 0x9e3779b9 + (i === 2 ? high : 0)) >>> 0
    let word = mix
    word = Math.imul(word ^ (word >>> 16), 0x21f0aaad)
    word = Math.imul(word ^ (word >>> 15), 0x735a2d97)
    state[i] = word ^ (word >>> 15)
  }
  // All zeros is the one state it never leaves.
  if (state.every((word) => word === 0)) state[0] = 1
  return state
}
