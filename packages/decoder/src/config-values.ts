import { printable, SpillwayError } from '@spillway/core'
import { type JsonObject, member } from './json-file.js'

/** The file that errors name when no other is given. */
export const configFileName = 'config.json'

/** An absent key and null give `fallback`. Throws SPILLWAY_DECODER_CONFIG, as all of these do. */
export function integer(json: JsonObject, key: string, min: number, max: number, fallback?: number): number {
  const value = member(json, key) ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `must be an integer from ${min} to ${max}`)
  }
  return value
}

export function number(json: JsonObject, key: string, min: number, max: number, fallback?: number): number {
  const value = member(json, key) ?? fallback
  if (typeof value !== 'number' || !(value >= min && value <= max)) {
    throw invalid(key, value, `must be a number from ${min} to ${max}`)
  }
  return value
}

export function flag(json: JsonObject, key: string): boolean {
  const value = member(json, key) ?? false
  if (typeof value !== 'boolean') throw invalid(key, value, 'must be true or false')
  return value
}

/** One id, a list of them, or none. */
export function tokenIds(
  json: JsonObject,
  key: string,
  vocabSize: number,
  file: string = configFileName,
): readonly number[] {
  const value = member(json, key)
  if (value === undefined || value === null) return []
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (list.length > 1024) throw invalid(key, value, 'may list at most 1024 tokens', file)
  return list.map((id) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw invalid(key, id, `must be a token id from 0 to ${vocabSize - 1}`, file)
    }
    return id
  })
}

export function invalid(key: string, value: unknown, rule: string, file: string = configFileName): SpillwayError {
  const found = value === undefined ? 'is missing' : `is ${printable(value)}`
  return new SpillwayError('SPILLWAY_DECODER_CONFIG', `${key} in ${file} ${found}, but it ${rule}; check the file`, {
    details: { file, key, value },
  })
}

export function unsupported(key: string, value: unknown, supported: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_DECODER_UNSUPPORTED',
    `${configFileName} says ${key} ${printable(value)}; this engine supports ${supported} only, so choose another model`,
    { details: { key, value, supported } },
  )
}
