import { expect, it } from 'vitest'
import { openCheckpoint } from '../src/index.js'
import { codedError, type Scratch } from './safetensors-fixture.js'

export interface HostileFile {
  readonly what: string
  readonly file: Uint8Array
  readonly code: string
  /** The tensor that details and sentence must name; left out: none. */
  readonly tensor?: string
  readonly says: RegExp
}

/** An entry for a tensor `w` of 8 bytes, with some fields replaced by raw JSON; null leaves one out. */
export function entry(fields: Readonly<Record<string, string | null>> = {}): string {
  const all: Record<string, string | null> = { dtype: '"F32"', shape: '[2]', data_offsets: '[0,8]', ...fields }
  const kept = Object.entries(all).filter(([, value]) => value !== null)
  return `{${kept.map(([key, value]) => `"${key}":${value}`).join(',')}}`
}

/** One test for each file: the exact code, and file, tensor, reason and advice in the sentence. */
export function expectRefusals(scratch: Scratch, files: readonly HostileFile[]): void {
  it.each(files)('$what → $code', async ({ file, code, tensor, says }) => {
    const directory = scratch.directory({ 'model.safetensors': file })
    const error = await codedError(openCheckpoint(directory))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
    expect(error.message).toContain(`"${directory}/model.safetensors"`)
    expect(error.details.file).toBe('model.safetensors')
    expect(error.details.tensor).toBe(tensor)
    if (tensor !== undefined) expect(error.message).toContain(`tensor "${tensor}"`)
    // What is wrong is followed by what to do.
    expect(error.message).toMatch(/\. .*(download|save|run)[^.]*.*\.$/i)
  })
}
