import { Template } from '@huggingface/jinja'
import { SpillwayError } from '@spillway/core'
import { isJsonObject, member } from './json-file.js'

export interface ChatMessage {
  /** Most templates know `system`, `user` and `assistant`. */
  readonly role: string
  readonly content: string
}

export interface ChatOptions {
  /** End with what makes the model answer. Default true. */
  readonly addGenerationPrompt?: boolean
}

const templateBytesLimit = 2 ** 20

/**
 * A model's chat template. It is a program that came with the model: it runs in an interpreter of its own that sees
 * nothing but its variables, but nothing limits how long it runs.
 */
export class ChatTemplate {
  readonly #template: Template
  readonly #specialTokens: Readonly<Record<string, string>>

  /**
   * `specialTokens`: variables such as `bos_token`. Throws SPILLWAY_DECODER_CHAT_TEMPLATE when `source` is no template.
   */
  constructor(source: string, specialTokens: Readonly<Record<string, string>>) {
    if (source.length > templateBytesLimit) throw failed('is longer than 1 MiB', undefined)
    try {
      this.#template = new Template(source)
    } catch (error) {
      throw failed(`cannot be parsed (${reasonOf(error)})`, error)
    }
    this.#specialTokens = specialTokens
  }

  /**
   * The conversation as one text, special tokens included: encode it without adding them again. Throws
   * SPILLWAY_DECODER_CHAT_TEMPLATE with the template's own words where it refuses the conversation.
   */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    try {
      const rendered: unknown = this.#template.render({
        ...this.#specialTokens,
        // Copies: the template could assign to them.
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: options.addGenerationPrompt ?? true,
      })
      if (typeof rendered === 'string') return rendered
    } catch (error) {
      throw failed(`refuses the conversation or fails (${reasonOf(error)}); check the roles and their order`, error)
    }
    throw failed('does not make a text', undefined)
  }
}

/** The template in tokenizer_config.json: a string, or a list of named ones of which `default` is taken. */
export function templateSourceOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const chosen = (value as readonly unknown[]).find(
    (entry) => isJsonObject(entry) && member(entry, 'name') === 'default',
  )
  const source = isJsonObject(chosen) ? member(chosen, 'template') : undefined
  return typeof source === 'string' ? source : undefined
}

function failed(reason: string, cause: unknown): SpillwayError {
  return new SpillwayError('SPILLWAY_DECODER_CHAT_TEMPLATE', `the model's chat template ${reason}`, { cause })
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 200) : 'no reason given'
}
