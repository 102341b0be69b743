import { contiguousStride, extentBytes, type Replacement, type TensorView } from '@spillway/core'
import { ensure, ensureAtLeast, ensureBytes, ensureCode, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { elementBytes, model, oddModel, pattern } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'

/** A tensor with bytes in it, to put in place of a parameter. The test disposes its buffer. */
export async function replacementTensor(
  rig: Rig,
  where: 'host' | 'device',
  seed: number,
  layout: Omit<TensorView, 'buffer' | 'offset'>,
): Promise<{ tensor: TensorView; bytes: Uint8Array; dispose(): Promise<void> }> {
  const bytes = pattern(seed, extentBytes(layout))
  const buffer =
    where === 'host'
      ? await rig.staging(bytes.length + 256)
      : rig.device.allocate(bytes.length + 256, { tag: 'post-processing', stream: rig.compute })
  const tensor = { ...layout, buffer, offset: 256 }
  await rig.write([[tensor, bytes]])
  return { tensor, bytes, dispose: () => buffer.dispose() }
}

/** Post-load processing; with `gathers`, by a kernel of the backend. */
export function replacementTests(gathers: boolean): readonly RigTest[] {
  return gathers ? [...everyReplacement, gathered] : everyReplacement
}

/** Launched once for a layer at the least, for tensors that no copy of whole ranges would do for. */
const gathered: RigTest = {
  name: 'replaceParameters: tensors in device memory, in columns of one matrix, are gathered by the backend’s kernel',
  level: 1,
  async run(rig, subject) {
    const engine = await load(rig, subject)
    const [rows, columns, width] = [9, 12, 5]
    for (const [i, { name: module }] of engine.specs.entries()) {
      if (!module.startsWith('layers.')) continue
      const whole = { dtype: 'f32', shape: [rows, columns], stride: [columns, 1] } as const
      const matrix = await replacementTensor(rig, 'device', i, whole)
      const half = (first: number, length: number): TensorView => {
        return { ...matrix.tensor, offset: matrix.tensor.offset + 4 * first, shape: [rows, length] }
      }
      const [left, right] = [half(0, width), half(width, columns - width)]
      const before = rig.device.counters().launches
      await engine.offloader.replaceParameters(
        module,
        new Map<string, Replacement | null>([
          ['attention.weight', { tensor: left, use: 'linear' }],
          ['mlp.weight', { tensor: right, use: 'linear' }],
        ]),
      )
      const launches = rig.device.counters().launches - before
      ensureAtLeast(launches, 1, `kernels launched to replace the parameters of ${module}, with gathers: true`)
      await matrix.dispose()
      engine.contents.set(`${module}.attention.weight`, matrix.bytes.slice(0, extentBytes(left)))
      engine.contents.set(`${module}.mlp.weight`, matrix.bytes.slice(4 * width))
      await checkParameters(rig, engine, module)
    }
    await engine.ready()
    for (const round of [1, 2]) await engine.forward({ what: `forward ${round} after gathering` })
    await engine.finish()
  },
}

const everyReplacement: readonly RigTest[] = [
  {
    name: 'replaceParameters: other bytes and another layout, a new name, a deletion, for every module',
    level: 1,
    async run(rig, subject) {
      const engine = await load(rig, subject)
      for (const [i, { name: module }] of engine.specs.entries()) {
        if (!module.startsWith('layers.')) continue
        const shape = [3 + i, 7]
        const layout = { dtype: 'f16', shape, stride: contiguousStride(shape) } as const
        const odd = { dtype: 'f64', shape: [4, 3], stride: [9, 2] } as const
        const other = await replacementTensor(rig, 'host', 100 + i, layout)
        const added = await replacementTensor(rig, 'device', 200 + i, odd)
        const placed = await engine.offloader.replaceParameters(
          module,
          new Map<string, Replacement | null>([
            ['attention.weight', { tensor: other.tensor, use: 'linear' }],
            ['mlp.scale', { tensor: added.tensor, use: 'other' }],
            ['mlp.weight', null],
          ]),
        )
        // The views were borrowed until the promise settled, no longer.
        await Promise.all([other.dispose(), added.dispose()])
        ensureSame([...placed.parameters.keys()].sort(), ['attention.weight', 'mlp.scale'], `parameters of ${module}`)
        engine.contents.set(`${module}.attention.weight`, other.bytes)
        engine.contents.set(`${module}.mlp.scale`, added.bytes)
        engine.contents.delete(`${module}.mlp.weight`)
        const stats = engine.offloader.stats()
        ensureSame(stats.offloadedBytes + stats.residentBytes, engine.parameterBytes, 'bytes after a replacement')
      }
      await engine.ready()
      for (const round of [1, 2]) await engine.forward({ what: `forward ${round} after replacements` })
      await engine.finish()
    },
  },
  {
    name: 'replaceParameters: two parameters fused into one, from where they lie',
    level: 1,
    async run(rig, { configured, layers }) {
      const engine = await Engine.load(rig, { backends: [configured], specs: model(layers) })
      for (const { name: module } of engine.specs.filter(({ role }) => role === 'layer')) {
        const { parameters } = engine.offloader.modules.get(module)!
        const [one, two] = ['attention.weight', 'mlp.weight'].map((name) => parameters.get(name)!.tensor)
        const bytes = extentBytes(one!) + extentBytes(two!)
        const fused = rig.device.allocate(bytes, { tag: 'post-processing', stream: rig.compute })
        rig.compute.copy(fused, one!.buffer, { fromOffset: one!.offset, bytes: extentBytes(one!) })
        rig.compute.copy(fused, two!.buffer, {
          toOffset: extentBytes(one!),
          fromOffset: two!.offset,
          bytes: extentBytes(two!),
        })
        await engine.offloader.replaceParameters(
          module,
          new Map<string, Replacement | null>([
            ['attention.weight', null],
            ['mlp.weight', null],
            [
              'fused',
              { tensor: { buffer: fused, offset: 0, dtype: 'u8', shape: [bytes], stride: [1] }, use: 'linear' },
            ],
          ]),
        )
        await fused.dispose()
        const joined = ['attention.weight', 'mlp.weight'].map((name) => engine.contents.get(`${module}.${name}`)!)
        engine.contents.set(`${module}.fused`, Uint8Array.from([...joined[0]!, ...joined[1]!]))
      }
      await engine.ready()
      for (const round of [1, 2]) await engine.forward({ what: `forward ${round} after fusing` })
      await engine.finish()
    },
  },
  {
    name: 'replaceParameters: what is not replaced keeps its bytes, odd strides too; a tie follows',
    level: 1,
    async run(rig, { configured, layers }) {
      const engine = await Engine.load(rig, { backends: [configured], specs: oddModel(layers) })
      for (const { name } of engine.specs.filter(({ role }) => role === 'layer')) {
        const next = new Map<string, Replacement | null>([
          ['any.u8', null],
          ['alias', { tiedTo: `${name}.wide`, use: 'other' }],
        ])
        await engine.offloader.replaceParameters(name, next)
        engine.contents.delete(`${name}.any.u8`)
        await checkParameters(rig, engine, name)
      }
      const table = { dtype: 'bf16', shape: [32, 3], stride: [3, 1] } as const
      const other = await replacementTensor(rig, 'host', 7, table)
      await engine.offloader.replaceParameters('embed', new Map([['weight', { tensor: other.tensor, use: 'gather' }]]))
      await other.dispose()
      engine.contents.set('embed.weight', other.bytes)
      engine.followTies()
      await engine.ready()
      for (const round of [1, 2]) await engine.forward({ what: `forward ${round}` })
      ensureSame(
        [...(engine.offloader.modules.get('head')!.parameters.get('weight')!.shape ?? [])],
        [32, 3],
        'the shape of the head, which is tied to the embedding',
      )
      await engine.finish()
    },
  },
  {
    name: 'replaceParameters: nothing is left of what was replaced',
    level: 1,
    async run(rig, subject) {
      const engine = await load(rig, subject)
      const before = rig.held()
      const layer = 'layers.0'
      for (let round = 0; round < 5; round++) {
        const { dtype, shape, stride } = engine.offloader.modules.get(layer)!.parameters.get('mlp.weight')!
        const other = await replacementTensor(rig, 'host', round, { dtype, shape, stride })
        await engine.offloader.replaceParameters(
          layer,
          new Map([['mlp.weight', { tensor: other.tensor, use: 'linear' }]]),
        )
        await other.dispose()
        engine.contents.set(`${layer}.mlp.weight`, other.bytes)
        await rig.ensureHeld(before, `handles and bytes after ${round + 1} replacements of one size`)
      }
      await ensureCode('SPILLWAY_INVALID_SPEC', 'deleting a parameter that is not there', () =>
        engine.offloader.replaceParameters(layer, new Map([['no.such', null]])),
      )
      await engine.ready()
      await engine.forward()
      await ensureCode('SPILLWAY_INVALID_STATE', 'replaceParameters after postInit', () =>
        engine.offloader.replaceParameters(layer, new Map([['mlp.weight', null]])),
      )
      await engine.forward({ what: 'a forward after a refused replacement' })
      await engine.finish()
    },
  },
]

function load(rig: Rig, { configured, layers }: Subject): Promise<Engine> {
  return Engine.load(rig, { backends: [configured], specs: model(layers) })
}

/** Before postInit(): the bytes where the parameters lie now. */
export async function checkParameters(rig: Rig, engine: Engine, module: string): Promise<void> {
  const placed = engine.offloader.modules.get(module)
  ensure(placed !== undefined, `${module} is gone`)
  engine.followTies()
  const parameters = [...placed.parameters.values()]
  const read = await rig.read(parameters.map(({ tensor }) => tensor))
  for (const [i, parameter] of parameters.entries()) {
    const expected = engine.contents.get(`${module}.${parameter.name}`)!
    ensureBytes(read[i]!, expected, `${module}.${parameter.name}, before postInit`, elementBytes(parameter))
  }
}
