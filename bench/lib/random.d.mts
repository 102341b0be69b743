/** Numbers from a seed: the same seed, the same program, on every machine. */
export class Random {
  constructor(seed: number)
  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number
  /** A whole number from `least` to `most`. */
  from(least: number, most: number): number
  chance(percent: number): boolean
  /** `items`: not empty. */
  pick<T>(items: readonly T[]): T
  shuffled<T>(items: readonly T[]): T[]
}
