import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Those with a tokenizer. */
export const textFixtureNames = [
  'llama-f32',
  'llama-bf16-tied',
  'llama-f16-sharded',
  'mistral-bf16',
  'qwen2-bf16',
  'qwen3-bf16-tied',
] as const
type TextFixtureName = (typeof textFixtureNames)[number]
const otherFixtureNames = ['llama3-bf16', 'llama-f16-linear', 'qwen2-f16-window', 'qwen3-f32-window'] as const
export type FixtureName = TextFixtureName | (typeof otherFixtureNames)[number]
export const fixtureNames: readonly FixtureName[] = [...textFixtureNames, ...otherFixtureNames]

/** A fixture's directory, as test/fixtures/make.py left it. */
export function fixture(name: FixtureName): string {
  return fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))
}

export interface ExpectedText {
  readonly tokenizer: readonly {
    readonly text: string
    readonly ids: number[]
    readonly idsWithSpecialTokens: number[]
    readonly decoded: string
    readonly decodedWithoutSpecialTokens: string
  }[]
  readonly chat: {
    readonly messages: readonly { role: string; content: string }[]
    readonly addGenerationPrompt: boolean
    readonly rendered: string
    readonly ids: number[]
  } | null
}

export async function expectedText(name: TextFixtureName): Promise<ExpectedText> {
  return JSON.parse(await readFile(join(fixture(name), 'expected.json'), 'utf8')) as ExpectedText
}

export async function fixtureJson(name: FixtureName, file: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(fixture(name), file), 'utf8')) as Record<string, unknown>
}

/** A directory of given files that is gone after `use`. */
export async function withDirectory<T>(
  files: Readonly<Record<string, string | Uint8Array>>,
  use: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-decoder-'))
  try {
    for (const [name, contents] of Object.entries(files)) await writeFile(join(directory, name), contents)
    return await use(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

export interface ExpectedNumbers {
  readonly tokens: number[]
  /** One row per token. */
  readonly logits: Float32Array[]
  readonly greedy: number[]
  readonly greedyMargins: Float32Array
  readonly greedyMax: Float32Array
  /** Of fixtures with scaled rotary embedding. */
  readonly inverseFrequency: Float32Array | undefined
}

/** How many of a fixture's tokens its greedy continuation starts from (make.py). */
export const greedyPromptTokens = 8

export async function expectedNumbers(name: FixtureName): Promise<ExpectedNumbers> {
  const tensors = readSafetensors(await readFile(join(fixture(name), 'expected.safetensors')))
  const floats = (key: string): Float32Array => new Float32Array(tensors.get(key)!)
  const ids = (key: string): number[] => Array.from(new BigInt64Array(tensors.get(key)!), Number)
  const tokens = ids('tokens')
  const logits = floats('logits')
  const vocab = logits.length / tokens.length
  const inverseFrequency = tensors.get('inverse_frequency')
  return {
    tokens,
    logits: tokens.map((_, i) => logits.subarray(i * vocab, (i + 1) * vocab)),
    greedy: ids('greedy'),
    greedyMargins: floats('greedy_margins'),
    greedyMax: floats('greedy_max'),
    inverseFrequency: inverseFrequency === undefined ? undefined : new Float32Array(inverseFrequency),
  }
}

/** Ours to read plainly: an independent reader, so that an error of the checkpoint package cannot hide itself. */
function readSafetensors(file: Uint8Array): Map<string, ArrayBuffer> {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  const start = 8 + Number(view.getBigUint64(0, true))
  const header = JSON.parse(Buffer.from(file.subarray(8, start)).toString()) as Record<
    string,
    { data_offsets: [number, number] }
  >
  const tensors = new Map<string, ArrayBuffer>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    // A copy of its own: what a Buffer's slice shares is aligned to nothing.
    const [from, to] = entry.data_offsets
    tensors.set(name, Uint8Array.from(file.subarray(start + from, start + to)).buffer)
  }
  return tensors
}
