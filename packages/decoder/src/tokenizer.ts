import { join } from 'node:path'
import * as huggingface from '@huggingface/tokenizers'
import { printable, SpillwayError, toSpillwayError } from '@spillway/core'
import { type ChatMessage, type ChatOptions, ChatTemplate, templateSourceOf } from './chat-template.js'
import { isJsonObject, type JsonObject, member, readJsonObject, readTextFile } from './json-file.js'
import { type TokenBytes, tokenBytesOf } from './token-bytes.js'

/** What is used of the library. By hand: its own declarations lose their imports under node's resolution and become any. */
interface Encoder {
  encode(text: string, options: { add_special_tokens: boolean }): { readonly ids: readonly unknown[] }
}
const Encoder = huggingface.Tokenizer as unknown as new (tokenizer: JsonObject, config: JsonObject) => Encoder

const code = 'SPILLWAY_DECODER_TOKENIZER'
const specialTokenNames = ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const

/** Text to token ids and back, as the model's tokenizer.json says. Encoding is @huggingface/tokenizers'. */
export class Tokenizer {
  readonly bosToken: string | undefined
  readonly eosToken: string | undefined
  readonly #encoder: Encoder
  readonly #tokens: TokenBytes
  readonly #chatTemplate: ChatTemplate | undefined

  /**
   * `json`, `config`: the contents of tokenizer.json and tokenizer_config.json; `template`: of chat_template.jinja,
   * which wins over the one in `config`, as in transformers.
   * Throws SPILLWAY_DECODER_TOKENIZER or SPILLWAY_DECODER_CHAT_TEMPLATE.
   */
  constructor(json: JsonObject, config: JsonObject = {}, template?: string) {
    this.#tokens = tokenBytesOf(json)
    try {
      this.#encoder = new Encoder({ added_tokens: [], ...json }, config)
    } catch (error) {
      throw toSpillwayError(
        error,
        code,
        'tokenizer.json is not one this engine can use; take the file that came with the model',
      )
    }
    const specialTokens: Record<string, string> = {}
    for (const name of specialTokenNames) {
      const content = contentOf(member(config, name))
      if (content !== undefined) specialTokens[name] = content
    }
    this.bosToken = specialTokens.bos_token
    this.eosToken = specialTokens.eos_token
    const source = template ?? templateSourceOf(member(config, 'chat_template'))
    this.#chatTemplate = source === undefined ? undefined : new ChatTemplate(source, specialTokens)
  }

  /** Undefined when the directory has no tokenizer.json. Throws as the constructor. */
  static async read(directory: string): Promise<Tokenizer | undefined> {
    const json = await readJsonObject(join(directory, 'tokenizer.json'), { code, limitBytes: 128 * 2 ** 20 })
    if (json === undefined) return undefined
    const config = await readJsonObject(join(directory, 'tokenizer_config.json'), { code, limitBytes: 16 * 2 ** 20 })
    const template = await readTextFile(join(directory, 'chat_template.jinja'), {
      code: 'SPILLWAY_DECODER_CHAT_TEMPLATE',
      limitBytes: 2 ** 20,
    })
    return new Tokenizer(json, config, template)
  }

  /** `addSpecialTokens`, default true: with the tokens the model expects around a text, such as a first BOS. */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    if (typeof text !== 'string') {
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `a text to encode is a string; got ${printable(text)}`)
    }
    let ids: readonly unknown[]
    try {
      ids = this.#encoder.encode(text, { add_special_tokens: options.addSpecialTokens ?? true }).ids
    } catch (error) {
      throw toSpillwayError(
        error,
        code,
        'the tokenizer failed on the text; take the tokenizer.json that came with the model',
      )
    }
    return ids.map((id) => {
      // undefined comes from a token for unknown parts that is itself unknown.
      if (typeof id === 'number' && Number.isInteger(id) && id >= 0) return id
      throw new SpillwayError(code, 'the vocabulary of tokenizer.json has no token for a part of the text')
    })
  }

  /** The text of whole tokens; bytes that are no UTF-8 become U+FFFD. `skipSpecialTokens`, default true. */
  decode(tokens: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? true
    const parts: Uint8Array[] = []
    for (const token of tokens) if (!skip || !this.isSpecial(token)) parts.push(this.bytesOf(token))
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts))
    const { content, count } = this.#tokens.strip
    let start = 0
    while (content !== '' && start < count * content.length && text.startsWith(content, start)) start += content.length
    return text.slice(start)
  }

  /** A token's bytes: perhaps a part of a character, and none for an id that is not in the vocabulary. */
  bytesOf(token: number): Uint8Array {
    return this.#tokens.bytesOf(token)
  }

  /** Whether it marks structure, such as the end of a turn, and is no text. */
  isSpecial(token: number): boolean {
    return this.#tokens.isSpecial(token)
  }

  tokenId(content: string): number | undefined {
    return this.#tokens.ids.get(content)
  }

  get hasChatTemplate(): boolean {
    return this.#chatTemplate !== undefined
  }

  /** A conversation as the model was trained to see it; encode the result with `addSpecialTokens: false`. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    if (this.#chatTemplate !== undefined) return this.#chatTemplate.render(messages, options)
    throw new SpillwayError(
      'SPILLWAY_DECODER_CHAT_TEMPLATE',
      'this model has no chat template; give it a plain prompt, or add a chat_template.jinja to its directory',
    )
  }
}

/** Special tokens are written as text, or as an object with a `content`. */
function contentOf(token: unknown): string | undefined {
  const content = isJsonObject(token) ? member(token, 'content') : token
  return typeof content === 'string' ? content : undefined
}
