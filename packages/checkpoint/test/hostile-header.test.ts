import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../src/index.js'
import { entry, expectRefusals, type HostileFile } from './hostile-file.js'
import { codedError, rawFile, Scratch } from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const header = 'SPILLWAY_CHECKPOINT_HEADER'
const truncated = 'SPILLWAY_CHECKPOINT_TRUNCATED'

const lengths: HostileFile[] = [
  { what: 'an empty file', file: Buffer.alloc(0), code: truncated, says: /is empty.*Download it again/ },
  { what: 'seven bytes', file: Buffer.alloc(7), code: truncated, says: /only 7 bytes/ },
  { what: 'a header length of 0', file: rawFile('', 0), code: header, says: /does not begin with \{/ },
  {
    what: 'a length one byte past the end',
    file: rawFile('{}', 0, 3n),
    code: truncated,
    says: /claims 3 bytes but only 2/,
  },
  {
    what: 'a length of 100 MB in a small file',
    file: rawFile('{}', 0, 100_000_000n),
    code: truncated,
    says: /100000000/,
  },
  {
    what: 'a length past the format’s limit',
    file: rawFile('{}', 0, 100_000_001n),
    code: header,
    says: /100000001.*limit/,
  },
  { what: 'a length of 2^53 + 1', file: rawFile('{}', 0, 2n ** 53n + 1n), code: header, says: /9007199254740993/ },
  { what: 'a length of 2^63', file: rawFile('{}', 0, 2n ** 63n), code: header, says: /9223372036854775808/ },
  { what: 'a length of 2^64 - 1', file: rawFile('{}', 0, 2n ** 64n - 1n), code: header, says: /18446744073709551615/ },
  {
    what: 'a Git LFS pointer',
    file: Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 17\n'),
    code: header,
    says: /Git LFS pointer.*git lfs pull/,
  },
  { what: 'a PyTorch file', file: Buffer.from('PK\u0003\u0004archive/data.pkl'), code: header, says: /save it again/ },
]

const json: HostileFile[] = [
  {
    what: 'bytes that are not UTF-8',
    file: rawFile(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 0),
    code: header,
    says: /UTF-8/,
  },
  {
    what: 'an overlong encoding',
    file: rawFile(Buffer.from([0x7b, 0xc0, 0xa2, 0x7d]), 0),
    code: header,
    says: /UTF-8/,
  },
  { what: 'a truncated object', file: rawFile('{"w":', 0), code: header, tensor: 'w', says: /malformed at byte 5/ },
  { what: 'an array', file: rawFile('[]', 0), code: header, says: /does not begin with \{/ },
  { what: 'white space before the object', file: rawFile(' {}', 0), code: header, says: /does not begin with \{/ },
  { what: 'a byte-order mark', file: rawFile('\ufeff{}', 0), code: header, says: /does not begin with \{/ },
  { what: 'two objects', file: rawFile('{}{}', 0), code: header, says: /expected nothing more/ },
  { what: 'zero bytes as padding', file: rawFile('{}\0\0', 0), code: header, says: /expected nothing more/ },
  { what: 'a comment', file: rawFile('{/**/}', 0), code: header, says: /malformed at byte 1/ },
  {
    what: 'NaN for a dimension',
    file: rawFile(`{"w":${entry({ shape: '[NaN]' })}}`, 8),
    code: header,
    tensor: 'w',
    says: /expected a value/,
  },
  { what: 'a line break in a name', file: rawFile('{"a\nb":0}', 0), code: header, says: /control characters/ },
  {
    what: 'half a surrogate pair in a name',
    file: rawFile(`{"\\ud83d":${entry()}}`, 8),
    code: header,
    says: /whole characters/,
  },
  {
    what: 'a tensor there twice',
    file: rawFile(`{"w":${entry()},"w":${entry()}}`, 8),
    code: header,
    says: /the key "w" is there twice/,
  },
  {
    what: 'a tensor there twice, once escaped',
    file: rawFile(`{"w":${entry()},"\\u0077":${entry()}}`, 8),
    code: header,
    says: /the key "w" is there twice/,
  },
  {
    what: '__proto__ there twice',
    file: rawFile(`{"__proto__":${entry()},"__proto__":${entry()}}`, 8),
    code: header,
    says: /the key "__proto__" is there twice/,
  },
  {
    what: 'data_offsets there twice',
    file: rawFile(`{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"data_offsets":[0,4]}}`, 8),
    code: header,
    tensor: 'w',
    says: /"data_offsets" is there twice/,
  },
  {
    what: 'a key there twice in an unknown field',
    file: rawFile(`{"w":${entry({ more: '[{"a":1,"a":1}]' })}}`, 8),
    code: header,
    tensor: 'w',
    says: /"a" is there twice/,
  },
  {
    what: 'a key there twice in __metadata__',
    file: rawFile('{"__metadata__":{"a":"1","a":"2"}}', 0),
    code: header,
    says: /"a" is there twice/,
  },
  {
    what: '__metadata__ there twice',
    file: rawFile('{"__metadata__":{},"__metadata__":{}}', 0),
    code: header,
    says: /"__metadata__" is there twice/,
  },
  {
    what: '__metadata__ that is an array',
    file: rawFile('{"__metadata__":[]}', 0),
    code: header,
    says: /expected an object/,
  },
  {
    what: 'a number in __metadata__',
    file: rawFile('{"__metadata__":{"a":1}}', 0),
    code: header,
    says: /expected a string/,
  },
  {
    what: 'nesting 100 000 deep',
    file: rawFile(`{"w":{"x":${'['.repeat(100_000)}`, 0),
    code: header,
    tensor: 'w',
    says: /nested more than 64/,
  },
  {
    what: 'an entry that is a number',
    file: rawFile('{"w":1}', 0),
    code: header,
    tensor: 'w',
    says: /expected an object/,
  },
  {
    what: 'an entry that is null',
    file: rawFile('{"constructor":null}', 0),
    code: header,
    tensor: 'constructor',
    says: /expected an object/,
  },
  {
    what: 'a dtype that is a number',
    file: rawFile(`{"w":${entry({ dtype: '4' })}}`, 8),
    code: header,
    tensor: 'w',
    says: /expected a string/,
  },
  {
    what: 'a shape that is text',
    file: rawFile(`{"w":${entry({ shape: '"[2]"' })}}`, 8),
    code: header,
    tensor: 'w',
    says: /expected an array/,
  },
  {
    what: 'a dimension that is text',
    file: rawFile(`{"w":${entry({ shape: '["2"]' })}}`, 8),
    code: header,
    tensor: 'w',
    says: /expected a value/,
  },
]

describe('a hostile header length', () => expectRefusals(scratch, lengths))

describe('hostile JSON', () => expectRefusals(scratch, json))

describe('names in messages', () => {
  it('cannot steer a terminal, and are cut', async () => {
    const name = `\u001b[2J\u009b31m\u202e${'x'.repeat(5000)}`
    const directory = scratch.directory({ 'model.safetensors': rawFile(`{${JSON.stringify(name)}:{}}`, 0) })
    const error = await codedError(openCheckpoint(directory))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_TENSOR')
    expect(error.details.tensor).toBe(name)
    expect(error.message).toContain('\\u001b[2J\\u009b31m\\u202exxx')
    expect(error.message).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    expect(error.message.length).toBeLessThan(1000)
  })
})
