import { configure, type Device, type DeviceCounters, none } from '@spillway/core'
import { NativeHostBuffer, openDevice } from '@spillway/device'
import { describe, expect, test, vi } from 'vitest'
import { decideGraph, type GraphDecisionOptions } from '../src/decode-graph.js'
import { loadModel } from '../src/load-model.js'
import type { Model } from '../src/model.js'
import { decode } from './decoded-logits.js'
import { fixture } from './fixtures.js'
import { run } from './generate-run.js'
import { hostLayers } from './host-layers.js'
import { settledCounters } from './settled-counters.js'
import { expectNothingLeft, withDevice, withModel } from './with-device.js'

const f32 = fixture('llama-f32')
const prompt = [0, 5, 6, 7]
const layerBytes = 4 * 3 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
const logitsBytes = 4 * 384

/** What a device did for one token, its figures all at once. */
async function perToken(model: Model, device: Device): Promise<Partial<DeviceCounters>> {
  const steps = model.generate(prompt, { maxTokens: 8 })
  // The prompt, a rehearsal, and the capture.
  for (let token = 0; token < 3; token++) await steps.next()
  const before = await settledCounters(model, device)
  for (let token = 0; token < 5; token++) await steps.next()
  const after = await settledCounters(model, device)
  await steps.return!()
  const names = [
    'launches',
    'graphLaunches',
    'hostToDeviceCopies',
    'hostToDeviceBytes',
    'deviceToHostCopies',
    'deviceToHostBytes',
    'deviceToDeviceBytes',
    'hostToHostBytes',
  ] as const
  return Object.fromEntries(names.map((name) => [name, (after[name] - before[name]) / 5]))
}

describe('a token costs', () => {
  const token = {
    hostToDeviceCopies: 1,
    hostToDeviceBytes: 8,
    deviceToHostCopies: 1,
    deviceToHostBytes: logitsBytes,
    deviceToDeviceBytes: 0,
    hostToHostBytes: 0,
  }

  test('the same kernels and copies as without a graph, and one launch of it', async () => {
    const eager = await withModel(f32, { enforceEager: true }, async (model, device) => {
      expect(model.decodeGraph).toEqual({ graph: false, reason: 'enforceEager' })
      return perToken(model, device)
    })
    const { launches } = eager
    // Embedding, the last norm, head; of each layer qkv, the rotation, attention, o, gate and up, down.
    expect(launches).toBe(3 + 3 * 6)
    expect(eager).toEqual({ ...token, launches, graphLaunches: 0 })
    await withModel(f32, {}, async (model, device) => {
      expect(model.decodeGraph.graph).toBe(true)
      expect(await perToken(model, device)).toEqual({ ...token, launches, graphLaunches: 1 })
    })
    // The copies of offloaded layers are part of the graph.
    const offloaded = { hostToDeviceCopies: 1 + 3, hostToDeviceBytes: 8 + layerBytes }
    await withModel(f32, { offload: hostLayers([]) }, async (model, device) => {
      expect(await perToken(model, device)).toEqual({ ...token, ...offloaded, launches, graphLaunches: 1 })
    })
  })

  test('one launch, one write and one wait, for an event: nothing else enters the device', async () => {
    await withModel(f32, { offload: hostLayers([]) }, async (model, device) => {
      const steps = model.generate(prompt, { maxTokens: 10 })
      for (let count = 0; count < 3; count++) await steps.next()
      const write = vi.spyOn(NativeHostBuffer.prototype, 'write')
      const before = device.failures.passed()
      for (let count = 0; count < 5; count++) await steps.next()
      const after = device.failures.passed()
      const [firstWrite] = write.mock.calls
      const writes = write.mock.calls.length
      write.mockRestore()
      await steps.return!()
      const passed = Object.fromEntries(
        Object.entries(after).map(([point, count]) => [point, count - before[point as keyof typeof before]]),
      )
      expect(passed).toEqual({
        launch: 5,
        stream: 5,
        allocation: 0,
        copy: 0,
        event: 5,
        mapping: 0,
        capture: 0,
        pinning: 0,
      })
      expect(writes).toBe(5)
      expect(firstWrite![0]).toHaveLength(8)
    })
  })
})

describe('a replay', () => {
  test('asks no backend, and gives every logit of a forward that does', async () => {
    const log: string[] = []
    const eager = await withModel(f32, { enforceEager: true }, (model) => decode(model, prompt, { maxTokens: 20 }))
    await withModel(f32, { offload: hostLayers(log) }, async (model, device) => {
      const asked: number[] = []
      log.length = 0
      const replayed = await decode(model, prompt, { maxTokens: 20 }, () => void asked.push(log.length))
      expect(replayed).toEqual(eager)
      const calls = 6 * 2 + 1
      // The prompt, the rehearsal, the capture.
      expect(asked).toEqual([calls, 2 * calls, ...Array(18).fill(3 * calls)])
      expect(device.counters().graphLaunches).toBe(18)
      // Captured once: the next text has its prompt read, and no more.
      await run(model, prompt, { maxTokens: 10 })
      expect(log).toHaveLength(4 * calls)
      expect(device.counters().graphLaunches).toBe(18 + 9)
      expect(model.stats().onloadedBytes).toBe(3 * layerBytes)
    })
  })

  test('of a prompt of one token, and of a prompt’s last one', async () => {
    const prompts = [[5], [0, 5, 6, 7, 8], [300], [0, 1, 2]]
    const generate = (model: Model) => Promise.all(prompts.map((each) => run(model, each, { maxTokens: 6 })))
    const tokens = (runs: Awaited<ReturnType<typeof generate>>) => runs.map((each) => each.tokens)
    const eager = await withModel(f32, { enforceEager: true, maxRows: 2 }, generate)
    await withModel(f32, { maxRows: 2 }, async (model, device) => {
      expect(tokens(await generate(model))).toEqual(tokens(eager))
      // All but the first text's first token, and those that end a prompt of two rows at a time with two.
      expect(device.counters().graphLaunches).toBe(4 * 6 - 1)
    })
  })

  test('up to the last position of the context', async () => {
    const options = { contextLength: 12, kvCacheDtype: 'f32' } as const
    const eager = await withModel(f32, { ...options, enforceEager: true }, (model) => decode(model, prompt, {}))
    await withModel(f32, options, async (model) => {
      expect(await decode(model, prompt, {})).toEqual(eager)
      expect(eager.tokens).toHaveLength(8)
    })
  })

  test('between calls of logits(), which stay as they are', async () => {
    await withModel(f32, { offload: hostLayers([]) }, async (model) => {
      const logits = await model.logits(prompt)
      const { tokens } = await run(model, prompt, { maxTokens: 8 })
      expect(await model.logits(prompt)).toEqual(logits)
      expect((await run(model, prompt, { maxTokens: 8 })).tokens).toEqual(tokens)
    })
  })
})

describe('overlapping and ending', () => {
  test('texts that overlap take turns on one graph', async () => {
    const prompts = [
      [0, 5],
      [0, 9, 12, 7],
      [0, 300],
      [0, 44, 45],
    ]
    const eager = await withModel(f32, { enforceEager: true }, (model) =>
      Promise.all(prompts.map((each) => run(model, each, { maxTokens: 12 }))),
    )
    await withModel(f32, {}, async (model, device) => {
      const finished: number[] = []
      const replayed = await Promise.all(
        prompts.map(async (each, i) => {
          const { tokens } = await run(model, each, { maxTokens: 12 })
          finished.push(i)
          return tokens
        }),
      )
      expect(replayed).toEqual(eager.map(({ tokens }) => tokens))
      expect(finished).toEqual([0, 1, 2, 3])
      expect(device.counters().graphLaunches).toBe(4 * 11 - 1)
    })
  })

  test('an abort between replays or during one stops there, and the model goes on', async () => {
    await withModel(f32, {}, async (model, device) => {
      const whole = await run(model, prompt, { maxTokens: 20 })
      for (const abortIn of ['token', 'step'] as const) {
        const abort = new AbortController()
        const tokens: number[] = []
        const before = device.counters().graphLaunches
        const generation = model.generate(prompt, { maxTokens: 20, signal: abort.signal })
        const loop = (async () => {
          for await (const step of generation) {
            tokens.push(...step.tokens)
            if (tokens.length !== 7) continue
            if (abortIn === 'token') abort.abort()
            else queueMicrotask(() => abort.abort())
          }
        })()
        await expect(loop).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' })
        expect(tokens).toEqual(whole.tokens.slice(0, 7))
        const launched = device.counters().graphLaunches - before
        expect(launched).toBe(abortIn === 'token' ? 6 : 7)
        expect((await run(model, prompt, { maxTokens: 20 })).tokens).toEqual(whole.tokens)
      }
    })
  })

  test('a model that is disposed waits for the replay in flight, and leaves nothing', async () => {
    await withDevice(async (device) => {
      const handles = device.counters().liveHandles
      const model = await loadModel(f32, { device, offload: hostLayers([]) })
      const running = model.generate(prompt)
      for (let token = 0; token < 4; token++) await running.next()
      const before = device.failures.passed().launch
      const step = running.next()
      step.catch(() => {})
      await Promise.resolve()
      await vi.waitFor(() => expect(device.failures.passed().launch).toBe(before + 1))
      await model.dispose()
      expectNothingLeft(device, handles)
      await expect(running.result).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
    })
  })

  test('a device that is closed under a replay ends the text with a code', async () => {
    const device = await openDevice('host', { memoryLimitBytes: 2 ** 26 })
    const model = await loadModel(f32, { device })
    const running = model.generate(prompt)
    for (let token = 0; token < 4; token++) await running.next()
    const rest = (async () => {
      for await (const _ of running);
    })()
    const closed = device.dispose()
    await expect(rest).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
    await closed
    // Too late to count anything.
    await model.dispose().catch(() => {})
  })
})

describe('failures', () => {
  // In a prompt, in a rehearsal, in the capture, in launch and wait. Of launches there are many that are alike.
  test.each([
    ['capture', 1],
    ['copy', 1],
    ['stream', 1],
    ['launch', 7],
    ['any', 11],
  ] as const)('at one %s after another end one text with a code, and the next one is right', async (at, stride) => {
    const options = { offload: hostLayers([]), maxRows: 4 }
    const whole = await withModel(f32, { ...options, enforceEager: true }, (model) => run(model, prompt))
    let failures = 0
    for (let number = 1; number < 200; number += stride) {
      const fired = await withModel(f32, options, async (model, device) => {
        device.failures.arm({ at, number })
        const failed = await run(model, prompt, { maxTokens: 5 }).then(
          () => undefined,
          (error: unknown) => error,
        )
        const { fired } = device.failures
        device.failures.disarm()
        if (fired) expect(failed).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_/) })
        else expect(failed).toBe(undefined)
        const before = device.counters().graphLaunches
        const { tokens } = await run(model, prompt, { maxTokens: 8 })
        expect(tokens).toEqual(whole.tokens.slice(0, 8))
        // A rehearsal first where a forward has failed.
        expect(device.counters().graphLaunches - before).toBe(fired ? 6 : 7)
        return fired
      })
      if (!fired) break
      failures++
    }
    expect(failures).toBeGreaterThan(at === 'capture' ? 1 : 2)
  })

  test('of a backend in a capture end that text; a failed prompt is followed by a rehearsal', async () => {
    const log: string[] = []
    let failing = false
    const push = (line: string): number => {
      if (failing && line === 'before model.layers.1') throw new Error('no slot today')
      return 0
    }
    await withModel(f32, { offload: hostLayers(Object.assign(log, { push })) }, async (model, device) => {
      const first = model.generate(prompt, { maxTokens: 8 })
      await first.next()
      await first.next()
      failing = true
      await expect(first.next()).rejects.toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED' })
      expect(device.counters().graphLaunches).toBe(0)
      failing = false
      const { tokens } = await run(model, prompt, { maxTokens: 8 })
      expect(device.counters().graphLaunches).toBe(6)
      failing = true
      await expect(run(model, prompt)).rejects.toMatchObject({ code: 'SPILLWAY_BACKEND_FAILED' })
      failing = false
      expect((await run(model, prompt, { maxTokens: 8 })).tokens).toEqual(tokens)
      expect(device.counters().graphLaunches).toBe(6 + 6)
    })
  })
})

describe('without a graph', () => {
  const decision = (more: { [Key in keyof GraphDecisionOptions]?: unknown }) =>
    decideGraph({
      device: { capabilities: { graphs: true } },
      pin: { pin: true, reason: '' },
      backends: [configure(none)],
      enforceEager: false,
      ...more,
    } as GraphDecisionOptions)
  const incapable = configure({ ...none, name: 'incapable', supports: { ...none.supports, graphs: false } })

  test.each([
    ['is what the caller wants', { enforceEager: true }, /^enforceEager$/],
    ['is all the device can', { device: { capabilities: { graphs: false } } }, /device has no graphs/],
    ['is all one of the backends can', { backends: [configure(none), incapable] }, /incapable cannot be captured/],
    ['is all that goes without pinned memory', { pin: { pin: false, reason: 'off' } }, /pinned: off/],
  ])('%s', (_, more, reason) => {
    expect(decision({})).toMatchObject({ graph: true })
    expect(decision(more)).toEqual({ graph: false, reason: expect.stringMatching(reason) })
  })

  test.each([
    ['pin: off', { pin: 'off' } as const],
    ['a backend that cannot be captured', { offload: incapable }],
  ])('%s: the same tokens, no graph', async (_, options) => {
    const eager = await withModel(f32, { enforceEager: true }, (model) => decode(model, prompt, { maxTokens: 8 }))
    await withModel(f32, options, async (model, device) => {
      expect(model.decodeGraph.graph).toBe(false)
      expect(await decode(model, prompt, { maxTokens: 8 })).toEqual(eager)
      expect(device.counters().graphLaunches).toBe(0)
    })
  })

  test('enforceEager is true or false', async () => {
    await withDevice(async (device) => {
      await expect(loadModel(f32, { device, enforceEager: 'yes' as unknown as boolean })).rejects.toMatchObject({
        code: 'SPILLWAY_INVALID_OPTION',
      })
    })
  })
})
