import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isSpillwayError } from '@spillway/core'
import fc from 'fast-check'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { type Checkpoint, openCheckpoint } from '../src/index.js'
import {
  bitsByDType,
  codedError,
  coreDTypes,
  expectSound,
  type FixtureTensor,
  indexJson,
  openFile,
  patternBytes,
  rawFile,
  Scratch,
  safetensorsFile,
  tensorBytes,
} from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const anyName = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }).filter((name) => name !== '__metadata__'),
  fc.constantFrom('__proto__', 'constructor', 'hasOwnProperty', '', 'model.layers.0.mlp.up_proj.weight'),
)
const anyShape = fc.oneof(
  fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 5 }),
  fc.constantFrom<number[]>([2 ** 20, 0], [0, 2 ** 31], [1, 1, 1, 1, 1, 1, 1, 1, 3]),
)
/** Packed dtypes need whole bytes: their last dimension is a multiple of four elements. */
const anyTensor: fc.Arbitrary<FixtureTensor> = fc
  .record({ name: anyName, dtype: fc.constantFrom(...Object.keys(bitsByDType)), shape: anyShape })
  .map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: dtype.startsWith('F4') || dtype.startsWith('F6') ? [...shape, 4] : shape,
  }))
const anyTensors = fc.uniqueArray(anyTensor, { selector: (tensor) => tensor.name, maxLength: 8 })

/** A valid file, its tensors, and its header's length. */
const anyFile = fc
  .record({
    tensors: anyTensors,
    metadata: fc.option(fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), { maxKeys: 3 }), {
      nil: undefined,
    }),
    padding: fc.integer({ min: 0, max: 9 }),
    order: fc.infiniteStream(fc.nat()),
  })
  .map(({ tensors, metadata, padding, order }) => {
    const listed = tensors.map((_, i) => ({ i, key: order.next().value as number })).sort((x, y) => x.key - y.key)
    const options = { padding, listed: listed.map(({ i }) => i), ...(metadata === undefined ? {} : { metadata }) }
    const file = safetensorsFile(tensors, options)
    return { tensors, metadata, file, headerBytes: Number(file.readBigUInt64LE()) }
  })

/** What JSON.parse makes of a header, in offset order. */
function parsedHeader(file: Buffer): { name: string; dtype: string; shape: number[]; begin: number; end: number }[] {
  const headerBytes = Number(file.readBigUInt64LE())
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    file.subarray(8, 8 + headerBytes).toString('utf8'),
  )
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, info]) => ({
      name,
      dtype: info.dtype,
      shape: info.shape,
      begin: info.data_offsets[0],
      end: info.data_offsets[1],
    }))
    .sort((x, y) => x.begin - y.begin || x.end - y.end)
}

/** Opens a file; a refusal must be one of ours and name the file. Returns null when it was refused. */
async function openOrRefuse(file: Buffer): Promise<Checkpoint | null> {
  try {
    return await openFile(scratch, file)
  } catch (error) {
    if (!isSpillwayError(error) || !error.code.startsWith('SPILLWAY_CHECKPOINT_')) throw error
    expect(error.details.file).toBe('model.safetensors')
    expect(error.message).toContain('model.safetensors')
    return null
  }
}

/** An accepted file must mean to us what it means to everybody else. */
function expectReadAsJson(checkpoint: Checkpoint, file: Buffer): void {
  const headerBytes = Number(file.readBigUInt64LE())
  expectSound(checkpoint, headerBytes)
  const ours = [...checkpoint.tensors.values()].map(({ name, storedDType, shape, offset, bytes }) => {
    const begin = offset - 8 - headerBytes
    return { name, dtype: storedDType, shape, begin, end: begin + bytes }
  })
  const byName = (x: { name: string }, y: { name: string }): number => (x.name < y.name ? -1 : 1)
  expect(ours.sort(byName)).toEqual(parsedHeader(file).sort(byName))
}

describe('random files', () => {
  it('that are valid give the exact map and bytes', async () => {
    await fc.assert(
      fc.asyncProperty(anyFile, async ({ tensors, metadata, file, headerBytes }) => {
        await using checkpoint = await openFile(scratch, file)
        expectSound(checkpoint, headerBytes)
        let begin = 8 + headerBytes
        expect(new Set(checkpoint.tensors.keys())).toEqual(new Set(tensors.map(({ name }) => name)))
        for (const tensor of tensors) {
          const { name, dtype, shape } = tensor
          const bytes = tensorBytes(tensor)
          const expected = { name, storedDType: dtype, dtype: coreDTypes[dtype] ?? null, shape, bytes, offset: begin }
          expect(checkpoint.tensors.get(name)).toEqual({ ...expected, file: 'model.safetensors' })
          if (dtype in coreDTypes) {
            const read = await checkpoint.read(name)
            expect(Buffer.compare(read, file.subarray(begin, begin + bytes))).toBe(0)
          }
          begin += bytes
        }
        expect(new Map(checkpoint.metadata)).toEqual(new Map(Object.entries(metadata ?? {})))
      }),
      { numRuns: 300 },
    )
  })

  it('with changed bytes are read as JSON.parse reads them, or refused by a code', async () => {
    const change = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) }),
      fc.record({
        kind: fc.constant('json' as const),
        at: fc.nat(),
        byte: fc.constantFrom(...Buffer.from('{}[]",:0123456789-.eE \\')),
      }),
      fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), byte: fc.constant(0) }),
      fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) }),
    )
    let accepted = 0
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        anyFile,
        fc.array(change, { minLength: 1, maxLength: 3 }),
        fc.boolean(),
        async ({ file }, changes, anywhere) => {
          let mutated = Buffer.from(file)
          for (const { kind, at, byte } of changes) {
            const headerBytes = Number(file.readBigUInt64LE())
            const position = anywhere ? at % mutated.length : Math.min(8 + (at % headerBytes), mutated.length - 1)
            if (kind === 'set' || kind === 'json') mutated[position] = byte
            else if (kind === 'insert')
              mutated = Buffer.concat([mutated.subarray(0, position), Buffer.of(byte), mutated.subarray(position)])
            else mutated = Buffer.from(mutated.subarray(0, Math.max(position, 1)))
          }
          await using checkpoint = await openOrRefuse(mutated)
          if (checkpoint === null) refused++
          else accepted++
          if (checkpoint !== null) expectReadAsJson(checkpoint, mutated)
        },
      ),
      { numRuns: 3000 },
    )
    expect(accepted).toBeGreaterThan(50)
    expect(refused).toBeGreaterThan(500)
  })

  it('with entries replaced by any JSON are read as JSON.parse reads them, or refused by a code', async () => {
    const hostileNumber = fc.oneof(
      fc.integer({ min: -2, max: 9 }),
      fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1.5, -0.5, 1e308),
    )
    const hostileEntry = fc.oneof(
      fc.record(
        {
          dtype: fc.oneof(fc.constantFrom(...Object.keys(bitsByDType), 'Q4', '__proto__'), fc.jsonValue()),
          shape: fc.oneof(fc.array(hostileNumber, { maxLength: 4 }), fc.jsonValue()),
          data_offsets: fc.oneof(
            fc.array(hostileNumber, { minLength: 2, maxLength: 2 }),
            fc.array(hostileNumber),
            fc.jsonValue(),
          ),
          extra: fc.jsonValue(),
        },
        { requiredKeys: [] },
      ),
      fc.jsonValue(),
    )
    const header = fc.oneof(fc.dictionary(anyName, hostileEntry, { maxKeys: 4 }), fc.jsonValue())
    await fc.assert(
      fc.asyncProperty(header, fc.integer({ min: 0, max: 40 }), async (json, dataBytes) => {
        const file = rawFile(JSON.stringify(json), dataBytes)
        await using checkpoint = await openOrRefuse(file)
        if (checkpoint !== null) expectReadAsJson(checkpoint, file)
      }),
      { numRuns: 2000 },
    )
  })

  it('are refused, never half read, with any byte of their length changed', async () => {
    const file = safetensorsFile([{ name: 'w', dtype: 'F32', shape: [3] }])
    for (let at = 0; at < 8; at++) {
      for (const byte of [0, 1, 0x7f, 0x80, 0xff, file[0] as number]) {
        const mutated = Buffer.from(file)
        mutated[at] = byte
        await using checkpoint = await openOrRefuse(mutated)
        expect(checkpoint === null).toBe(!mutated.equals(file))
      }
    }
  })
})

describe('a random index', () => {
  it('is followed or refused by a code', async () => {
    const shardNames = ['one.safetensors', 'two.safetensors']
    const anyShardName = fc.oneof(
      fc.constantFrom(...shardNames, '..', '../one.safetensors', '/one.safetensors', 'gone'),
      fc.string(),
    )
    const index = fc.oneof(
      fc.dictionary(fc.constantFrom('a', 'b', 'c', '__proto__'), anyShardName).map((files) => indexJson(files)),
      fc.jsonValue().map((value) => JSON.stringify({ weight_map: value })),
      fc.json(),
      fc.constant(indexJson({ a: 'one.safetensors', b: 'two.safetensors' })),
    )
    const cut = fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat() })
    let accepted = 0
    await fc.assert(
      fc.asyncProperty(index, cut, async (text, at) => {
        const directory = scratch.directory({
          'model.safetensors.index.json': at === undefined ? text : text.slice(0, at % (text.length + 1)),
          'one.safetensors': safetensorsFile([{ name: 'a', dtype: 'U8', shape: [2] }]),
          'two.safetensors': safetensorsFile([{ name: 'b', dtype: 'U8', shape: [3] }]),
        })
        try {
          await using checkpoint = await openCheckpoint(directory)
          accepted++
          const map: Record<string, string> = JSON.parse(text).weight_map
          for (const [name, file] of Object.entries(map)) expect(checkpoint.tensors.get(name)?.file).toBe(file)
          expect(new Set(checkpoint.files.map(({ file }) => file))).toEqual(new Set(Object.values(map)))
        } catch (error) {
          if (!isSpillwayError(error) || !error.code.startsWith('SPILLWAY_CHECKPOINT_')) throw error
        }
      }),
      { numRuns: 1000 },
    )
    expect(accepted).toBeGreaterThan(50)
  })
})

describe('memory', () => {
  /** A file of any size that takes no room on disk. */
  function sparseFile(start: Uint8Array, bytes: number): string {
    const directory = scratch.directory()
    const descriptor = openSync(join(directory, 'model.safetensors'), 'w')
    writeSync(descriptor, start)
    ftruncateSync(descriptor, bytes)
    closeSync(descriptor)
    return directory
  }

  it('is not taken on the word of a header length', async () => {
    const lengths = [
      2 ** 20,
      2 ** 26,
      99_999_999,
      100_000_001,
      2 ** 28,
      2 ** 31,
      2 ** 32,
      2 ** 33,
      2 ** 40,
      2 ** 53,
    ].map(BigInt)
    const before = process.memoryUsage().arrayBuffers
    for (const length of [...lengths, 2n ** 63n, 2n ** 64n - 1n]) {
      const error = await codedError(openFile(scratch, rawFile('{}', 0, length)))
      // Garbage counts until it is collected, so an array made and dropped on the way shows here as well.
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
      expect(error.code).toBe(length > 100_000_000n ? 'SPILLWAY_CHECKPOINT_HEADER' : 'SPILLWAY_CHECKPOINT_TRUNCATED')
    }
  })

  it('is not taken on the word of a file’s size either', async () => {
    const before = process.memoryUsage().arrayBuffers
    for (const length of [100_000_001n, 2n ** 32n, 2n ** 39n]) {
      const error = await codedError(openCheckpoint(sparseFile(rawFile('', 0, length), 2 ** 40)))
      expect(error.code).toBe('SPILLWAY_CHECKPOINT_HEADER')
    }
    const bytes = 2 ** 40
    const start = rawFile(`{"w":{"dtype":"U8","shape":[${bytes}],"data_offsets":[0,${bytes}]}}`, 0)
    await using checkpoint = await openCheckpoint(sparseFile(start, start.length + bytes))
    expect(checkpoint.tensors.get('w')?.bytes).toBe(bytes)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  it('is bounded for the largest header there may be', async () => {
    // The most names for its bytes, and the longest shapes: what a header of 100 MB can make us keep.
    const names = `{${Array.from({ length: 500_001 }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(',')}}`
    const error = await codedError(openFile(scratch, rawFile(names, 0)))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_HEADER')
    expect(error.message).toMatch(/more than 500000 keys/)
    const dimensions = rawFile(`{"w":{"dtype":"U8","shape":[${'0,'.repeat(40_000_000)}0]}}`, 0)
    expect((await codedError(openFile(scratch, dimensions))).message).toMatch(/more than 64 numbers/)
  })
})

describe('a copy of a valid file', () => {
  it('differs in its data only where the data differ', async () => {
    const file = safetensorsFile([{ name: 'w', dtype: 'U8', shape: [64] }])
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 63 }), fc.integer({ min: 0, max: 255 }), async (at, byte) => {
        const mutated = Buffer.from(file)
        mutated[file.length - 64 + at] = byte
        const expected = Buffer.from(patternBytes(64))
        expected[at] = byte
        await using checkpoint = await openFile(scratch, mutated)
        expect(Buffer.compare(await checkpoint.read('w'), expected)).toBe(0)
      }),
      { numRuns: 50 },
    )
  })
})
