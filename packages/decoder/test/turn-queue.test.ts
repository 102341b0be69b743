import { describe, expect, test } from 'vitest'
import { TurnQueue } from '../src/turn-queue.js'

/** Enters, notes the name, and leaves when told. */
function visitor(
  queue: TurnQueue,
  log: string[],
  name: string,
  signal?: AbortSignal,
): { entered: Promise<void>; leave: () => void } {
  const entered = queue.enter(signal, 'waiting').then(() => void log.push(name))
  return { entered, leave: () => queue.leave() }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('TurnQueue', () => {
  test('lets one in at a time, in the order of asking', async () => {
    const queue = new TurnQueue()
    const log: string[] = []
    const visitors = ['a', 'b', 'c'].map((name) => visitor(queue, log, name))
    await settle()
    expect(log).toEqual(['a'])
    visitors[0]!.leave()
    await settle()
    expect(log).toEqual(['a', 'b'])
    // Somebody new, at the moment a turn passes on, does not jump the queue.
    visitors[1]!.leave()
    const late = visitor(queue, log, 'd')
    await settle()
    expect(log).toEqual(['a', 'b', 'c'])
    visitors[2]!.leave()
    await late.entered
    late.leave()
    await visitor(queue, log, 'e').entered
    expect(log).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  test('who aborts while waiting is out, and the others keep their order', async () => {
    const queue = new TurnQueue()
    const log: string[] = []
    const first = visitor(queue, log, 'a')
    const abort = new AbortController()
    const aborted = visitor(queue, log, 'b', abort.signal)
    const last = visitor(queue, log, 'c')
    abort.abort(new Error('changed my mind'))
    await expect(aborted.entered).rejects.toMatchObject({
      code: 'SPILLWAY_ABORTED',
      cause: { message: 'changed my mind' },
    })
    first.leave()
    await last.entered
    expect(log).toEqual(['a', 'c'])
    await expect(queue.enter(AbortSignal.abort(), 'waiting')).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
  })

  test('an abort after entering changes nothing here', async () => {
    const queue = new TurnQueue()
    const abort = new AbortController()
    const first = visitor(queue, [], 'a')
    const second = visitor(queue, [], 'b', abort.signal)
    first.leave()
    await second.entered
    abort.abort()
    let third = false
    const waiting = queue.enter(undefined, 'waiting').then(() => {
      third = true
    })
    await settle()
    expect(third).toBe(false)
    second.leave()
    await waiting
  })

  test('closing refuses those who wait and those who come, and waits for the one who is in', async () => {
    const queue = new TurnQueue()
    const first = visitor(queue, [], 'a')
    const second = visitor(queue, [], 'b')
    second.entered.catch(() => {})
    await first.entered
    let closed = false
    const closing = queue.close(new Error('closed')).then(() => {
      closed = true
    })
    await expect(second.entered).rejects.toThrow('closed')
    await expect(queue.enter(undefined, 'waiting')).rejects.toThrow('closed')
    await settle()
    expect(closed).toBe(false)
    first.leave()
    await closing
    await new TurnQueue().close(new Error('closed'))
  })
})
