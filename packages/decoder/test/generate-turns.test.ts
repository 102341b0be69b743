import type {
  BackendContext,
  ConfiguredBackend,
  DeviceBuffer,
  MemorySource,
  Recovery,
  ResidencySteps,
  Stream,
} from '@spillway/core'
import { configure } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../src/load-model.js'
import { fixture } from './fixtures.js'
import { run } from './generate-run.js'
import { hostLayers } from './host-layers.js'
import { expectNothingLeft, withDevice, withModel } from './with-device.js'

const f32 = fixture('llama-f32')
const prompt = 'The captain'

describe('one at a time', () => {
  test('overlapping calls wait for their turn, in order, and each gives what it gives alone', async () => {
    await withModel(f32, {}, async (model) => {
      const prompts = [
        [0, 5],
        [0, 9, 12, 7],
        [0, 300],
        [0, 44, 45],
      ]
      const alone: number[][] = []
      for (const each of prompts) alone.push((await run(model, each, { maxTokens: 12 })).tokens)
      const finished: number[] = []
      const together = prompts.map(async (each, i) => {
        const { tokens } = await run(model, each, { maxTokens: 12 })
        finished.push(i)
        return tokens
      })
      const logits = model.logits([0, 5, 6])
      expect(await Promise.all(together)).toEqual(alone)
      expect(finished).toEqual([0, 1, 2, 3])
      expect(await logits).toEqual(await model.logits([0, 5, 6]))
    })
  })

  test('an abort in mid-text stops after the running step and leaves the model usable', async () => {
    await withModel(f32, {}, async (model) => {
      const whole = await run(model, prompt, { maxTokens: 20 })
      const abort = new AbortController()
      const tokens: number[] = []
      const generation = model.generate(prompt, { maxTokens: 20, signal: abort.signal })
      const loop = (async () => {
        for await (const step of generation) {
          tokens.push(...step.tokens)
          if (tokens.length === 3) abort.abort(new Error('enough'))
        }
      })()
      await expect(loop).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED', cause: { message: 'enough' } })
      await expect(generation.result).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
      expect(tokens).toEqual(whole.tokens.slice(0, 3))
      expect((await run(model, prompt, { maxTokens: 20 })).tokens).toEqual(whole.tokens)
    })
  })

  test('an abort while a long prompt is read, within a step', async () => {
    await withModel(f32, { maxRows: 1 }, async (model, device) => {
      const abort = new AbortController()
      const before = device.counters().launches
      const step = model.generate(Array(100).fill(5), { signal: abort.signal }).next()
      setImmediate(() => abort.abort())
      await expect(step).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
      const launches = device.counters().launches - before
      const perStep = 3 + 3 * 6
      expect(launches).toBeLessThan(50 * perStep)
      expect((await run(model, prompt, { maxTokens: 2 })).tokens).toHaveLength(2)
    })
  })

  test('an abort while waiting for a turn lets the others keep theirs', async () => {
    await withModel(f32, {}, async (model) => {
      const first = model.generate(prompt, { maxTokens: 4 })
      await first.next()
      const abort = new AbortController()
      const second = model.generate(prompt, { maxTokens: 4, signal: abort.signal }).next()
      const third = run(model, prompt, { maxTokens: 4 })
      abort.abort()
      await expect(second).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
      for await (const _ of first);
      expect((await third).tokens).toHaveLength(4)
      await expect(model.logits([5], { signal: abort.signal })).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
    })
  })

  test('leaving the loop frees the model at once', async () => {
    await withModel(f32, {}, async (model) => {
      const generation = model.generate(prompt, { maxTokens: 50 })
      for await (const _ of generation) break
      expect(await generation.result).toMatchObject({ finishReason: 'cancelled', generatedTokens: 1 })
      expect((await run(model, prompt, { maxTokens: 3 })).tokens).toHaveLength(3)
    })
  })

  test('who reads the last token and no further keeps the model from nobody', async () => {
    await withModel(f32, {}, async (model) => {
      const generation = model.generate(prompt, { maxTokens: 1 })
      await generation.next()
      expect((await run(model, prompt, { maxTokens: 1 })).tokens).toHaveLength(1)
    })
  })

  test('an abort of somebody who has stopped reading frees the model too', async () => {
    await withModel(f32, {}, async (model) => {
      const abort = new AbortController()
      const generation = model.generate(prompt, { maxTokens: 50, signal: abort.signal })
      await generation.next()
      const waiting = run(model, prompt, { maxTokens: 3 })
      abort.abort()
      expect((await waiting).tokens).toHaveLength(3)
    })
  })
})

// Replays ask no backend: those are in decode-graph.test.ts.
test('a backend that fails in mid-forward fails that call only', async () => {
  const log: string[] = []
  let failing = false
  const offload = hostLayers(
    Object.assign(log, {
      push: (line: string): number => {
        if (failing && line === 'before model.layers.1') throw new Error('no slot today')
        return 0
      },
    }),
  )
  await withModel(f32, { offload, enforceEager: true }, async (model) => {
    const whole = await run(model, prompt, { maxTokens: 6 })
    const generation = model.generate(prompt, { maxTokens: 6 })
    await generation.next()
    failing = true
    await expect(generation.next()).rejects.toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED' })
    await expect(model.logits([5])).rejects.toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED' })
    failing = false
    expect((await run(model, prompt, { maxTokens: 6 })).tokens).toEqual(whole.tokens)
  })
})

describe('dispose', () => {
  test('stops what runs, refuses what waits and what comes, and frees everything', async () => {
    await withDevice(async (device) => {
      const handles = device.counters().liveHandles
      const model = await loadModel(f32, { device })
      const running = model.generate(prompt)
      await running.next()
      const step = running.next()
      step.catch(() => {})
      const waiting = run(model, prompt)
      const logits = model.logits([5])
      const disposed = model.dispose()
      expect(model.dispose()).toBe(disposed)
      await expect(waiting).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
      await expect(logits).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
      await disposed
      expectNothingLeft(device, handles)
      await step.catch((error) => expect(error).toMatchObject({ code: 'SPILLWAY_DISPOSED' }))
      await expect(running.result).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
      expect(() => model.generate(prompt)).toThrow(expect.objectContaining({ code: 'SPILLWAY_DISPOSED' }))
      await expect(model.logits([5])).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
    })
  })
})

test('the event loop goes on while tokens are computed', async () => {
  await withModel(f32, {}, async (model) => {
    let ticks = 0
    let going = true
    const tick = (): void => {
      ticks++
      if (going) setImmediate(tick)
    }
    setImmediate(tick)
    const { tokens } = await run(model, prompt, { maxTokens: 100 })
    going = false
    expect(tokens).toHaveLength(100)
    // Not a matter of speed: a step that waited on this thread would let nobody in.
    expect(ticks).toBeGreaterThan(50)
  })
})

/** A residency backend that only remembers what it gave out, so that a test can take contents away as a sleep does. */
function forgetful(given: { tag: string; buffer: DeviceBuffer; recovery: Recovery }[]): ConfiguredBackend {
  const create = async (context: BackendContext): Promise<ResidencySteps> => {
    const source = (tag: string): MemorySource => ({
      tag,
      allocate(bytes, options) {
        const buffer = context.memory(tag).allocate(bytes, options)
        given.push({ tag, buffer, recovery: options.recovery })
        return buffer
      },
    })
    const event = context.device.createEvent()
    return {
      source,
      use: (tag, fn) => fn(source(tag)),
      sleep: async () => ({ keptBytes: 0, copiedBytes: 0, discardedBytes: 0, freedBytes: 0 }),
      wake: async () => ({ mappedBytes: 0, copiedBytes: 0, checkedBlocks: 0 }),
      discard: async () => {},
      fence: () => ({ event, open: true }),
      epoch: () => 0,
      state: () => new Map(),
      dispose: () => event.dispose(),
    }
  }
  return configure({
    name: 'forgetful',
    apiVersion: 1,
    role: 'residency',
    supports: { offloads: false, graphs: true, unpinned: true, kernels: false, reload: false },
    options: {},
    create,
  })
}

test('a cache that was lost in mid-text is filled again, and the text goes on as if nothing had been', async () => {
  await withDevice(async (device) => {
    const given: { tag: string; buffer: DeviceBuffer; recovery: Recovery }[] = []
    const model = await loadModel(f32, { device, offload: forgetful(given), maxRows: 4 })
    const whole = await run(model, prompt, { maxTokens: 12 })
    const tokens: number[] = []
    const stream: Stream = device.createStream()
    for await (const step of model.generate(prompt, { maxTokens: 12 })) {
      tokens.push(...step.tokens)
      if (tokens.length !== 5) continue
      // What a sleep at level 2 does: only what is `rebuild` loses its bytes and is told so.
      for (const { buffer, recovery } of given) {
        if (buffer.disposed || recovery.kind !== 'rebuild') continue
        stream.fill(buffer, 0xff)
        recovery.rebuild(stream)
      }
      await stream.synchronize()
    }
    expect(
      given
        .filter(({ buffer }) => !buffer.disposed)
        .map(({ tag, recovery }) => `${tag} ${recovery.kind}`)
        .sort(),
    ).toEqual(['kv_cache rebuild', 'runtime copy', ...Array(6).fill('weights copy'), 'workspace rebuild'])
    expect(tokens).toEqual(whole.tokens)
    await stream.dispose()
    await model.dispose()
  })
})
