import { describe, expect, test } from 'vitest'
import { fixture, fixtureJson, withDirectory } from './fixtures.js'
import { run } from './generate-run.js'
import { withModel } from './with-device.js'

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
