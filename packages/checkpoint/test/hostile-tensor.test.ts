import { afterAll, afterEach, describe, expect } from 'vitest'
import { entry, expectRefusals, type HostileFile } from './hostile-file.js'
import { rawFile, Scratch, safetensorsFile } from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const tensor = 'SPILLWAY_CHECKPOINT_TENSOR'
const layout = 'SPILLWAY_CHECKPOINT_LAYOUT'
const truncated = 'SPILLWAY_CHECKPOINT_TRUNCATED'
const dtype = 'SPILLWAY_CHECKPOINT_DTYPE'

const valid = safetensorsFile([
  { name: 'first', dtype: 'F32', shape: [4] },
  { name: 'second', dtype: 'BF16', shape: [2, 3] },
])

const entries: HostileFile[] = [
  {
    what: 'no dtype',
    file: rawFile(`{"w":${entry({ dtype: null })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /lacks dtype/,
  },
  {
    what: 'no shape',
    file: rawFile(`{"w":${entry({ shape: null })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /lacks dtype, shape/,
  },
  {
    what: 'no data_offsets',
    file: rawFile(`{"w":${entry({ data_offsets: null })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /data_offsets/,
  },
  {
    what: 'an unknown dtype',
    file: rawFile(`{"w":${entry({ dtype: '"Q4_K"' })}}`, 8),
    code: dtype,
    tensor: 'w',
    says: /"Q4_K" is not known.*F32/,
  },
  {
    what: 'a dtype in lower case',
    file: rawFile(`{"w":${entry({ dtype: '"f32"' })}}`, 8),
    code: dtype,
    tensor: 'w',
    says: /"f32" is not known/,
  },
  {
    what: 'the dtype constructor',
    file: rawFile(`{"w":${entry({ dtype: '"constructor"' })}}`, 8),
    code: dtype,
    tensor: 'w',
    says: /"constructor"/,
  },
  {
    what: 'a negative dimension',
    file: rawFile(`{"w":${entry({ shape: '[-2]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /"-2" in its shape/,
  },
  {
    what: 'two negative dimensions',
    file: rawFile(`{"w":${entry({ shape: '[-1,-2]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /"-1" in its shape/,
  },
  {
    what: 'a fractional dimension',
    file: rawFile(`{"w":${entry({ shape: '[0.5,4]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /"0.5" in its shape/,
  },
  {
    what: 'a dimension with an exponent',
    file: rawFile(`{"w":${entry({ shape: '[2e0]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /"2e0" in its shape/,
  },
  {
    what: 'a dimension of 2^53',
    file: rawFile(`{"w":${entry({ shape: '[9007199254740992]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /9007199254740992/,
  },
  {
    what: 'a dimension of 400 digits',
    file: rawFile(`{"w":${entry({ shape: `[${'9'.repeat(400)}]` })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /9…" in its shape/,
  },
  {
    what: 'a product past 2^53',
    file: rawFile(`{"w":${entry({ shape: '[4294967296,4294967296]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /larger than any file/,
  },
  {
    what: 'a product that is small modulo 2^64',
    file: rawFile(`{"w":${entry({ shape: '[4294967296,2147483648,2]', data_offsets: '[0,0]' })}}`, 0),
    code: tensor,
    tensor: 'w',
    says: /larger than any file/,
  },
  {
    what: 'an overflow beside a dimension of 0',
    file: rawFile(`{"w":${entry({ shape: '[0,4294967296,4294967296]', data_offsets: '[0,0]' })}}`, 0),
    code: tensor,
    tensor: 'w',
    says: /larger than any file/,
  },
  {
    what: '65 dimensions',
    file: rawFile(`{"w":${entry({ shape: `[2${',1'.repeat(64)}]` })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /more than 64 numbers/,
  },
  {
    what: 'a shape smaller than the bytes',
    file: rawFile(`{"w":${entry({ shape: '[1]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /takes 4 bytes, its data_offsets give 8/,
  },
  {
    what: 'a shape larger than the bytes',
    file: rawFile(`{"w":${entry({ shape: '[3]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /takes 12 bytes, its data_offsets give 8/,
  },
  {
    what: 'a dtype wider than the bytes',
    file: rawFile(`{"w":${entry({ dtype: '"F64"' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /takes 16 bytes/,
  },
  {
    what: 'half a byte',
    file: rawFile(`{"w":${entry({ dtype: '"F4"', shape: '[3]', data_offsets: '[0,1]' })}}`, 1),
    code: tensor,
    tensor: 'w',
    says: /no whole number of bytes/,
  },
  {
    what: 'offsets reversed',
    file: rawFile(`{"w":${entry({ data_offsets: '[8,0]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /not a begin and an end/,
  },
  {
    what: 'one offset',
    file: rawFile(`{"w":${entry({ data_offsets: '[0]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /not a begin and an end/,
  },
  {
    what: 'three offsets',
    file: rawFile(`{"w":${entry({ data_offsets: '[0,8,8]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /more than 2 numbers/,
  },
  {
    what: 'a negative offset',
    file: rawFile(`{"w":${entry({ data_offsets: '[-8,0]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /"-8" in its data_offsets/,
  },
  {
    what: 'an offset of 2^64',
    file: rawFile(`{"w":${entry({ data_offsets: '[0,18446744073709551616]' })}}`, 8),
    code: tensor,
    tensor: 'w',
    says: /18446744073709551616/,
  },
  {
    what: 'offsets far beyond the file',
    file: rawFile(`{"w":${entry({ data_offsets: '[1000000000000,1000000000008]' })}}`, 8),
    code: truncated,
    tensor: 'w',
    says: /end at 1000000000008/,
  },
  {
    what: 'a tensor of a terabyte in a small file',
    file: rawFile(`{"w":${entry({ shape: '[274877906944]', data_offsets: '[0,1099511627776]' })}}`, 8),
    code: truncated,
    tensor: 'w',
    says: /the file holds 8/,
  },
  {
    what: 'a file cut off in the last tensor',
    file: valid.subarray(0, -1),
    code: truncated,
    tensor: 'second',
    says: /Download the file again/,
  },
  {
    what: 'a file cut off before its data',
    file: valid.subarray(0, -28),
    code: truncated,
    tensor: 'first',
    says: /the file holds 0/,
  },
  { what: 'a file cut off in its header', file: valid.subarray(0, 20), code: truncated, says: /but only 12 follow/ },
]

const layouts: HostileFile[] = [
  {
    what: 'two tensors over one another',
    file: rawFile(`{"w":${entry()},"v":${entry({ data_offsets: '[4,12]' })}}`, 12),
    code: layout,
    tensor: 'v',
    says: /overlap those of tensor "w"/,
  },
  {
    what: 'two names for the same bytes',
    file: rawFile(`{"w":${entry()},"v":${entry()}}`, 8),
    code: layout,
    tensor: 'v',
    says: /overlap those of tensor "w"/,
  },
  {
    what: 'an empty tensor inside another',
    file: rawFile(`{"v":${entry({ shape: '[0]', data_offsets: '[4,4]' })},"w":${entry()}}`, 8),
    code: layout,
    tensor: 'v',
    says: /overlap/,
  },
  {
    what: 'a gap between two tensors',
    file: rawFile(`{"w":${entry()},"v":${entry({ data_offsets: '[9,17]' })}}`, 17),
    code: layout,
    tensor: 'v',
    says: /1 bytes between tensor "w" and it belong to no tensor/,
  },
  {
    what: 'a gap before the first tensor',
    file: rawFile(`{"w":${entry({ data_offsets: '[1,9]' })}}`, 9),
    code: layout,
    tensor: 'w',
    says: /1 bytes between the header/,
  },
  {
    what: 'a byte after the last tensor',
    file: Buffer.concat([valid, Buffer.alloc(1)]),
    code: layout,
    says: /1 bytes after tensor "second"/,
  },
  { what: 'data without any tensor', file: rawFile('{}', 8), code: layout, says: /8 bytes after the header/ },
]

describe('a hostile entry', () => expectRefusals(scratch, entries))

describe('a hostile layout', () => expectRefusals(scratch, layouts))
