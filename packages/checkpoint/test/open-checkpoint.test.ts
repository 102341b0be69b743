import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../src/index.js'
import {
  bitsByDType,
  codedError,
  coreDTypes,
  openFile,
  patternBytes,
  rawFile,
  Scratch,
  safetensorsFile,
} from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const indexName = 'model.safetensors.index.json'
const a = { name: 'a.weight', dtype: 'F32', shape: [2, 3] }
const b = { name: 'b.weight', dtype: 'BF16', shape: [5] }
const c = { name: 'c.weight', dtype: 'U8', shape: [] }

describe('a single file', () => {
  it('gives the exact map, the exact bytes and the metadata', async () => {
    await using checkpoint = await openFile(
      scratch,
      safetensorsFile([a, b, c], { metadata: { format: 'pt' }, padding: 5 }),
    )
    const start = (checkpoint.files[0]?.bytes as number) - 35
    const file = 'model.safetensors'
    expect([...checkpoint.tensors]).toEqual([
      [
        'a.weight',
        { name: 'a.weight', storedDType: 'F32', dtype: 'f32', shape: [2, 3], bytes: 24, file, offset: start },
      ],
      [
        'b.weight',
        { name: 'b.weight', storedDType: 'BF16', dtype: 'bf16', shape: [5], bytes: 10, file, offset: start + 24 },
      ],
      ['c.weight', { name: 'c.weight', storedDType: 'U8', dtype: 'u8', shape: [], bytes: 1, file, offset: start + 34 }],
    ])
    expect(checkpoint.totalBytes).toBe(35)
    expect([...checkpoint.metadata]).toEqual([['format', 'pt']])
    const data = patternBytes(35)
    expect(Buffer.from(await checkpoint.read('a.weight')).equals(data.subarray(0, 24))).toBe(true)
    expect(Buffer.from(await checkpoint.read('b.weight')).equals(data.subarray(24, 34))).toBe(true)
    expect(Buffer.from(await checkpoint.read('c.weight')).equals(data.subarray(34))).toBe(true)
  })

  it('lists tensors in file order, whatever the header’s order', async () => {
    await using checkpoint = await openFile(scratch, safetensorsFile([a, b, c], { listed: [2, 0, 1] }))
    expect([...checkpoint.tensors.keys()]).toEqual(['a.weight', 'b.weight', 'c.weight'])
  })

  it('takes names that are properties of every object, and the empty one', async () => {
    const names = ['__proto__', 'constructor', 'toString', '', 'größe ☃ 😀', 'with "quotes" \\ and \n break']
    const file = safetensorsFile(names.map((name) => ({ name, dtype: 'U8', shape: [1] })))
    await using checkpoint = await openFile(scratch, file)
    expect([...checkpoint.tensors.keys()]).toEqual(names)
    expect(await checkpoint.read('__proto__')).toEqual(new Uint8Array(patternBytes(1)))
  })

  it('takes empty tensors, scalars, 64 dimensions, odd offsets, unknown fields and a file of no tensors', async () => {
    const ones = new Array<number>(63).fill(1)
    const tensors = [
      { name: 'empty', dtype: 'F32', shape: [0, 7] },
      { name: 'scalar', dtype: 'U8', shape: [] },
      { name: 'odd', dtype: 'F64', shape: [1] },
      { name: 'empty too', dtype: 'F32', shape: [3, 0] },
      { name: 'deep', dtype: 'F32', shape: [2, ...ones] },
    ]
    await using checkpoint = await openFile(scratch, safetensorsFile(tensors))
    expect([...checkpoint.tensors.values()].map((tensor) => tensor.bytes)).toEqual([0, 1, 8, 0, 8])
    expect(await checkpoint.read('empty')).toEqual(new Uint8Array(0))
    const more = rawFile('{"w":{"dtype":"U8","note":{"a":[1,null,true,"x"]},"shape":[1],"data_offsets":[0,1]}}', 1)
    await using extended = await openFile(scratch, more)
    expect(extended.tensors.get('w')?.bytes).toBe(1)
    await using nothing = await openFile(scratch, rawFile('{}', 0))
    expect(nothing.tensors.size).toBe(0)
  })

  it.each(Object.keys(bitsByDType))('knows the dtype %s', async (dtype) => {
    const file = safetensorsFile([{ name: 'w', dtype, shape: [4, 2] }])
    await using checkpoint = await openFile(scratch, file)
    const tensor = checkpoint.tensors.get('w')
    expect(tensor).toMatchObject({ storedDType: dtype, dtype: coreDTypes[dtype] ?? null, bytes: bitsByDType[dtype] })
    if (dtype in coreDTypes) {
      expect((await checkpoint.read('w')).length).toBe(bitsByDType[dtype])
    } else {
      const error = await codedError(checkpoint.read('w'))
      expect(error.code).toBe('SPILLWAY_CHECKPOINT_DTYPE')
      expect(error.message).toMatch(
        new RegExp(`model\\.safetensors", tensor "w": its dtype ${dtype} cannot be read yet`),
      )
      expect(error.details).toMatchObject({ file: 'model.safetensors', tensor: 'w', dtype })
    }
  })

  it('reads through the symbolic links of a download cache', async () => {
    const blobs = scratch.directory({ '0f3a': safetensorsFile([a]) })
    const snapshot = scratch.directory()
    symlinkSync(join(blobs, '0f3a'), join(snapshot, 'model.safetensors'))
    await using checkpoint = await openCheckpoint(snapshot)
    expect(await checkpoint.read('a.weight')).toEqual(new Uint8Array(patternBytes(24)))
  })

  it('is preferred to an index beside it', async () => {
    const directory = scratch.directory({ 'model.safetensors': safetensorsFile([a]), [indexName]: 'not read' })
    await using checkpoint = await openCheckpoint(directory)
    expect([...checkpoint.tensors.keys()]).toEqual(['a.weight'])
  })
})

describe('what is no checkpoint', () => {
  const missing = 'SPILLWAY_CHECKPOINT_MISSING'
  const unreadable = 'SPILLWAY_CHECKPOINT_UNREADABLE'

  it.each<[string, (directory: string) => string | undefined, string, RegExp]>([
    ['an empty directory', () => undefined, missing, /neither model\.safetensors nor model\.safetensors\.index\.json/],
    ['a directory that is not there', (directory) => join(directory, 'none'), missing, /no such directory/],
    [
      'a link to nothing',
      (directory) => symlinkSync('gone', join(directory, 'model.safetensors')) as undefined,
      missing,
      /neither/,
    ],
    [
      'a directory in place of the file',
      (directory) => mkdirSync(join(directory, 'model.safetensors')) as undefined,
      unreadable,
      /is a directory, not a file/,
    ],
    [
      'a directory in place of the index',
      (directory) => mkdirSync(join(directory, indexName)) as undefined,
      unreadable,
      /is a directory, not a file/,
    ],
    [
      'links in a circle',
      (directory) => symlinkSync('model.safetensors', join(directory, 'model.safetensors')) as undefined,
      unreadable,
      /ELOOP.*lead in a circle/,
    ],
    [
      'a link to a device',
      (directory) => symlinkSync('/dev/zero', join(directory, 'model.safetensors')) as undefined,
      unreadable,
      /a device, pipe or socket/,
    ],
    [
      'a pipe',
      (directory) => void execFileSync('mkfifo', [join(directory, 'model.safetensors')]) as undefined,
      unreadable,
      /a device, pipe or socket/,
    ],
    ['a path with a zero byte', (directory) => `${directory}\0`, unreadable, /cannot be read/],
    ['a path that is no text', () => 7 as unknown as string, unreadable, /cannot be read/],
  ])('%s', async (_, make, code, says) => {
    const directory = scratch.directory()
    const error = await codedError(openCheckpoint(make(directory) ?? directory))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
  })

  it('a file in place of the directory', async () => {
    const directory = scratch.directory({ 'model.safetensors': safetensorsFile([a]) })
    const error = await codedError(openCheckpoint(join(directory, 'model.safetensors')))
    expect(error.code).toBe(missing)
    expect(error.message).toMatch(/not a directory. Pass the directory/)
    const below = await codedError(openCheckpoint(join(directory, 'model.safetensors', 'x')))
    expect(below.code).toBe(unreadable)
  })
})
