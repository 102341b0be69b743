import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { slotSizes } from '../src/slots.js'

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

describe('slots', () => {
  it('are one a step for layers of one size, and no more than layers', () => {
    expect(slotSizes([5, 5, 5, 5, 5], 2)).toEqual([5, 5])
    expect(slotSizes([5, 5], 8)).toEqual([5, 5])
    expect(slotSizes([], 2)).toEqual([])
  })

  it('cost an odd layer once, wherever it is, whatever the step', () => {
    for (let odd = 0; odd < 9; odd++) {
      for (const step of [1, 2, 3, 4]) {
        const bytes = Array.from({ length: 9 }, (_, i) => (i === odd ? 100 : 10))
        expect(sum(slotSizes(bytes, step)), `${odd}, step ${step}`).toBe(100 + 10 * (step - 1))
      }
    }
  })

  it('are shared by size: a step of 3 with every second layer large takes two large ones, not three', () => {
    expect(slotSizes([100, 10, 100, 10, 100, 10, 100, 10], 3)).toEqual([100, 10, 100, 10])
    expect(slotSizes([100, 10, 100, 10, 100, 10, 100, 10], 2)).toEqual([100, 10])
    // A head like the embedding shares its slot where the distance allows it.
    expect(slotSizes([500, 10, 10, 10, 10, 10, 500], 2)).toEqual([500, 10])
    expect(slotSizes([500, 10, 10, 10, 10, 500], 2)).toEqual([500, 10, 10, 10, 10])
  })

  it('are as many as asked for where rounding up makes more of them no smaller', () => {
    const inPages = (bytes: number): number => Math.ceil(bytes / 4096) * 4096
    expect(slotSizes([100, 10, 100, 10, 100, 10], 3, inPages)).toEqual([100, 100, 100])
    expect(slotSizes([9000, 10, 9000, 10, 9000, 10], 3, inPages)).toEqual([9000, 10, 9000, 10])
  })

  it('hold every layer, take the fewest bytes of all rings of at least that many slots, and never fewer slots', () => {
    const bytes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 14 }), (elements, step) => {
        const slots = slotSizes(elements, step)
        const least = Math.min(step, elements.length)
        expect(slots.length).toBeGreaterThanOrEqual(least)
        for (const [i, size] of elements.entries()) expect(slots[i % slots.length]).toBeGreaterThanOrEqual(size)
        for (let count = least; count <= elements.length; count++) {
          const other = Array.from({ length: count }, (_, k) => Math.max(...elements.filter((_, i) => i % count === k)))
          expect(sum(slots)).toBeLessThanOrEqual(sum(other))
        }
      }),
    )
  })
})
