import { type DType, dtypeBytes, extentBytes, type TensorView } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadParameters, openCheckpoint } from '../src/index.js'
import { type Buffers, LoadRig, untouched, view } from './load-rig.js'
import {
  coreDTypes,
  type FixtureTensor,
  indexJson,
  openFile,
  patternBytes,
  safetensorsFile,
  tensorBytes,
} from './safetensors-fixture.js'

const rig = new LoadRig()

const small: FixtureTensor[] = [
  { name: 'norm', dtype: 'F32', shape: [33] },
  { name: 'q', dtype: 'BF16', shape: [40, 33] },
  { name: 'bias', dtype: 'U8', shape: [] },
  { name: 'none', dtype: 'F16', shape: [0, 4] },
  { name: 'k', dtype: 'F8_E4M3', shape: [7, 11, 13] },
  { name: 'v', dtype: 'I64', shape: [500] },
]

describe.each(['device', 'host'] as const)('into one %s buffer', (where) => {
  it.each([1024, 1027, 65536, undefined])(
    'puts every byte in its place, with stagingBytes %s',
    async (stagingBytes) => {
      const checkpoint = await rig.open(safetensorsFile(small))
      const before = rig.device.counters()
      let end = 5
      const places = [...small].reverse().map((tensor) => {
        const offset = end
        end += tensorBytes(tensor) + 3
        return { tensor, offset }
      })
      const target = await rig.buffer(where, end)
      const progress: number[] = []
      const { loadedBytes, totalBytes } = await loadParameters({
        checkpoint,
        targets: places.map(({ tensor, offset }) => ({
          tensorName: tensor.name,
          tensor: view(target, offset, tensor),
        })),
        ...(where === 'device' ? rig.copying : {}),
        ...(stagingBytes === undefined ? {} : { stagingBytes }),
        onProgress: (step) => {
          expect(step.totalBytes).toBe(checkpoint.totalBytes)
          progress.push(step.loadedBytes)
        },
      })
      expect(loadedBytes).toBe(checkpoint.totalBytes)
      expect(totalBytes).toBe(checkpoint.totalBytes)
      expect(progress[0]).toBe(0)
      expect(progress.at(-1)).toBe(totalBytes)
      expect(progress).toEqual([...progress].sort((a, b) => a - b))
      expect(progress.length).toBe(1 + Math.ceil(totalBytes / Math.floor((stagingBytes ?? 2 ** 24) / 4)))

      const after = rig.device.counters()
      const copied = after.hostToDeviceBytes - before.hostToDeviceBytes
      expect(copied).toBe(where === 'device' ? totalBytes : 0)

      const expected = Buffer.alloc(end, untouched)
      let begin = 0
      const data = patternBytes(totalBytes)
      for (const tensor of small) {
        const place = places.find((candidate) => candidate.tensor === tensor) as { offset: number }
        data.copy(expected, place.offset, begin, begin + tensorBytes(tensor))
        begin += tensorBytes(tensor)
      }
      expect(Buffer.compare(await rig.contents(target), expected)).toBe(0)
    },
  )

  it('scatters to any strides without touching the gaps', async () => {
    const dimension = fc.record({
      length: fc.integer({ min: 1, max: 4 }),
      padding: fc.integer({ min: 0, max: 2 }),
      key: fc.nat(),
    })
    const layout = fc.record({
      dtype: fc.constantFrom('U8', 'BF16', 'F32', 'F64'),
      dimensions: fc.array(dimension, { maxLength: 4 }),
      offset: fc.integer({ min: 0, max: 9 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(layout, { minLength: 1, maxLength: 3 }), async (layouts) => {
        const tensors = layouts.map(({ dtype, dimensions }, i) => ({
          name: `t${i}`,
          dtype,
          shape: dimensions.map(({ length }) => length),
        }))
        const file = safetensorsFile(tensors)
        const checkpoint = await openFile(rig.scratch, file)
        const made: { target: Buffers; expected: Buffer; tensor: TensorView }[] = []
        for (const [i, tensor] of tensors.entries()) {
          const { dimensions, offset } = layouts[i] as (typeof layouts)[number]
          // Dimensions in a random order in memory, each with room to spare after it.
          const stride = new Array<number>(dimensions.length)
          let step = 1
          const inMemory = dimensions.map((each, axis) => ({ ...each, axis })).sort((a, b) => a.key - b.key)
          for (const { length, padding, axis } of inMemory) {
            stride[axis] = step
            step *= length + padding
          }
          const width = dtypeBytes[coreDTypes[tensor.dtype] as DType]
          const target = await rig.buffer(where, offset + step * width + 2)
          const place = view(target, offset, tensor, stride)
          const expected = Buffer.alloc(target.bytes, untouched)
          const start = checkpoint.tensors.get(tensor.name)?.offset as number
          for (let index = 0; index * width < tensorBytes(tensor); index++) {
            let rest = index
            let to = offset
            for (let axis = stride.length - 1; axis >= 0; axis--) {
              const length = tensor.shape[axis] as number
              to += (rest % length) * (stride[axis] as number) * width
              rest = Math.floor(rest / length)
            }
            file.copy(expected, to, start + index * width, start + (index + 1) * width)
          }
          made.push({ target, expected, tensor: place })
        }
        const targets = made.map(({ tensor }, i) => ({ tensorName: `t${i}`, tensor }))
        await loadParameters({ checkpoint, targets, ...rig.copying, stagingBytes: 1024 })
        for (const { target, expected } of made) expect(Buffer.compare(await rig.contents(target), expected)).toBe(0)
        await checkpoint.dispose()
        await rig.disposeOwned()
      }),
      { numRuns: 60 },
    )
  })

  it('transposes a matrix of more runs than one piece may have', async () => {
    const tensor = { name: 'w', dtype: 'BF16', shape: [100, 90] }
    const file = safetensorsFile([tensor])
    const checkpoint = await rig.open(file)
    const target = await rig.buffer(where, 18_000)
    const steps: number[] = []
    await loadParameters({
      checkpoint,
      targets: [{ tensorName: 'w', tensor: view(target, 0, tensor, [1, 100]) }],
      ...rig.copying,
      onProgress: ({ loadedBytes }) => steps.push(loadedBytes),
    })
    expect(steps.length).toBe(1 + Math.ceil(9000 / 4096))
    const got = await rig.contents(target)
    const data = file.subarray(file.length - 18_000)
    for (let row = 0; row < 100; row++) {
      for (let column = 0; column < 90; column++) {
        expect(got.readUInt16LE((column * 100 + row) * 2)).toBe(data.readUInt16LE((row * 90 + column) * 2))
      }
    }
  })
})

describe('a sharded checkpoint', () => {
  it('goes to host and device places at once, shard by shard', async () => {
    const first = [small[0], small[1]] as FixtureTensor[]
    const second = [small[4], small[5]] as FixtureTensor[]
    const directory = rig.scratch.directory({
      'model.safetensors.index.json': indexJson({ q: 'one', norm: 'one', k: 'two', v: 'two' }),
      one: safetensorsFile(first),
      two: safetensorsFile(second),
    })
    await using checkpoint = await openCheckpoint(directory)
    const places = new Map<string, Buffers>()
    for (const [i, tensor] of [...second, ...first].entries()) {
      places.set(tensor.name, await rig.buffer(i % 2 === 0 ? 'device' : 'host', tensorBytes(tensor)))
    }
    const targets = [...second, ...first].map((tensor) => ({
      tensorName: tensor.name,
      tensor: view(places.get(tensor.name) as Buffers, 0, tensor),
    }))
    const before = rig.device.counters().hostToDeviceBytes
    await loadParameters({ checkpoint, targets, ...rig.copying, stagingBytes: 2000 })
    const onDevice = targets.filter(({ tensor }) => tensor.buffer.kind === 'device-buffer')
    expect(onDevice.length).toBe(2)
    expect(rig.device.counters().hostToDeviceBytes - before).toBe(
      onDevice.reduce((sum, { tensor }) => sum + extentBytes(tensor), 0),
    )
    for (const [name, place] of places) {
      expect(Buffer.compare(await rig.contents(place), Buffer.from(await checkpoint.read(name)))).toBe(0)
    }
  })

  it('may be loaded in part, the same tensor to two places, or not at all', async () => {
    const checkpoint = await rig.open(safetensorsFile(small))
    const bytes = tensorBytes(small[4] as FixtureTensor)
    const target = await rig.buffer('device', 2 * bytes)
    const targets = [0, bytes].map((offset) => ({
      tensorName: 'k',
      tensor: view(target, offset, small[4] as FixtureTensor),
    }))
    expect(await loadParameters({ checkpoint, targets, ...rig.copying })).toEqual({
      loadedBytes: 2 * bytes,
      totalBytes: 2 * bytes,
    })
    const k = Buffer.from(await checkpoint.read('k'))
    expect(Buffer.compare(await rig.contents(target), Buffer.concat([k, k]))).toBe(0)
    expect(await loadParameters({ checkpoint, targets: [] })).toEqual({ loadedBytes: 0, totalBytes: 0 })
  })
})

describe('staging memory', () => {
  const big = { name: 'w', dtype: 'U8', shape: [4 * 2 ** 20] }

  it.each(['pageable', 'pinned'] as const)(
    'is %s when the arena gives that, no more than asked for, and released',
    async (storage) => {
      const checkpoint = await rig.open(safetensorsFile([big]))
      const target = await rig.buffer('device', 4 * 2 ** 20)
      const counter = storage === 'pinned' ? 'pinnedBytes' : 'pageableBytes'
      const arrayBuffers = process.memoryUsage().arrayBuffers
      let peakBytes = 0
      let peakArrayBuffers = 0
      await loadParameters({
        checkpoint,
        targets: [{ tensorName: 'w', tensor: view(target, 0, big) }],
        stream: rig.stream,
        host: rig.arena(storage),
        stagingBytes: 256 * 1024,
        onProgress: () => {
          peakBytes = Math.max(peakBytes, rig.device.counters()[counter])
          peakArrayBuffers = Math.max(peakArrayBuffers, process.memoryUsage().arrayBuffers - arrayBuffers)
        },
      })
      expect(peakBytes).toBe(256 * 1024)
      expect(peakArrayBuffers).toBeLessThan(2 ** 20)
      expect(rig.device.counters()[counter]).toBe(0)
      expect(Buffer.compare(await rig.contents(target), patternBytes(4 * 2 ** 20))).toBe(0)
    },
  )

  it('is no larger than what there is to load', async () => {
    const checkpoint = await rig.open(safetensorsFile([{ name: 'w', dtype: 'U8', shape: [100] }]))
    const target = await rig.buffer('device', 100)
    const targets = [{ tensorName: 'w', tensor: view(target, 0, { name: 'w', dtype: 'U8', shape: [100] }) }]
    const staged: number[] = []
    const onProgress = (): void => void staged.push(rig.device.counters().pageableBytes)
    await loadParameters({ checkpoint, targets, ...rig.copying, onProgress })
    expect(staged).toEqual([0, 100])
  })

  it('is not used for host places', async () => {
    const checkpoint = await rig.open(safetensorsFile([big]))
    const target = await rig.buffer('host', 4 * 2 ** 20)
    const staged: number[] = []
    const onProgress = (): void => void staged.push(rig.device.counters().pageableBytes)
    await loadParameters({ checkpoint, targets: [{ tensorName: 'w', tensor: view(target, 0, big) }], onProgress })
    expect(new Set(staged)).toEqual(new Set([4 * 2 ** 20]))
  })
})

it('reads a file of many tiny tensors in few pieces', async () => {
  const tensors = Array.from({ length: 3000 }, (_, i) => ({ name: `t${i}`, dtype: 'U8', shape: [(i % 5) + 1] }))
  const checkpoint = await rig.open(safetensorsFile(tensors))
  const target = await rig.buffer('device', checkpoint.totalBytes)
  let end = 0
  const targets = tensors.map((tensor) => {
    end += tensorBytes(tensor)
    return { tensorName: tensor.name, tensor: view(target, end - tensorBytes(tensor), tensor) }
  })
  let steps = 0
  const onProgress = (): void => void steps++
  await loadParameters({ checkpoint, targets, ...rig.copying, onProgress })
  expect(steps).toBe(2)
  expect(Buffer.compare(await rig.contents(target), patternBytes(checkpoint.totalBytes))).toBe(0)
})
