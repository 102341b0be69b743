import { expect, test } from 'vitest'
import { runRandomAllocations } from '../device-memory/stream-order.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('allocations on a GPU', () => {
  test('memory is nobody else’s before its work is done, whatever the streams', async () => {
    let turnover = 0
    for (let seed = 1; seed <= 40; seed++) {
      const result = await runRandomAllocations(openCuda, seed, 400)
      expect(result.wrong, `seed ${seed}`).toEqual([])
      turnover += result.turnover
    }
    expect(turnover / 40).toBeGreaterThan(2)
  })
})
