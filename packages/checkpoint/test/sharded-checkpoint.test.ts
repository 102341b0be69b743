import { truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../src/index.js'
import { codedError, indexJson, patternBytes, Scratch, safetensorsFile } from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const indexName = 'model.safetensors.index.json'
const a = { name: 'a.weight', dtype: 'F32', shape: [2, 3] }
const b = { name: 'b.weight', dtype: 'BF16', shape: [5] }
const c = { name: 'c.weight', dtype: 'U8', shape: [] }

describe('shards', () => {
  const one = 'model-00001-of-00002.safetensors'
  const two = 'model-00002-of-00002.safetensors'
  const map = { 'a.weight': two, 'b.weight': one, 'c.weight': one }
  const shards = (index: string | Uint8Array): Record<string, string | Uint8Array> => ({
    [indexName]: index,
    [one]: safetensorsFile([c, b], { metadata: { format: 'pt', part: '1' } }),
    [two]: safetensorsFile([a], { metadata: { part: '2', last: 'yes' } }),
  })

  it.each([
    ['a right total', { total_size: 35 }],
    ['a wrong total', { total_size: -1e300 }],
    ['a total that is text', { total_size: 'many' }],
    ['metadata that is no object', 7],
  ])('open by their index, with %s', async (_, metadata) => {
    await using checkpoint = await openCheckpoint(scratch.directory(shards(indexJson(map, metadata))))
    expect([...checkpoint.tensors.values()].map(({ name, file }) => [name, file])).toEqual([
      ['c.weight', one],
      ['b.weight', one],
      ['a.weight', two],
    ])
    expect(checkpoint.totalBytes).toBe(35)
    expect([...checkpoint.metadata]).toEqual([
      ['format', 'pt'],
      ['part', '1'],
      ['last', 'yes'],
    ])
    expect(checkpoint.files.map((file) => file.metadata.get('part'))).toEqual(['1', '2'])
    expect(scratch.openDescriptors().length).toBe(2)
    expect(await checkpoint.read('b.weight')).toEqual(new Uint8Array(patternBytes(11).subarray(1)))
    expect(await checkpoint.read('a.weight')).toEqual(new Uint8Array(patternBytes(24)))
  })

  it('may hold a tensor that the index does not list', async () => {
    const { 'c.weight': _, ...rest } = map
    await using checkpoint = await openCheckpoint(scratch.directory(shards(indexJson(rest))))
    expect(checkpoint.tensors.get('c.weight')?.file).toBe(one)
  })

  const indexError = 'SPILLWAY_CHECKPOINT_INDEX'
  it.each<[string, string | Uint8Array, string, string | undefined, string | undefined, RegExp]>([
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), indexError, indexName, undefined, /UTF-8/],
    ['not JSON', '{"weight_map"', indexError, indexName, undefined, /malformed at byte 13/],
    ['an array', '[]', indexError, indexName, undefined, /expected an object/],
    ['empty', '', indexError, indexName, undefined, /malformed at byte 0/],
    ['without weight_map', '{"metadata":{}}', indexError, indexName, undefined, /weight_map is missing/],
    ['with an empty weight_map', '{"weight_map":{}}', indexError, indexName, undefined, /names no tensor/],
    ['with a weight_map that is an array', '{"weight_map":[]}', indexError, indexName, undefined, /expected an object/],
    ['with a file that is a number', '{"weight_map":{"a":1}}', indexError, indexName, undefined, /expected a string/],
    [
      'with a tensor there twice',
      `{"weight_map":{"a":"${one}","a":"${one}"}}`,
      indexError,
      indexName,
      undefined,
      /"a" is there twice/,
    ],
    [
      'with weight_map there twice',
      '{"weight_map":{},"weight_map":{}}',
      indexError,
      indexName,
      undefined,
      /"weight_map" is there twice/,
    ],
    ['nested without end', `{"metadata":${'['.repeat(1e5)}`, indexError, indexName, undefined, /nested more than 64/],
    [
      'that leads out by ..',
      indexJson({ w: '../model.safetensors' }),
      indexError,
      indexName,
      'w',
      /"\.\.\/model\.safetensors" is not a plain file name/,
    ],
    [
      'that leads out absolutely',
      indexJson({ w: '/etc/passwd' }),
      indexError,
      indexName,
      'w',
      /"\/etc\/passwd" is not a plain/,
    ],
    [
      'that leads out with backslashes',
      indexJson({ w: '..\\x' }),
      indexError,
      indexName,
      'w',
      /is not a plain file name/,
    ],
    ['that leads out by a drive', indexJson({ w: 'C:x' }), indexError, indexName, 'w', /is not a plain file name/],
    ['that names the directory', indexJson({ w: '.' }), indexError, indexName, 'w', /is not a plain file name/],
    ['that names the directory above', indexJson({ w: '..' }), indexError, indexName, 'w', /is not a plain file name/],
    ['that names no file', indexJson({ w: '' }), indexError, indexName, 'w', /is not a plain file name/],
    [
      'that names a file with a zero byte',
      indexJson({ w: 'a\0b' }),
      indexError,
      indexName,
      'w',
      /is not a plain file name/,
    ],
    [
      'that names a missing file',
      indexJson({ ...map, w: 'gone.safetensors' }),
      'SPILLWAY_CHECKPOINT_MISSING',
      'gone.safetensors',
      'w',
      /names this file, but it is missing/,
    ],
    [
      'that names itself',
      indexJson({ w: indexName }),
      'SPILLWAY_CHECKPOINT_HEADER',
      indexName,
      undefined,
      /header claims/,
    ],
    [
      'that names a name too long for any file',
      indexJson({ w: 'x'.repeat(300) }),
      'SPILLWAY_CHECKPOINT_UNREADABLE',
      'x'.repeat(300),
      undefined,
      /ENAMETOOLONG/,
    ],
    [
      'that names a tensor no shard has',
      indexJson({ ...map, w: one }),
      indexError,
      one,
      'w',
      /the shard does not have it/,
    ],
    [
      'that names the wrong shard',
      indexJson({ ...map, 'b.weight': two }),
      indexError,
      one,
      'b.weight',
      /so has.*00002/,
    ],
  ])('are refused with an index %s', async (_, index, code, file, tensor, says) => {
    const directory = scratch.directory(shards(index))
    const error = await codedError(openCheckpoint(directory))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
    expect(error.message).toMatch(/(download|fix|check)/i)
    expect(error.details.file).toBe(file)
    expect(error.details.tensor).toBe(tensor)
    expect(error.message).toContain((file as string).slice(-200))
    if (tensor !== undefined) expect(error.message).toContain(`tensor "${tensor}"`)
  })

  it('are refused when two have the same tensor, listed or not', async () => {
    for (const index of [indexJson(map), indexJson({ 'a.weight': two, 'c.weight': one })]) {
      const files = { ...shards(index), [two]: safetensorsFile([a, b]) }
      const error = await codedError(openCheckpoint(scratch.directory(files)))
      expect(error.code).toBe(indexError)
      expect(error.details).toMatchObject({ file: two, tensor: 'b.weight' })
      expect(error.message).toMatch(/tensor "b\.weight": the shard has this tensor, but so has.*00001-of/)
    }
  })

  it('are refused, and closed, when the last one is damaged', async () => {
    const files = { ...shards(indexJson(map)), [two]: safetensorsFile([a]).subarray(0, -1) }
    const error = await codedError(openCheckpoint(scratch.directory(files)))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_TRUNCATED')
    expect(error.details).toMatchObject({ file: two, tensor: 'a.weight' })
  })

  it('are refused with an index of more than 100 MB, without reading it', async () => {
    const directory = scratch.directory({ [indexName]: '' })
    truncateSync(join(directory, indexName), 2 ** 40)
    const error = await codedError(openCheckpoint(directory))
    expect(error.code).toBe(indexError)
    expect(error.message).toMatch(/1099511627776 bytes, more than the limit/)
  })
})
