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
import type { GenerateOptions, GenerationResult } from '../src/generation.js'
import { loadModel } from '../src/load-model.js'
import type { Model } from '../src/model.js'
import { fixture, fixtureJson, withDirectory } from './fixtures.js'
import { hostLayers } from './host-layers.js'
import { expectNothingLeft, withDevice, withModel } from './with-device.js'

interface Run {
  readonly text: string
  readonly pieces: string[]
  readonly tokens: number[]
  readonly result: GenerationResult
}

async function run(model: Model, prompt: string | readonly number[], options: GenerateOptions = {}): Promise<Run> {
  const pieces: string[] = []
  const tokens: number[] = []
  const generation = model.generate(prompt, options)
  for await (const step of generation) {
    pieces.push(step.text)
    tokens.push(...step.tokens)
  }
  return { text: pieces.join(''), pieces, tokens, result: await generation.result }
}

const f32 = fixture('llama-f32')
const prompt = 'The captain'

describe('text', () => {
  test('is the decoded tokens, in whole characters', async () => {
    await withModel(f32, {}, async (model) => {
      const { text, pieces, tokens, result } = await run(model, prompt, { maxTokens: 60, temperature: 1.5, seed: 3 })
      expect(tokens.length).toBeGreaterThan(20)
      expect(text).toBe(model.tokenizer!.decode(tokens))
      expect(pieces.some((piece) => /\p{Surrogate}/u.test(piece))).toBe(false)
      expect(result).toMatchObject({ promptTokens: 3, generatedTokens: tokens.length })
      // It may well end before: a random model draws any token.
      expect(result.finishReason).toBe(tokens.length === 60 ? 'length' : 'eos')
      expect(result.timings.prefillMs).toBeGreaterThan(0)
      expect(result.timings.decodeTokensPerSecond).toBeGreaterThan(0)
    })
  })

  test('a prompt of text is encoded with the model’s special tokens; token ids are taken as they are', async () => {
    await withModel(f32, {}, async (model) => {
      const ids = model.tokenizer!.encode(prompt)
      expect(ids[0]).toBe(0)
      expect((await run(model, ids, { maxTokens: 8 })).tokens).toEqual(
        (await run(model, prompt, { maxTokens: 8 })).tokens,
      )
    })
  })

  test('an empty prompt is the BOS token, where the model has one', async () => {
    await withModel(f32, {}, async (model) => {
      const expected = await run(model, [0], { maxTokens: 8 })
      expect((await run(model, [], { maxTokens: 8 })).tokens).toEqual(expected.tokens)
      expect((await run(model, '', { maxTokens: 8 })).tokens).toEqual(expected.tokens)
    })
    const { bos_token_id: _, ...config } = await fixtureJson('llama-f32', 'config.json')
    await withDirectory({ 'config.json': JSON.stringify(config) }, (directory) =>
      withModel(directory, { loadFormat: 'dummy' }, async (model) => {
        expect(() => model.generate([])).toThrow(expect.objectContaining({ code: 'SPILLWAY_DECODER_EMPTY_PROMPT' }))
        expect(() => model.generate('')).toThrow(expect.objectContaining({ code: 'SPILLWAY_DECODER_NO_TOKENIZER' }))
        expect(() => model.generate([5], { stop: ['a'] })).toThrow(
          expect.objectContaining({ code: 'SPILLWAY_DECODER_NO_TOKENIZER' }),
        )
        expect(await run(model, [5], { maxTokens: 3 })).toMatchObject({ text: '', result: { finishReason: 'length' } })
      }),
    )
  })
})

describe('the end', () => {
  test('the end-of-sequence token ends it, counts as a token and is no text', async () => {
    const files = await Promise.all(
      ['tokenizer.json', 'tokenizer_config.json'].map((file) => fixtureJson('llama-f32', file)),
    )
    const config = await fixtureJson('llama-f32', 'config.json')
    const tokens = await withModel(f32, {}, async (model) => (await run(model, prompt, { maxTokens: 6 })).tokens)
    const eos = tokens[3]!
    const { readFile } = await import('node:fs/promises')
    await withDirectory(
      {
        'config.json': JSON.stringify({ ...config, eos_token_id: eos }),
        'tokenizer.json': JSON.stringify(files[0]),
        'tokenizer_config.json': JSON.stringify(files[1]),
        'model.safetensors': await readFile(`${f32}/model.safetensors`),
      },
      (directory) =>
        withModel(directory, {}, async (model) => {
          const ended = await run(model, prompt, { maxTokens: 6 })
          const first = tokens.indexOf(eos)
          expect(ended.tokens).toEqual(tokens.slice(0, first + 1))
          expect(ended.result).toMatchObject({ finishReason: 'eos', generatedTokens: first + 1 })
        }),
    )
  })

  test('a stop string ends it wherever tokens cut it, and no part of it comes out', async () => {
    await withModel(f32, {}, async (model) => {
      const options = { maxTokens: 40, temperature: 1.5, seed: 3 }
      const { text } = await run(model, prompt, options)
      for (const length of [1, 2, 3, 4]) {
        // Somewhere behind the first tokens, and of whole characters.
        const places = Array.from(text, (_, i) => text.slice(i, i + length))
        const stop = places.find((part, i) => i > 3 && part.length === length && !/[\ufffd\p{Surrogate}]/u.test(part))
        if (stop === undefined) throw new Error(`no clean text of ${length} characters in ${JSON.stringify(text)}`)
        const stopped = await run(model, prompt, { ...options, stop: ['no such text', stop] })
        expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)))
        expect(stopped.result).toMatchObject({ finishReason: 'stop', stopString: stop })
        expect(stopped.tokens.length).toBeLessThanOrEqual(40)
      }
    })
  })

  test('what was held back for a stop string that did not come is text at the end', async () => {
    await withModel(f32, {}, async (model) => {
      const { text } = await run(model, prompt, { maxTokens: 12 })
      const last = Array.from(text).at(-1)!
      const held = await run(model, prompt, { maxTokens: 12, stop: [`${last}, and so on`] })
      expect(held.text).toBe(text)
      expect(held.pieces.slice(0, -1).join('')).not.toContain(text)
      expect(held.result).toMatchObject({ finishReason: 'length', generatedTokens: 12 })
    })
  })

  test('the context ends it, and a prompt that leaves no room is refused with both numbers', async () => {
    await withModel(f32, { contextLength: 16 }, async (model) => {
      const full = await run(model, Array(10).fill(5))
      expect(full.tokens).toHaveLength(6)
      expect(full.result.finishReason).toBe('context')
      expect((await run(model, Array(15).fill(5))).tokens).toHaveLength(1)
      expect(() => model.generate(Array(16).fill(5))).toThrow(
        expect.objectContaining({
          code: 'SPILLWAY_DECODER_CONTEXT',
          message: expect.stringMatching(/17 tokens.*16.*128/),
          details: { neededTokens: 17, contextLength: 16, maxContextLength: 128 },
        }),
      )
      // Logits need no room for another token.
      expect(await model.logits(Array(16).fill(5))).toHaveLength(16)
      await expect(model.logits(Array(17).fill(5))).rejects.toMatchObject({ code: 'SPILLWAY_DECODER_CONTEXT' })
    })
  })

  test('maxTokens is a bound that is reached exactly', async () => {
    await withModel(f32, {}, async (model) => {
      const five = await run(model, prompt, { maxTokens: 5 })
      expect((await run(model, prompt, { maxTokens: 1 })).tokens).toEqual(five.tokens.slice(0, 1))
    })
  })
})

describe('sampling', () => {
  test('a seed repeats, another differs, and greedy needs none', async () => {
    await withModel(f32, {}, async (model) => {
      const sampled = async (seed: number): Promise<number[]> =>
        (await run(model, prompt, { maxTokens: 20, temperature: 2, topK: 50, topP: 0.95, seed })).tokens
      expect(await sampled(1)).toEqual(await sampled(1))
      expect(await sampled(1)).not.toEqual(await sampled(2))
      expect((await run(model, prompt, { maxTokens: 20 })).tokens).toEqual(
        (await run(model, prompt, { maxTokens: 20, seed: 9 })).tokens,
      )
    })
  })

  test('weights that give no numbers are a coded error, and the next call works as before', async () => {
    const { readFile } = await import('node:fs/promises')
    const file = await readFile(`${f32}/model.safetensors`)
    file.fill(0xff, file.length - 1000)
    const config = JSON.stringify(await fixtureJson('llama-f32', 'config.json'))
    await withDirectory({ 'config.json': config, 'model.safetensors': file }, (directory) =>
      withModel(directory, {}, async (model) => {
        for (let i = 0; i < 2; i++) {
          await expect(run(model, [0, 5])).rejects.toMatchObject({ code: 'SPILLWAY_DECODER_LOGITS' })
        }
      }),
    )
  })
})

describe('hostile arguments', () => {
  test.each([
    [[384], {}, 'SPILLWAY_DECODER_TOKEN'],
    [[-1], {}, 'SPILLWAY_DECODER_TOKEN'],
    [[1.5], {}, 'SPILLWAY_DECODER_TOKEN'],
    [['a'] as unknown as number[], {}, 'SPILLWAY_DECODER_TOKEN'],
    [7 as unknown as number[], {}, 'SPILLWAY_INVALID_ARGUMENT'],
    [[5], { maxTokens: 0 }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { maxTokens: Number.NaN }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { temperature: -1 }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { stop: [''] }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { stop: ['\ud83d'] }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { stop: 'abc' as unknown as string[] }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { stop: Array(65).fill('a') }, 'SPILLWAY_INVALID_OPTION'],
    [[5], { stop: ['a'.repeat(1025)] }, 'SPILLWAY_INVALID_OPTION'],
  ])('%o with %o: %s, at once', async (tokens, options, code) => {
    await withModel(f32, {}, async (model) => {
      expect(() => model.generate(tokens, options)).toThrow(expect.objectContaining({ code }))
      expect((await run(model, [5], { maxTokens: 1 })).tokens).toHaveLength(1)
    })
  })
})

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
      const perStep = 2 + 3 * 8 + 2
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
  await withModel(f32, { offload }, async (model) => {
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
