import {
  contiguousStride,
  type DeviceBuffer,
  type DType,
  dtypeBytes,
  elementCount,
  extentBytes,
  type KernelOperation,
  type KernelPlan,
  type ModuleSpec,
  type TensorView,
} from '@spillway/core'
import { ensure, ensureAtLeast, ensureCode, ensureSame, fail } from '../assert.js'
import { Engine } from '../engine.js'
import { draws, model, parameter } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'
import { decode, encode, epsilon, type FloatDType, floatDTypes } from './numbers.js'

const maxRows = 5
const rowCounts = [1, 3, maxRows]

/** A backend's kernels, held against the same product in double precision; for one without, that there is none. */
export function kernelTests(kernels: boolean): readonly RigTest[] {
  return kernels ? present : absent
}

const absent: readonly RigTest[] = [
  {
    name: 'planKernel is null for every weight, since supports.kernels is false',
    level: 1,
    async run(rig, subject) {
      const engine = await openKernels(rig, subject)
      for (const { operation, full } of operations(engine)) {
        ensureSame(engine.offloader.planKernel(operation), null, `planKernel for ${full}`)
      }
      await engine.finish()
    },
  },
]

const present: readonly RigTest[] = [
  {
    name: 'a kernel computes what the engine would, for every number of rows, and writes no more',
    level: 1,
    async run(rig, subject) {
      const engine = await openKernels(rig, subject)
      let planned = 0
      for (const wanted of operations(engine)) {
        const plan = engine.offloader.planKernel(wanted.operation)
        if (plan === null) continue
        planned++
        for (const rows of rowCounts) await runKernel(rig, engine, wanted, plan, rows)
      }
      ensureAtLeast(planned, 1, 'kernels planned: supports.kernels is true, and planKernel is null for every weight')
      await engine.finish()
    },
  },
  {
    name: 'a kernel in a captured forward reads the input of each replay',
    level: 1,
    needs: 'graphs',
    async run(rig, subject) {
      if (!rig.device.capabilities.graphs) return
      const engine = await openKernels(rig, subject)
      engine.allowOtherCopies()
      for (const wanted of operations(engine)) {
        const plan = engine.offloader.planKernel(wanted.operation)
        if (plan !== null) await replayKernel(rig, engine, wanted, plan)
      }
      await engine.finish()
    },
  },
  {
    name: 'operations that are wrong are refused',
    level: 1,
    async run(rig, subject) {
      const engine = await openKernels(rig, subject)
      const [{ operation }] = operations(engine) as [Wanted]
      for (const wrong of [{ maxRows: 0 }, { maxRows: Number.NaN }, { kind: 'attention' }]) {
        await ensureCode('SPILLWAY_INVALID_ARGUMENT', `planKernel with ${JSON.stringify(wrong)}`, () =>
          engine.offloader.planKernel({ ...operation, ...wrong } as KernelOperation),
        )
      }
      await engine.finish()
    },
  },
]

interface Wanted {
  readonly operation: KernelOperation
  readonly module: string
  /** For messages. */
  readonly full: string
}

function kernelModel(layers: number): ModuleSpec[] {
  const specs = model(layers, (layer) => floatDTypes.map((dtype) => parameter(dtype, [12, 40 + layer], { dtype })))
  const tables = floatDTypes.map((dtype) => parameter(`table.${dtype}`, [20, 24], { dtype, use: 'gather' }))
  const embed = specs[0]!
  return [{ ...embed, parameters: [...embed.parameters, ...tables] }, ...specs.slice(1)]
}

/** With numbers for weights: what other tests load is NaN here and there. */
async function openKernels(rig: Rig, { configured, layers }: Subject): Promise<Engine> {
  const engine = await Engine.load(rig, { backends: [configured], specs: kernelModel(layers) })
  const entries: [TensorView, Uint8Array][] = []
  for (const [module, { spec, parameters }] of engine.offloader.modules) {
    for (const { name, tiedTo } of spec.parameters) {
      const { tensor } = parameters.get(name)!
      if (tiedTo !== undefined) continue
      const bytes = encode(tensor.dtype as FloatDType, randoms(entries.length, elementCount(tensor.shape)))
      engine.contents.set(`${module}.${name}`, bytes)
      entries.push([tensor, bytes])
    }
  }
  await rig.write(entries)
  engine.followTies()
  await engine.ready()
  return engine
}

/** Every weight of the first and the last layer and of the embedding, in every way an engine may ask. */
function operations(engine: Engine): Wanted[] {
  const wanted: Wanted[] = []
  const layers = engine.order.filter((name) => name.startsWith('layers.'))
  for (const module of ['embed', layers[0]!, layers.at(-1)!]) {
    for (const [name, weight] of engine.offloader.modules.get(module)!.parameters) {
      const kind = weight.use === 'gather' ? 'gather' : 'linear'
      const dtype = weight.dtype as FloatDType
      const inputs: readonly DType[] = kind === 'gather' ? ['i32', 'i64'] : [...new Set<DType>(['f32', dtype])]
      for (const input of inputs) {
        for (const output of new Set<DType>(['f32', dtype])) {
          const operation = { kind, weight, maxRows, input, output } as const
          wanted.push({ operation, module, full: `${kind} with ${module}.${name} (${dtype}), ${input} to ${output}` })
        }
      }
    }
  }
  return wanted
}

interface Operands {
  readonly x: TensorView
  readonly y: TensorView
  readonly scratch: DeviceBuffer | undefined
  dispose(): Promise<void>
}

async function runKernel(rig: Rig, engine: Engine, wanted: Wanted, plan: KernelPlan, rows: number): Promise<void> {
  const what = `kernel ${plan.name}, ${wanted.full}, ${rows} rows`
  const operands = operandsFor(rig, wanted, plan, rows)
  const launches = rig.device.counters().launches
  const input = await fillInput(rig, wanted, operands, rows)
  engine.offloader.forward(rig.compute, ({ before, after }) => {
    before(wanted.module)
    plan.enqueue(rig.compute, ioOf(operands, rows))
    after(wanted.module)
  })
  await rig.compute.synchronize()
  ensureAtLeast(rig.device.counters().launches, launches + 1, `launches with ${what}`)
  await checkOutput(rig, engine, wanted, operands, rows, input, what)
  await operands.dispose()
}

async function replayKernel(rig: Rig, engine: Engine, wanted: Wanted, plan: KernelPlan): Promise<void> {
  const operands = operandsFor(rig, wanted, plan, maxRows)
  await engine.settledStats()
  rig.compute.beginCapture()
  engine.offloader.forward(rig.compute, ({ before, after }) => {
    before(wanted.module)
    plan.enqueue(rig.compute, ioOf(operands, maxRows))
    after(wanted.module)
  })
  const graph = rig.compute.endCapture()
  for (let replay = 1; replay <= 2; replay++) {
    const input = await fillInput(rig, wanted, operands, maxRows, replay)
    rig.compute.launch(graph)
    await rig.compute.synchronize()
    const what = `kernel ${plan.name}, ${wanted.full}, replay ${replay}`
    await checkOutput(rig, engine, wanted, operands, maxRows, input, what)
  }
  await Promise.all([graph.dispose(), operands.dispose()])
}

function ioOf({ x, y, scratch }: Operands, rows: number): Parameters<KernelPlan['enqueue']>[1] {
  return scratch === undefined ? { x, y, rows } : { x, y, rows, scratch }
}

/** Of one row more than is used, so that writing too much shows. */
function operandsFor(rig: Rig, { operation }: Wanted, plan: KernelPlan, rows: number): Operands {
  const { kind, weight, input, output } = operation
  const [outputs, inputs] = weight.shape as [number, number]
  const tensor = (dtype: DType, shape: readonly number[]): TensorView => {
    const bytes = (elementCount(shape) / rows) * (rows + 1) * dtypeBytes[dtype]
    const buffer = rig.device.allocate(bytes, { tag: 'workspace', stream: rig.compute })
    return { buffer, offset: 0, dtype, shape, stride: contiguousStride(shape) }
  }
  const x = tensor(input, kind === 'gather' ? [rows] : [rows, inputs])
  const y = tensor(output, [rows, kind === 'gather' ? inputs : outputs])
  const { scratchBytes } = plan
  const scratch =
    scratchBytes === 0 ? undefined : rig.device.allocate(scratchBytes, { tag: 'workspace', stream: rig.compute })
  return {
    x,
    y,
    scratch,
    async dispose() {
      await Promise.all([x.buffer.dispose(), y.buffer.dispose(), scratch?.dispose()])
    },
  }
}

const poison = 0x5b

/** Writes the input; returns it as the kernel sees it. Everything else is poison. */
async function fillInput(
  rig: Rig,
  { operation: { kind, weight, input } }: Wanted,
  { x, y }: Operands,
  rows: number,
  round = 0,
): Promise<ArrayLike<number>> {
  const [vocabulary, inputs] = weight.shape as [number, number]
  rig.compute.fill(x.buffer, 0xff)
  rig.compute.fill(y.buffer, poison)
  const draw = draws(rows + round)
  const values =
    kind === 'gather' ? Array.from({ length: rows }, () => draw(vocabulary)) : randoms(rows + round, rows * inputs)
  const bytes = encode(input as FloatDType, values)
  await rig.write([[x, bytes]])
  return kind === 'gather' ? values : decode(input as FloatDType, bytes)
}

async function checkOutput(
  rig: Rig,
  engine: Engine,
  { operation, module }: Wanted,
  { y }: Operands,
  rows: number,
  x: ArrayLike<number>,
  what: string,
): Promise<void> {
  const { kind, weight } = operation
  const [outputs, inputs] = weight.shape as [number, number]
  const output = operation.output as FloatDType
  const w = decode(weight.dtype as FloatDType, engine.contents.get(`${module}.${weight.name}`)!)
  const all = { ...y, dtype: 'u8', shape: [y.buffer.bytes], stride: [1] } as const
  const bytes = (await rig.read([all]))[0]!
  const written = extentBytes(y)
  const beyond = bytes.subarray(written).findIndex((byte) => byte !== poison)
  if (beyond >= 0) fail(`${what}: it wrote byte ${written + beyond}, behind the ${rows} rows of y`)
  const got = decode(output, bytes.slice(0, written))
  const width = kind === 'gather' ? inputs : outputs
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++) {
      let exact = 0
      let size = 0
      if (kind === 'gather') exact = w[x[row]! * inputs + column]!
      else {
        for (let i = 0; i < inputs; i++) {
          const product = x[row * inputs + i]! * w[column * inputs + i]!
          exact += product
          size += Math.abs(product)
        }
      }
      // Sums in single precision, in whatever order, then one rounding to the output.
      const most = (inputs + 2) * epsilon.f32 * size + epsilon[output] * Math.abs(exact)
      const value = got[row * width + column]!
      ensure(
        Math.abs(value - exact) <= most,
        `${what}: y[${row}, ${column}] is ${value}, exact is ${exact}, allowed is a difference of ${most}`,
      )
    }
  }
}

function randoms(seed: number, count: number): Float64Array {
  const draw = draws(seed * 977 + 1)
  return Float64Array.from({ length: count }, () => draw(2 ** 20) / 2 ** 19 - 1)
}
