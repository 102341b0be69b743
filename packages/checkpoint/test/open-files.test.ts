import { appendFileSync, closeSync, ftruncateSync, openSync, truncateSync, utimesSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../src/index.js'
import { codedError, openFile, rawFile, Scratch, safetensorsFile } from './safetensors-fixture.js'

const scratch = new Scratch()
afterEach(() => expect(scratch.openDescriptors()).toEqual([]))
afterAll(() => scratch.remove())

const a = { name: 'a.weight', dtype: 'F32', shape: [2, 3] }

describe('an open checkpoint', () => {
  it.each<[string, (path: string) => void, RegExp]>([
    ['becomes shorter', (path) => truncateSync(path, 1000), /has no byte 1000 any more/],
    ['becomes longer', (path) => appendFileSync(path, 'x'), /its size went from/],
    ['is modified in place', (path) => utimesSync(path, 1, 1), /it was modified/],
  ])('notices that a file %s', async (_, change, says) => {
    const directory = scratch.directory({
      'model.safetensors': safetensorsFile([a, { name: 'big', dtype: 'F32', shape: [1000] }]),
    })
    await using checkpoint = await openCheckpoint(directory)
    await checkpoint.read('big')
    change(join(directory, 'model.safetensors'))
    const error = await codedError(checkpoint.read('big'))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_CHANGED')
    expect(error.message).toMatch(says)
    expect(error.details.file).toBe('model.safetensors')
    expect((await codedError(checkpoint.verifyUnchanged())).code).toBe('SPILLWAY_CHECKPOINT_CHANGED')
  })

  it('refuses what it does not have', async () => {
    await using checkpoint = await openFile(scratch, safetensorsFile([a]))
    const error = await codedError(checkpoint.read('nope'))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_TENSOR_MISSING')
    expect(error.message).toMatch(/no tensor "nope"/)
    const target = new Uint8Array(8)
    const end = checkpoint.files[0]?.bytes as number
    for (const [file, offset] of [
      ['other', 0],
      ['model.safetensors', -1],
      ['model.safetensors', 0.5],
      ['model.safetensors', end - 7],
      ['model.safetensors', Number.NaN],
    ] as const) {
      expect((await codedError(checkpoint.readBytes({ file, offset, target }))).code).toBe('SPILLWAY_INVALID_ARGUMENT')
    }
  })

  it('does not try to make an array larger than there can be', async () => {
    const directory = scratch.directory()
    const bytes = 2 ** 40
    const prefix = rawFile(`{"w":{"dtype":"U8","shape":[${bytes}],"data_offsets":[0,${bytes}]}}`, 0)
    const file = openSync(join(directory, 'model.safetensors'), 'w')
    writeSync(file, prefix)
    ftruncateSync(file, prefix.length + bytes)
    closeSync(file)
    await using checkpoint = await openCheckpoint(directory)
    expect(checkpoint.totalBytes).toBe(bytes)
    const error = await codedError(checkpoint.read('w'))
    expect(error.code).toBe('SPILLWAY_OUT_OF_MEMORY')
    expect(error.details).toMatchObject({ tensor: 'w', requestedBytes: bytes })
    const target = new Uint8Array(4).fill(9)
    await checkpoint.readBytes({ file: 'model.safetensors', offset: prefix.length + bytes - 4, target })
    expect([...target]).toEqual([0, 0, 0, 0])
  })

  it('reads in parallel, waits for reads when it is disposed of, and refuses them afterwards', async () => {
    const tensors = Array.from({ length: 8 }, (_, i) => ({ name: `t${i}`, dtype: 'U8', shape: [100_000 + i] }))
    const file = safetensorsFile(tensors)
    const checkpoint = await openFile(scratch, file)
    const reads = tensors.map(({ name }) => checkpoint.read(name))
    for (const [i, bytes] of (await Promise.all(reads)).entries()) {
      const { offset } = checkpoint.tensors.get(`t${i}`) as { offset: number }
      expect(Buffer.compare(bytes, file.subarray(offset, offset + 100_000 + i))).toBe(0)
    }
    const late = tensors.map(({ name }) =>
      checkpoint.read(name).then(
        () => 'read',
        (error: { code: string }) => error.code,
      ),
    )
    await Promise.all([checkpoint.dispose(), checkpoint.dispose()])
    expect(scratch.openDescriptors()).toEqual([])
    for (const outcome of await Promise.all(late)) expect(['read', 'SPILLWAY_DISPOSED']).toContain(outcome)
    expect((await codedError(checkpoint.read('t0'))).code).toBe('SPILLWAY_DISPOSED')
    expect((await codedError(checkpoint.verifyUnchanged())).code).toBe('SPILLWAY_DISPOSED')
    await checkpoint.dispose()
  })

  it('obeys a signal when opening and when reading', async () => {
    const directory = scratch.directory({ 'model.safetensors': safetensorsFile([a]) })
    const reason = new Error('enough')
    const error = await codedError(openCheckpoint(directory, { signal: AbortSignal.abort(reason) }))
    expect(error.code).toBe('SPILLWAY_ABORTED')
    expect(error.cause).toBe(reason)
    const during = new AbortController()
    const opening = openCheckpoint(directory, { signal: during.signal })
    during.abort(reason)
    expect((await codedError(opening)).code).toBe('SPILLWAY_ABORTED')
    await using checkpoint = await openCheckpoint(directory)
    expect((await codedError(checkpoint.read('a.weight', { signal: during.signal }))).code).toBe('SPILLWAY_ABORTED')
  })
})
