// Lists of tensors for the gather/scatter kernel, and what must come out, computed byte by byte. For any device.
import { type DType, dtypeBytes, extentBytes, type TensorView } from '@spillway/core'
import type { NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import { loadAddon } from '../src/native-ring.js'
import { gatherScatter, type TensorMove } from '../src/tensor-moves.js'

/** Without a buffer: `from` lies in the source, `to` in the target. */
interface Layout {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly from: { readonly offset: number; readonly stride: readonly number[] }
  readonly to: { readonly offset: number; readonly stride: readonly number[] }
}

export interface MoveCase {
  readonly name: string
  readonly layouts: readonly Layout[]
  /** How many it takes at least: long runs may be cut into three, which are moves of their own. */
  readonly launches: number
}

const movesPerLaunch = 23
const dtypes: readonly DType[] = ['u8', 'bf16', 'f32', 'f64', 'f8e4m3', 'bool', 'i32']

/** Moves a case on a device of the caller's: every byte of the target is compared, gaps included, and of the source. */
export async function runCase(device: NativeDevice, { layouts, launches }: MoveCase, seed: number): Promise<void> {
  const end = (side: 'from' | 'to'): number =>
    layouts.reduce((most, layout) => {
      return Math.max(most, layout[side].offset + extentBytes({ ...layout, stride: layout[side].stride }))
    }, 1)
  const source = noise(end('from') + 64, seed)
  const target = noise(end('to') + 64, seed + 1)
  const stream = device.createStream()
  const host = await device.allocateHost(source.length + target.length, { storage: 'pinned' })
  const from = device.allocate(source.length, { tag: 'source', stream })
  const to = device.allocate(target.length, { tag: 'target', stream })
  try {
    host.write(source)
    host.write(target, source.length)
    stream.copy(from, host, { bytes: source.length })
    stream.copy(to, host, { fromOffset: source.length })
    const launched = device.counters().launches
    const view = (layout: Layout, side: 'from' | 'to'): TensorView => {
      const { dtype, shape } = layout
      return { buffer: side === 'from' ? from : to, dtype, shape, ...layout[side] }
    }
    const moves = layouts.map((layout): TensorMove => ({ from: view(layout, 'from'), to: view(layout, 'to') }))
    gatherScatter(loadAddon(), stream, moves)
    stream.copy(host, from, { bytes: source.length })
    stream.copy(host, to, { toOffset: source.length })
    await stream.synchronize()
    for (const layout of layouts) moveInPlace(layout, source, target)
    expectBytes(host.read(0, source.length), source, 'the source')
    expectBytes(host.read(source.length), target, 'the target')
    const taken = device.counters().launches - launched
    expect(taken).toBeGreaterThanOrEqual(launches)
    expect(taken).toBeLessThanOrEqual(3 * launches)
  } finally {
    await Promise.all([from.dispose(), to.dispose(), host.dispose()])
    await stream.dispose()
  }
}

function expectBytes(got: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(got, expected) === 0) return
  const at = got.findIndex((byte, i) => byte !== expected[i])
  expect.fail(`${what}, byte ${at} of ${expected.length}: got ${got[at]}, expected ${expected[at]}`)
}

/** What the kernel is held to: element by element, in any order. */
function moveInPlace({ dtype, shape, from, to }: Layout, source: Uint8Array, target: Uint8Array): void {
  const width = dtypeBytes[dtype]
  const visit = (dimension: number, fromElement: number, toElement: number): void => {
    if (dimension === shape.length) {
      const at = from.offset + fromElement * width
      target.set(source.subarray(at, at + width), to.offset + toElement * width)
      return
    }
    for (let i = 0; i < shape[dimension]!; i++) {
      visit(dimension + 1, fromElement + i * from.stride[dimension]!, toElement + i * to.stride[dimension]!)
    }
  }
  visit(0, 0, 0)
}

/** Layouts that each take a path of their own through the kernel. */
export const chosenCases: readonly MoveCase[] = [
  one('nothing', []),
  one('a scalar', [layout('f64', [], [], [])]),
  one('a tensor without elements', [layout('f32', [4, 0, 3], [0, 3, 1], [0, 3, 1])], 0),
  one('a long run', [layout('bf16', [200_001], [1], [1])]),
  ...[0, 1, 2, 3, 4, 7, 8, 15].flatMap((fromOffset) =>
    [0, 1, 6, 9].map((toOffset) => {
      const at = { fromOffset, toOffset }
      return one(`a run from byte ${fromOffset} to byte ${toOffset}`, [layout('u8', [9001], [1], [1], at)])
    }),
  ),
  one('rows, closer together', [layout('f32', [70, 130], [141, 1], [130, 1])]),
  one('rows, further apart, and not aligned', [layout('u8', [33, 1025], [1025, 1], [1031, 1], { toOffset: 3 })]),
  one('transposed', [layout('bf16', [129, 65], [65, 1], [1, 129])]),
  one('transposed to apart', [layout('i32', [64, 33], [1, 70], [40, 1])]),
  one('every second element', [layout('f8e4m3', [4000], [2], [1]), layout('f8e4m3', [4000], [1], [2], second(4000))]),
  one('one element, repeated', [layout('f32', [300, 7], [0, 1], [7, 1])]),
  one('repeated on both sides', [layout('bf16', [9, 3], [0, 1], [0, 1])]),
  one('windows that overlap, alike on both sides', [layout('f32', [500, 8], [1, 1], [1, 1])]),
  one('elements that share places, alike on both sides', [layout('i16', [3, 4], [2, 3], [2, 3])]),
  one('four dimensions', [layout('f64', [3, 4, 5, 6], [400, 90, 15, 2], [1, 3, 15, 80])]),
  one('six dimensions', [
    layout('u8', [2, 3, 2, 3, 2, 5], [1000, 300, 130, 40, 17, 3], [1000, 300, 130, 40, 17, 3], { toOffset: 5 }),
  ]),
  one('ten dimensions of which two are left', [
    layout('bf16', [2, 3, 1, 2, 2, 1, 2, 2, 1, 3], rowsOf(400), rowsOf(170)),
  ]),
  one('columns of one matrix, put beside one another again', [
    layout('bf16', [50, 3], [8, 1], [8, 1], { toOffset: 10, fromOffset: 0 }),
    layout('bf16', [50, 5], [8, 1], [8, 1], { toOffset: 0, fromOffset: 6 }),
  ]),
]

/** Six rows of 48 elements, `row` apart. */
function rowsOf(row: number): number[] {
  return [3 * row, row, 5, 24, 12, 7, 6, 3, 9, 1]
}

function second(elements: number) {
  return { fromOffset: 2 * elements, toOffset: elements + 16 }
}

function one(name: string, layouts: readonly Layout[], launches = layouts.length === 0 ? 0 : 1): MoveCase {
  return { name, layouts, launches }
}

function layout(
  dtype: DType,
  shape: readonly number[],
  fromStride: readonly number[],
  toStride: readonly number[],
  { fromOffset = 0, toOffset = 0 } = {},
): Layout {
  return {
    dtype,
    shape,
    from: { offset: fromOffset, stride: fromStride },
    to: { offset: toOffset, stride: toStride },
  }
}

/** Tensors of any dtype, shape, order of strides and offset, some of them empty; more than one launch holds, at times. */
export function randomCase(seed: number): MoveCase {
  const below = generator(seed)
  const count = 1 + below(seed % 4 === 0 ? 60 : 12)
  const layouts: Layout[] = []
  let free = 0
  for (let i = 0; i < count; i++) {
    const dtype = dtypes[below(dtypes.length)]!
    const rank = below(6)
    const long = below(2 * rank + 1)
    const shape = Array.from({ length: rank }, (_, d) => {
      return below(40) === 0 ? 0 : 1 + below(d === long ? 300 : 5)
    })
    const stride = strides(shape, below)
    const alike = below(3) === 0
    const toOffset = free + below(3) * below(20)
    const to = { offset: toOffset, stride }
    free = toOffset + extentBytes({ dtype, shape, stride })
    const fromStride = alike ? stride : below(8) === 0 ? shape.map(() => below(4)) : strides(shape, below)
    layouts.push({ dtype, shape, to, from: { offset: below(300), stride: fromStride } })
  }
  const moves = layouts.filter(({ shape }) => !shape.includes(0)).length
  return { name: `case ${seed}`, layouts, launches: Math.ceil(moves / movesPerLaunch) }
}

/** Dimensions in any order, with gaps between rows at times: no two elements share a place. */
function strides(shape: readonly number[], below: (limit: number) => number): number[] {
  const order = [...shape.keys()]
  for (let i = order.length - 1; i > 0; i--) {
    const j = below(i + 1)
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  const stride = shape.map(() => 0)
  let step = below(4) === 0 ? 1 + below(3) : 1
  for (const d of below(2) === 0 ? [...shape.keys()].reverse() : order) {
    stride[d] = step
    step = step * Math.max(shape[d]!, 1) + (below(3) === 0 ? below(5) : 0)
  }
  return stride
}

/** Whole numbers below a limit, the same sequence for the same seed (xorshift32, Marsaglia 2003). */
function generator(seed: number): (limit: number) => number {
  let state = (seed + 1) * 0x9e3779b1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
}

function noise(bytes: number, seed: number): Uint8Array {
  const below = generator(seed + 1000)
  return Uint8Array.from({ length: bytes }, () => below(256))
}
