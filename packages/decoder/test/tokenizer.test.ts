import { describe, expect, test } from 'vitest'
import { TextStream } from '../src/text-stream.js'
import { Tokenizer } from '../src/tokenizer.js'
import { expectedText, fixture, fixtureJson, textFixtureNames, withDirectory } from './fixtures.js'

async function read(directory: string): Promise<Tokenizer> {
  const tokenizer = await Tokenizer.read(directory)
  if (tokenizer === undefined) throw new Error(`${directory} has no tokenizer`)
  return tokenizer
}

describe.each(textFixtureNames)('%s', (name) => {
  test('encodes as Hugging Face tokenizers does', async () => {
    const tokenizer = await read(fixture(name))
    for (const { text, ids, idsWithSpecialTokens } of (await expectedText(name)).tokenizer) {
      expect(tokenizer.encode(text, { addSpecialTokens: false }), JSON.stringify(text)).toEqual(ids)
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(idsWithSpecialTokens)
    }
  })

  test('decodes as Hugging Face tokenizers does, at once and token by token', async () => {
    const tokenizer = await read(fixture(name))
    for (const { ids, decoded, decodedWithoutSpecialTokens } of (await expectedText(name)).tokenizer) {
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded)
      expect(tokenizer.decode(ids)).toBe(decodedWithoutSpecialTokens)
      const stream = new TextStream()
      const pieces = ids.map((id) => stream.push(tokenizer.bytesOf(id)))
      // SentencePiece puts a space before a text; a stream may go on from another text and keeps it.
      const [first] = ids
      const space = name === 'mistral-bf16' && first !== undefined && !tokenizer.isSpecial(first) ? ' ' : ''
      expect([...pieces, stream.flush()].join('')).toBe(space + decoded)
    }
  })

  test('renders the chat template as transformers does', async () => {
    const tokenizer = await read(fixture(name))
    const { chat } = await expectedText(name)
    expect(tokenizer.hasChatTemplate).toBe(chat !== null)
    if (chat === null) {
      expect(() => tokenizer.applyChatTemplate([])).toThrow(
        expect.objectContaining({ code: 'SPILLWAY_DECODER_CHAT_TEMPLATE' }),
      )
      return
    }
    const rendered = tokenizer.applyChatTemplate(chat.messages, { addGenerationPrompt: chat.addGenerationPrompt })
    expect(rendered).toBe(chat.rendered)
    expect(tokenizer.encode(rendered, { addSpecialTokens: false })).toEqual(chat.ids)
  })
})

describe('special tokens', () => {
  test('are known by name', async () => {
    const tokenizer = await read(fixture('llama-f32'))
    expect([tokenizer.bosToken, tokenizer.eosToken]).toEqual(['<s>', '</s>'])
    expect(tokenizer.tokenId('</s>')).toBe(1)
    expect(tokenizer.tokenId('no such token')).toBeUndefined()
    expect(tokenizer.isSpecial(1)).toBe(true)
    expect(tokenizer.isSpecial(300)).toBe(false)
  })

  test('an id beyond the vocabulary is no text: models are padded', async () => {
    const tokenizer = await read(fixture('llama-f32'))
    expect(tokenizer.decode([5_000_000, -1])).toBe('')
  })
})

describe('a chat template', () => {
  test('of tokenizer_config.json may be one of several named ones; chat_template.jinja wins over it', async () => {
    const json = await fixtureJson('llama-f32', 'tokenizer.json')
    const named = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: '{{ bos_token }}{{ messages[0].content }}' },
    ]
    const config = { bos_token: { content: '<s>' }, chat_template: named }
    expect(new Tokenizer(json, config).applyChatTemplate([{ role: 'user', content: 'a' }])).toBe('<s>a')
    expect(new Tokenizer(json, config, 'file').applyChatTemplate([])).toBe('file')
  })

  test('that refuses the conversation says why, and one that is no template is refused', async () => {
    const tokenizer = await read(fixture('llama-bf16-tied'))
    const wrong = [{ role: 'assistant', content: 'first' }]
    expect(() => tokenizer.applyChatTemplate(wrong)).toThrow(
      expect.objectContaining({
        code: 'SPILLWAY_DECODER_CHAT_TEMPLATE',
        message: expect.stringContaining('roles must alternate user and assistant'),
      }),
    )
    const json = await fixtureJson('llama-f32', 'tokenizer.json')
    for (const source of ['{% for %}', '{{', 'x'.repeat(2 ** 20 + 1)]) {
      expect(() => new Tokenizer(json, {}, source)).toThrow(
        expect.objectContaining({ code: 'SPILLWAY_DECODER_CHAT_TEMPLATE' }),
      )
    }
  })

  test('cannot change the caller’s messages, nor see what is not its own', async () => {
    const json = await fixtureJson('llama-f32', 'tokenizer.json')
    const messages = [{ role: 'user', content: 'a' }]
    const source = "{% set messages[0].content = 'b' %}{{ messages[0].content }}|{{ process }}{{ constructor }}"
    try {
      expect(new Tokenizer(json, {}, source).applyChatTemplate(messages)).toBe('b|')
    } catch (error) {
      expect(error).toMatchObject({ code: 'SPILLWAY_DECODER_CHAT_TEMPLATE' })
    }
    expect(messages).toEqual([{ role: 'user', content: 'a' }])
  })
})

describe('a SentencePiece-style tokenizer', () => {
  const vocab = Object.fromEntries(
    ['<unk>', '<s>', '<0xE6>', '<0xB5>', '<0xB7>', '▁', 'a', '▁a', '$&'].map((piece, id) => [piece, id]),
  )
  const json = {
    added_tokens: [{ id: 1, content: '<s>', special: true }],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: { type: 'BPE', unk_token: '<unk>', byte_fallback: true, fuse_unk: true, vocab, merges: ['▁ a'] },
  }

  test('falls back to bytes, and strips the space in front of a whole text only', () => {
    const tokenizer = new Tokenizer(json)
    expect(tokenizer.encode('a 海', { addSpecialTokens: false })).toEqual([7, 5, 2, 3, 4])
    expect(tokenizer.decode([7, 5, 2, 3, 4])).toBe('a 海')
    expect(tokenizer.decode([1, 7, 7])).toBe('a a')
    // The middle of a text, as generate() sees it, keeps its space.
    const stream = new TextStream()
    expect([7, 2, 3, 4, 8].map((id) => stream.push(tokenizer.bytesOf(id)))).toEqual([' a', '', '', '海', '$&'])
  })

  test('with a Metaspace decoder', () => {
    const tokenizer = new Tokenizer({
      ...json,
      decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    })
    expect(tokenizer.decode([7, 7])).toBe('a a')
  })
})

describe('hostile files', () => {
  test.each([
    ['not JSON', '{'],
    ['no object', '3'],
    ['an empty object', '{}'],
    ['too deep', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['another model', '{"model": {"type": "Unigram", "vocab": []}}'],
    ['a vocabulary that is a list', '{"model": {"type": "BPE", "vocab": ["a"]}, "decoder": {"type": "ByteLevel"}}'],
    ['an id below zero', '{"model": {"type": "BPE", "vocab": {"a": -1}}, "decoder": {"type": "ByteLevel"}}'],
    ['a huge id', '{"model": {"type": "BPE", "vocab": {"a": 4e9}}, "decoder": {"type": "ByteLevel"}}'],
    ['an id that is text', '{"model": {"type": "BPE", "vocab": {"a": "0"}}, "decoder": {"type": "ByteLevel"}}'],
    ['no decoder', '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'],
    ['an unknown decoder', '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "CTC"}}'],
    [
      'a pattern to replace',
      '{"model": {"type": "BPE", "vocab": {}}, "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "a*"}}, {"type": "Fuse"}]}}',
    ],
    [
      'added tokens that are none',
      '{"model": {"type": "BPE", "vocab": {"a": 0}}, "decoder": {"type": "ByteLevel"}, "added_tokens": [{"id": 3}]}',
    ],
    [
      'an unknown pre-tokenizer',
      '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "X"}, "normalizer": null, "post_processor": null}',
    ],
    [
      'a broken pattern',
      '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}, "normalizer": null, "post_processor": null}',
    ],
  ])('%s', async (_, contents) => {
    await expect(withDirectory({ 'tokenizer.json': contents }, Tokenizer.read)).rejects.toMatchObject({
      code: 'SPILLWAY_DECODER_TOKENIZER',
      message: expect.stringContaining('tokenizer.json'),
    })
  })

  test('a broken tokenizer_config.json', async () => {
    const tokenizer = JSON.stringify(await fixtureJson('llama-f32', 'tokenizer.json'))
    await expect(
      withDirectory({ 'tokenizer.json': tokenizer, 'tokenizer_config.json': '[' }, Tokenizer.read),
    ).rejects.toMatchObject({
      code: 'SPILLWAY_DECODER_TOKENIZER',
      message: expect.stringContaining('tokenizer_config.json'),
    })
  })

  test('no tokenizer.json is no error here', async () => {
    expect(await withDirectory({}, Tokenizer.read)).toBeUndefined()
  })

  test('a text with a part that no token stands for', async () => {
    const json = await fixtureJson('llama-f32', 'tokenizer.json')
    const model = json.model as Record<string, unknown>
    const tokenizer = new Tokenizer({ ...json, model: { ...model, unk_token: '<unk>', vocab: { a: 4 }, merges: [] } })
    expect(() => tokenizer.encode('b')).toThrow(expect.objectContaining({ code: 'SPILLWAY_DECODER_TOKENIZER' }))
    expect(() => tokenizer.encode(3 as unknown as string)).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_INVALID_ARGUMENT' }),
    )
  })
})
