import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Random } from '../src/random.js'
import { argmax, Sampler, type SamplingOptions } from '../src/sampler.js'

const draws = 20_000

/** How often each token is drawn, as fractions. */
function frequencies(logits: readonly number[], options: SamplingOptions): number[] {
  const sampler = new Sampler({ seed: 1, ...options })
  const counts = logits.map(() => 0)
  const row = Float32Array.from(logits)
  for (let i = 0; i < draws; i++) counts[sampler.sample(row)]!++
  return counts.map((count) => count / draws)
}

/** Four standard deviations of a frequency, about one false alarm in 16,000 with a seed that is fixed anyway. */
function expectNear(actual: readonly number[], expected: readonly number[]): void {
  for (const [i, p] of expected.entries()) {
    expect(Math.abs(actual[i]! - p)).toBeLessThanOrEqual(4 * Math.sqrt((p * (1 - p)) / draws))
  }
}

function softmax(logits: readonly number[], temperature = 1): number[] {
  const weights = logits.map((logit) => Math.exp(logit / temperature))
  const sum = weights.reduce((a, b) => a + b)
  return weights.map((weight) => weight / sum)
}

describe('Random', () => {
  test('is the published generator', () => {
    // What the authors' C program of xoshiro128** prints for the state 1, 2, 3, 4.
    const random = new Random(Uint32Array.of(1, 2, 3, 4))
    expect([random.uint32(), random.uint32(), random.uint32(), random.uint32()]).toEqual([11520, 0, 5927040, 70819200])
  })

  test('a seed gives the same numbers for ever', () => {
    const random = new Random(42)
    const numbers = Array.from({ length: 4 }, () => random.uint32())
    expect(numbers).toMatchInlineSnapshot(`
      [
        2460634111,
        3466307039,
        1235700567,
        2581809382,
      ]
    `)
    expect(new Random(43).uint32()).not.toBe(numbers[0])
    expect(new Random(42 + 2 ** 32).uint32()).not.toBe(numbers[0])
    expect(new Random(-42).uint32()).not.toBe(numbers[0])
  })

  test('uniform and normal have the moments they should have', () => {
    const random = new Random(7)
    const n = 100_000
    let [sum, squares, normalSum, normalSquares] = [0, 0, 0, 0]
    for (let i = 0; i < n; i++) {
      const uniform = random.uniform()
      if (!(uniform >= 0 && uniform < 1)) throw new Error(`uniform gave ${uniform}`)
      sum += uniform
      squares += uniform * uniform
      const normal = random.normal()
      normalSum += normal
      normalSquares += normal * normal
    }
    expect(sum / n).toBeCloseTo(1 / 2, 2)
    expect(squares / n).toBeCloseTo(1 / 3, 2)
    expect(Math.abs(normalSum / n)).toBeLessThan(4 / Math.sqrt(n))
    expect(Math.abs(normalSquares / n - 1)).toBeLessThan(4 * Math.sqrt(2 / n))
  })
})

describe('Sampler', () => {
  const logits = [2, 1, 0, -1, -2]

  test('is greedy by default, the lowest id among equals', () => {
    expect(new Sampler().sample(Float32Array.of(1, 3, 2, 3))).toBe(1)
    expect(new Sampler({ temperature: 0, seed: 5 }).sample(Float32Array.of(-3, -1, -2))).toBe(1)
    expect(new Sampler({ temperature: 5, topK: 1 }).sample(Float32Array.of(1, 3, 2, 3))).toBe(1)
  })

  test('temperature divides the logits', () => {
    expectNear(frequencies(logits, { temperature: 1 }), softmax(logits))
    expectNear(frequencies(logits, { temperature: 0.5 }), softmax(logits, 0.5))
    expectNear(frequencies(logits, { temperature: 3 }), softmax(logits, 3))
  })

  test('top-k keeps exactly k, also among equals', () => {
    expectNear(frequencies(logits, { temperature: 1, topK: 2 }), [...softmax([2, 1]), 0, 0, 0])
    expectNear(frequencies([0, 1, 1, 1], { temperature: 1, topK: 2 }), [0, 1 / 2, 1 / 2, 0])
    expectNear(frequencies(logits, { temperature: 1, topK: 100 }), softmax(logits))
  })

  test('top-p keeps the fewest that reach it', () => {
    const p = softmax(logits)
    // 0.637, 0.871, 0.957 …
    expectNear(frequencies(logits, { temperature: 1, topP: p[0]! + 0.01 }), [...softmax([2, 1]), 0, 0, 0])
    expectNear(frequencies(logits, { temperature: 1, topP: p[0]! - 0.01 }), [1, 0, 0, 0, 0])
    expectNear(frequencies(logits, { temperature: 1, topP: 1e-9 }), [1, 0, 0, 0, 0])
    expectNear(frequencies(logits, { temperature: 1, topP: 0.999999999 }), p)
  })

  test('top-p counts within what temperature and top-k left', () => {
    // Of [2, 1, 0] the first has 0.665: with all five it would have 0.637 and 0.65 would need two.
    expectNear(frequencies(logits, { temperature: 1, topK: 3, topP: 0.65 }), [1, 0, 0, 0, 0])
    expectNear(frequencies(logits, { temperature: 1, topP: 0.65 }), [...softmax([2, 1]), 0, 0, 0])
  })

  test('the same seed gives the same tokens, another one others', () => {
    const run = (seed: number | undefined): number[] => {
      const sampler = new Sampler(seed === undefined ? { temperature: 1 } : { temperature: 1, seed })
      return Array.from({ length: 50 }, () => sampler.sample(new Float32Array(1000)))
    }
    expect(run(3)).toEqual(run(3))
    expect(run(3)).not.toEqual(run(4))
    expect(run(undefined)).not.toEqual(run(undefined))
  })

  test('filters draw only what a plain sort would keep', () => {
    const row = fc.array(fc.double({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 60 })
    fc.assert(
      fc.property(
        row,
        fc.integer({ min: 0, max: 70 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        fc.integer(),
        (values, topK, topP, seed) => {
          const logits = Float32Array.from(values)
          const token = new Sampler({ temperature: 1, topK, topP, seed }).sample(logits)
          const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)
          const kept = topK === 0 ? order : order.slice(0, topK)
          const p = softmax(kept.map((id) => logits[id]!))
          const rank = kept.indexOf(token)
          expect(rank).toBeGreaterThanOrEqual(0)
          // All before it are not enough; 1e-9 for sums done in another order.
          const before = p.slice(0, rank).reduce((a, b) => a + b, 0)
          expect(before).toBeLessThan(topP + 1e-9)
        },
      ),
    )
  })

  test('minus infinity is never drawn, plus infinity always', () => {
    expectNear(frequencies([0, Number.NEGATIVE_INFINITY, 0], { temperature: 1 }), [0.5, 0, 0.5])
    expectNear(frequencies([0, Number.POSITIVE_INFINITY, 0], { temperature: 1 }), [0, 1, 0])
  })

  test('a NaN is a coded error, wherever it stands', () => {
    for (const length of [1, 3, 4, 7, 9]) {
      for (let token = 0; token < length; token++) {
        const row = Float32Array.from({ length }, (_, i) => (i === token ? Number.NaN : 10 - i))
        for (const temperature of [0, 1]) {
          expect(() => new Sampler({ temperature }).sample(row)).toThrow(
            expect.objectContaining({ code: 'SPILLWAY_DECODER_LOGITS', details: { token } }),
          )
        }
      }
    }
  })

  test('the largest logit is found wherever it stands, of equals the first', () => {
    for (let length = 1; length <= 12; length++) {
      for (let token = 0; token < length; token++) {
        const row = Float32Array.from({ length }, (_, i) => (i === token ? 3 : i % 3))
        expect(argmax(row)).toBe(token)
        expect(argmax(row.map((value) => value - 100))).toBe(token)
        expect(argmax(Float32Array.from({ length }, (_, i) => (i >= token ? 0 : -1)))).toBe(token)
      }
      expect(argmax(new Float32Array(length).fill(Number.NEGATIVE_INFINITY))).toBe(0)
    }
    expect(argmax(Float32Array.of(-1, -2))).toBe(0)
  })

  test.each([
    { temperature: -1 },
    { temperature: Number.NaN },
    { temperature: '1' as unknown as number },
    { topK: 1.5 },
    { topK: -1 },
    { topP: 0 },
    { topP: 1.1 },
    { seed: 0.5 },
  ])('refuses %o', (options) => {
    const name = Object.keys(options)[0]!
    expect(() => new Sampler(options)).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_OPTION', message: expect.stringContaining(`${name} is `) }),
    )
  })
})
