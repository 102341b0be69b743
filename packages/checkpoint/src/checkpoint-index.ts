import { isUtf8 } from 'node:buffer'
import { checkpointError, type ErrorSubject, quote } from './checkpoint-error.js'
import { JsonReader } from './json-reader.js'

/** As for headers: an index is the same names once more. */
export const indexBytesLimit = 100_000_000

/**
 * Reads `model.safetensors.index.json`: which shard holds which tensor. Its `metadata.total_size` is not used: writers
 * disagree about it, and the shards' own headers give the sizes. Throws SPILLWAY_CHECKPOINT_INDEX.
 */
export function parseCheckpointIndex(bytes: Uint8Array, subject: ErrorSubject): ReadonlyMap<string, string> {
  const fail = (reason: string, tensor?: string): never => {
    const advice = 'The index is damaged or not from safetensors: download it again.'
    throw checkpointError('SPILLWAY_CHECKPOINT_INDEX', { ...subject, tensor }, `${reason}. ${advice}`)
  }
  if (!isUtf8(bytes)) fail('it is not valid UTF-8')
  const files = new Map<string, string>()
  const reader = new JsonReader(bytes, fail)
  reader.object((key) => {
    if (key !== 'weight_map') return reader.skip()
    reader.object((name) => {
      const file = reader.string()
      if (!isPlainFileName(file)) {
        fail(`the file ${quote(file)} is not a plain file name; shards lie beside their index, nowhere else`, name)
      }
      files.set(name, file)
    })
  })
  reader.end()
  if (files.size === 0) fail('its weight_map is missing or names no tensor')
  return files
}

/** On every system: an index made for one must not lead out of the directory on another. */
function isPlainFileName(file: string): boolean {
  return file !== '' && file !== '.' && file !== '..' && !/[/\\:\0]/.test(file)
}
