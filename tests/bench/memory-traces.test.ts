import { describe, expect, test } from 'vitest'
import { memoryTraces } from '../../bench/lib/memory-traces.mjs'
import { TraceWriter } from '../../bench/lib/trace-writer.mjs'

const size = { scale: 1 / 256, length: 0.05 }

test('the same traces each time', () => {
  expect(memoryTraces(size)).toEqual(memoryTraces(size))
})

describe.each(memoryTraces(size))('$name', ({ operations, streams, peakRequestedBytes }) => {
  test('uses only what is live, on the streams that it names, and asks for as much as it says', () => {
    const live = new Map<number, number>()
    const used = new Set<number>()
    let [bytes, most] = [0, 0]
    for (const one of operations) {
      if (one.operation === 'allocate') {
        expect(one.bytes).toBeGreaterThan(0)
        expect(Number.isInteger(one.bytes)).toBe(true)
        expect(live.has(one.id)).toBe(false)
        live.set(one.id, one.bytes)
        bytes += one.bytes
        most = Math.max(most, bytes)
      } else if (one.operation !== 'synchronize') expect(live.has(one.id)).toBe(true)
      if (one.operation === 'free') {
        bytes -= live.get(one.id)!
        live.delete(one.id)
      }
      if ('stream' in one) used.add(one.stream)
    }
    expect(most).toBe(peakRequestedBytes)
    expect([...used].sort()).toEqual(streams)
  })
})

test('a trace cannot free what is not live', () => {
  const trace = new TraceWriter(1)
  const id = trace.allocate(512, 'tag')
  trace.free(id)
  expect(() => trace.free(id)).toThrow(`block ${id} of a trace is freed, but not live`)
})
