import { appendFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import type { TensorView } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import { type LoadTarget, loadParameters, openCheckpoint } from '../src/index.js'
import { type Buffers, LoadRig, liveHandles, untouched, view } from './load-rig.js'
import { codedError, type FixtureTensor, patternBytes, safetensorsFile } from './safetensors-fixture.js'

const rig = new LoadRig()

describe('what is refused before anything is read', () => {
  const tensors = [
    { name: 'a', dtype: 'F32', shape: [4, 2] },
    { name: 'b', dtype: 'BF16', shape: [6] },
    { name: 'c', dtype: 'U16', shape: [6] },
  ]

  /** Loads `targets` into a fresh buffer; expects a coded error and a buffer as it was. */
  async function refusal(
    targets: (target: Buffers) => LoadTarget[],
    options: object = {},
  ): Promise<{ code: string; message: string; details: object }> {
    const checkpoint = await rig.open(safetensorsFile(tensors))
    const target = await rig.buffer('device', 64)
    const before = rig.device.counters()
    const error = await codedError(loadParameters({ checkpoint, targets: targets(target), ...rig.copying, ...options }))
    expect(rig.device.counters().hostToDeviceBytes).toBe(before.hostToDeviceBytes)
    expect(Buffer.compare(await rig.contents(target), Buffer.alloc(64, untouched))).toBe(0)
    return error
  }
  const a = (target: Buffers, change: Partial<TensorView> = {}): LoadTarget => ({
    tensorName: 'a',
    tensor: { ...view(target, 0, tensors[0] as FixtureTensor), ...change },
  })

  it('missing tensors, all of them', async () => {
    const error = await refusal((target) =>
      ['x.weight', 'a', '__proto__', 'y'].map((tensorName) => ({ ...a(target), tensorName })),
    )
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_TENSOR_MISSING')
    expect(error.message).toMatch(/lacks 3 of the model's tensors: "x\.weight", "__proto__", "y"\. Use the checkpoint/)
    expect(error.details).toMatchObject({ missing: ['x.weight', '__proto__', 'y'] })
    const many = Array.from({ length: 70 }, (_, i) => `layer.${i}`)
    const longer = await refusal((target) => many.map((tensorName) => ({ ...a(target), tensorName })))
    expect(longer.message).toMatch(/lacks 70 of the model's tensors: "layer\.0",.*"layer\.63" and 6 more\./)
    expect(longer.details).toMatchObject({ missing: many })
  })

  it.each<[string, Partial<TensorView>, RegExp]>([
    ['another dtype', { dtype: 'f16' }, /has f32 \[4, 2\], the model expects f16 \[4, 2\]/],
    [
      'another shape of the same size',
      { shape: [2, 4], stride: [4, 1] },
      /has f32 \[4, 2\], the model expects f32 \[2, 4\]/,
    ],
    ['another rank', { shape: [4, 2, 1], stride: [2, 1, 1] }, /expects f32 \[4, 2, 1\]/],
  ])('%s', async (_, change, says) => {
    const error = await refusal((target) => [a(target, change)])
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_SHAPE')
    expect(error.message).toMatch(/model\.safetensors", tensor "a": /)
    expect(error.message).toMatch(says)
    expect(error.details).toMatchObject({ file: 'model.safetensors', tensor: 'a', dtype: 'f32', shape: [4, 2] })
  })

  it('a dtype that is not read yet', async () => {
    const error = await refusal((target) => [
      { tensorName: 'c', tensor: { ...view(target, 0, { name: 'c', dtype: 'I16', shape: [6] }) } },
    ])
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_DTYPE')
    expect(error.message).toMatch(/tensor "c": its dtype U16/)
  })

  it.each<[string, Partial<TensorView>, RegExp]>([
    ['a place past the end of its buffer', { offset: 33 }, /bytes 33 to 65, is not inside its buffer of 64 bytes/],
    ['a place before its buffer', { offset: -4 }, /not inside its buffer/],
    ['a place at half a byte', { offset: 0.5 }, /not inside its buffer/],
    ['a place that is not a number', { offset: Number.NaN }, /not inside its buffer/],
    ['strides that reach past the end', { stride: [16, 1] }, /not inside its buffer/],
    ['negative strides', { stride: [-2, 1] }, /not a tensor layout/],
    ['too few strides', { stride: [1] }, /not a tensor layout/],
    ['strides of zero', { stride: [0, 1] }, /share bytes/],
    ['strides that make rows overlap', { stride: [1, 1] }, /share bytes/],
  ])('%s', async (_, change, says) => {
    const error = await refusal((target) => [a(target, change)])
    expect(error.code).toBe('SPILLWAY_INVALID_ARGUMENT')
    expect(error.message).toMatch(says)
  })

  it('two tensors for the same bytes', async () => {
    const b = tensors[1] as FixtureTensor
    const error = await refusal((target) => [a(target), { tensorName: 'b', tensor: view(target, 31, b) }])
    expect(error.code).toBe('SPILLWAY_INVALID_ARGUMENT')
    expect(error.message).toMatch(/tensors "a" and "b" are to be loaded over one another/)
  })

  it.each<[string, object, RegExp]>([
    ['a device place without a stream', { stream: undefined }, /needs both `stream` and `host`/],
    ['a device place without host memory', { host: undefined }, /needs both `stream` and `host`/],
    ['too little staging memory', { stagingBytes: 1023 }, /from 1024 to 4294967296/],
    ['staging memory that is no number', { stagingBytes: Number.POSITIVE_INFINITY }, /stagingBytes must be an integer/],
  ])('%s', async (_, options, says) => {
    const error = await refusal((target) => [a(target)], options)
    expect(error.code).toBe('SPILLWAY_INVALID_ARGUMENT')
    expect(error.message).toMatch(says)
  })
})

describe('a load that fails on the way', () => {
  const big = { name: 'w', dtype: 'U8', shape: [2 ** 20] }
  const loading = async (directory: string, options: object): Promise<unknown> => {
    const checkpoint = await openCheckpoint(directory)
    rig.own(checkpoint)
    const target = await rig.buffer('device', 2 ** 20)
    const targets = [{ tensorName: 'w', tensor: view(target, 0, big) }]
    const done = await loadParameters({ checkpoint, targets, ...rig.copying, stagingBytes: 4096, ...options }).finally(
      () => {
        // Released before the caller hears of it, not some time later.
        expect(liveHandles(rig.device)['host-buffer']).toBe(undefined)
      },
    )
    return done
  }
  const directory = (): string => rig.scratch.directory({ 'model.safetensors': safetensorsFile([big]) })

  it('by its signal, before and midway, stops and releases everything', async () => {
    const reason = new Error('enough')
    const early = await codedError(loading(directory(), { signal: AbortSignal.abort(reason) }))
    expect(early.code).toBe('SPILLWAY_ABORTED')
    const controller = new AbortController()
    let steps = 0
    const onProgress = (): void => {
      if (++steps === 5) controller.abort(reason)
    }
    const error = await codedError(loading(directory(), { signal: controller.signal, onProgress }))
    expect(error.code).toBe('SPILLWAY_ABORTED')
    expect(error.cause).toBe(reason)
    // Of 1024 pieces: at most those that were under way.
    expect(steps).toBeLessThan(12)
  })

  it('by its onProgress, rejects with what that threw', async () => {
    const thrown = new Error('the listener broke')
    let steps = 0
    const onProgress = (): void => {
      if (++steps === 4) throw thrown
    }
    await expect(loading(directory(), { onProgress })).rejects.toBe(thrown)
    // The other readers stopped too.
    expect(steps).toBeLessThan(12)
  })

  it.each<[string, (path: string) => void, RegExp]>([
    ['is cut off', (path) => truncateSync(path, 100_000), /has no byte \d+ any more/],
    ['grows', (path) => appendFileSync(path, 'x'), /its size went from/],
  ])('because the file %s meanwhile, says so', async (_, change, says) => {
    const where = directory()
    let changed = false
    const onProgress = ({ loadedBytes }: { loadedBytes: number }): void => {
      if (changed || loadedBytes < 200_000) return
      change(join(where, 'model.safetensors'))
      changed = true
    }
    const error = await codedError(loading(where, { onProgress }))
    expect(error.code).toBe('SPILLWAY_CHECKPOINT_CHANGED')
    expect(error.message).toMatch(says)
    expect(error.details.file).toBe('model.safetensors')
  })

  it('because something was disposed of, passes the code on', async () => {
    const closed = rig.device.createStream()
    await closed.dispose()
    expect((await codedError(loading(directory(), { stream: closed }))).code).toBe('SPILLWAY_DISPOSED')

    const checkpoint = await openCheckpoint(directory())
    const target = await rig.buffer('host', 2 ** 20)
    const targets = [{ tensorName: 'w', tensor: view(target, 0, big) }]
    const onProgress = ({ loadedBytes }: { loadedBytes: number }): void =>
      void (loadedBytes > 0 && checkpoint.dispose())
    const error = await codedError(loadParameters({ checkpoint, targets, stagingBytes: 4096, onProgress }))
    expect(error.code).toBe('SPILLWAY_DISPOSED')
    await checkpoint.dispose()
  })

  it('can be done again', async () => {
    const checkpoint = await rig.open(safetensorsFile([big]))
    const target = await rig.buffer('device', 2 ** 20)
    const options = { checkpoint, targets: [{ tensorName: 'w', tensor: view(target, 0, big) }], ...rig.copying }
    const controller = new AbortController()
    const failing = loadParameters({ ...options, signal: controller.signal, stagingBytes: 4096 })
    controller.abort()
    expect((await codedError(failing)).code).toBe('SPILLWAY_ABORTED')
    await loadParameters(options)
    expect(Buffer.compare(await rig.contents(target), patternBytes(2 ** 20))).toBe(0)
  })
})
