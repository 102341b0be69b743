// Models and programs made from a seed, and what the rules in README.md say about them, written down a second time.
import { contiguousStride, type DType, type ModuleSpec, type ParameterSpec } from '@spillway/core'
import { Random } from '../../../tests/order/random.js'
import type { PrefetchConfig } from '../src/options.js'

/** A module visited by a forward: `before`, its reads, `after`. */
interface Visit {
  readonly module: string
  /** `none`: nobody reads it; `fork`: the reads are on another stream, which joins the forward's again. */
  readonly reads: 'plain' | 'fork' | 'none'
}

export interface RandomForward {
  readonly stream: number
  readonly visits: readonly Visit[]
  /** The engine fails within the last visit, before its `after`, or behind the last visit. */
  readonly fails?: 'within' | 'behind'
}

export type Action =
  | { readonly do: 'forward'; readonly forward: RandomForward }
  | { readonly do: 'capture'; readonly forwards: readonly RandomForward[] }
  /**
   * `graph` counts what was captured so far, round and round, or is the last one. `stream`: a number, or that of the last
   * forward.
   */
  | {
      readonly do: 'replay'
      readonly graph: number | undefined
      readonly stream: number | undefined
      readonly times: number
    }
  /** A replay where none belongs: before visit number `at` of an open forward. */
  | { readonly do: 'replay within'; readonly forward: RandomForward; readonly graph: number; readonly at: number }
  /** Writes new bytes to host slabs, once everything is done. */
  | { readonly do: 'rewrite'; readonly modules: readonly string[] }
  | { readonly do: 'wait'; readonly stream: number }
  | { readonly do: 'settle' }

/** What post-load processing does to one module. A name that the module has is replaced, another one is new. */
export interface RandomReplacement {
  readonly module: string
  readonly put: readonly ParameterSpec[]
  readonly remove: readonly string[]
}

export interface RandomCase {
  readonly seed: number
  readonly config: Required<PrefetchConfig>
  readonly pin: boolean
  /** What each call of wrapModules gets. */
  readonly calls: readonly (readonly ModuleSpec[])[]
  readonly replacements: readonly RandomReplacement[]
  readonly streamCount: number
  readonly actions: readonly Action[]
}

export function randomCase(seed: number): RandomCase {
  const random = new Random(seed)
  for (;;) {
    const groupSize = random.from(1, random.chance(50) ? 2 : 6)
    const config = { groupSize, numInGroup: random.from(1, groupSize), prefetchStep: random.from(1, 5), params: [] }
    const calls = randomCalls(random)
    const replacements = randomReplacements(random, calls.flat())
    const made = { seed, config, pin: random.chance(75), calls, replacements }
    // Nothing to offload is an error, and has its own tests.
    if (!offloadedModules(made).some(({ parameters }) => parameters.some(({ shape }) => shape[0] !== 0))) continue
    const streamCount = random.from(1, 3)
    return { ...made, streamCount, actions: randomActions(random, made, streamCount) }
  }
}

function randomParameter(random: Random, name: string): ParameterSpec {
  const dtype: DType = random.pick(['u8', 'bf16', 'f32'])
  const size = random.below(100)
  const elements =
    size < 4 ? 0 : size < 75 ? random.from(1, 90) : size < 97 ? random.from(90, 900) : random.from(3000, 6000)
  return { name, dtype, shape: [elements], stride: contiguousStride([elements]), use: 'linear' }
}

function randomParameters(random: Random): ParameterSpec[] {
  const count = random.chance(6) ? 0 : random.from(1, 3)
  return Array.from({ length: count }, (_, i) => randomParameter(random, `part${i}.weight`))
}

function randomCalls(random: Random): ModuleSpec[][] {
  const layers = random.from(1, random.chance(30) ? 12 : 6)
  const embedding = { name: 'embed', order: 0, role: 'embedding', parameters: randomParameters(random) } as const
  const norm = { name: 'norm', order: layers + 1, role: 'norm', parameters: randomParameters(random) } as const
  const modules: ModuleSpec[] = [embedding]
  for (let i = 0; i < layers; i++) {
    modules.push({ name: `layers.${i}`, order: i + 1, role: 'layer', parameters: randomParameters(random) })
  }
  modules.push(norm)
  const calls: ModuleSpec[][] = [[]]
  for (const module of modules) {
    if (calls.at(-1)!.length > 0 && random.chance(12)) calls.push([])
    calls.at(-1)!.push(module)
  }
  // A head tied to what one of the calls places: that stays on the device, offloaded layer or not.
  const call = random.pick(calls)
  const target = random.pick(call)
  if (random.chance(30) && target.parameters.length > 0) {
    const tied = random.pick(target.parameters)
    const parameter = { ...tied, name: 'tied.weight', tiedTo: `${target.name}.${tied.name}` }
    call.push({ name: 'head', order: layers + 2, role: 'head', parameters: [parameter] })
  }
  return (random.chance(20) ? random.shuffled(calls) : calls).map((specs) => random.shuffled(specs))
}

function randomReplacements(random: Random, specs: readonly ModuleSpec[]): RandomReplacement[] {
  const tied = tieTargets(specs)
  const replacements: RandomReplacement[] = []
  for (const spec of specs) {
    if (spec.name === 'head' || !random.chance(15)) continue
    const put: ParameterSpec[] = []
    const remove: string[] = []
    for (const { name } of spec.parameters) {
      const fate = random.below(100)
      if (fate < 30) put.push(randomParameter(random, name))
      else if (fate < 50 && !tied.has(`${spec.name}.${name}`)) remove.push(name)
    }
    if (random.chance(50)) put.push(randomParameter(random, 'fused.weight'))
    if (put.length + remove.length > 0) replacements.push({ module: spec.name, put, remove })
  }
  return replacements
}

type Placeable = Pick<RandomCase, 'config' | 'calls' | 'replacements'>

function randomActions(random: Random, placeable: Placeable, streamCount: number): Action[] {
  const modules = placeable.calls.flat().sort((a, b) => a.order - b.order)
  const offloaded = offloadedModules(placeable).map(({ name }) => name)
  const forward = (): RandomForward => {
    const fails = random.chance(15) ? random.pick(['within', 'behind'] as const) : undefined
    return { stream: random.below(streamCount), visits: randomVisits(random, modules), ...(fails && { fails }) }
  }
  const actions: Action[] = []
  const next = (): Action => {
    const kind = random.below(100)
    if (kind < 38) return { do: 'forward', forward: forward() }
    if (kind < 45) {
      const { fails: _, ...whole } = forward()
      return { do: 'replay within', forward: whole, graph: random.below(4), at: random.below(whole.visits.length + 1) }
    }
    if (kind < 62) return { do: 'capture', forwards: Array.from({ length: random.chance(20) ? 2 : 1 }, forward) }
    if (kind < 82) {
      const stream = random.chance(30) ? random.below(streamCount) : undefined
      const graph = random.chance(50) ? random.below(4) : undefined
      return { do: 'replay', graph, stream, times: random.from(1, 2) }
    }
    if (kind < 90) return { do: 'rewrite', modules: random.shuffled(offloaded).slice(0, random.from(1, 3)) }
    if (kind < 95) return { do: 'wait', stream: random.below(streamCount) }
    return { do: 'settle' }
  }
  for (let i = random.from(4, 12); i > 0; i--) {
    const action = next()
    actions.push(action)
    if (action.do !== 'capture' || random.chance(60)) continue
    actions.push({ do: 'replay', graph: undefined, stream: action.forwards[0]!.stream, times: 1 })
  }
  return actions
}

/** In order, with some left out; or anything. */
function randomVisits(random: Random, modules: readonly ModuleSpec[]): Visit[] {
  const kind = random.below(100)
  let names = modules.map(({ name }) => name)
  if (kind >= 40 && kind < 60) names = names.filter(() => random.chance(70))
  else if (kind >= 60 && kind < 75) names = random.shuffled(names)
  else if (kind >= 75) names = Array.from({ length: random.from(0, 10) }, () => random.pick(names))
  return names.map((module) => {
    const reads = random.below(100)
    return { module, reads: reads < 85 ? 'plain' : reads < 95 ? 'fork' : 'none' }
  })
}

function tieTargets(specs: readonly ModuleSpec[]): Set<string> {
  return new Set(specs.flatMap(({ parameters }) => parameters.flatMap(({ tiedTo }) => tiedTo ?? [])))
}

/** What a module owns once post-load processing is over: changed parameters in their places, new ones last. */
export function finalParameters(spec: ModuleSpec, replacements: readonly RandomReplacement[]): ParameterSpec[] {
  const replacement = replacements.find(({ module }) => module === spec.name)
  const own = new Map(spec.parameters.filter(({ tiedTo }) => tiedTo === undefined).map((one) => [one.name, one]))
  for (const parameter of replacement?.put ?? []) own.set(parameter.name, parameter)
  for (const name of replacement?.remove ?? []) own.delete(name)
  return [...own.values()]
}

export interface OffloadedModule {
  readonly name: string
  /** Those in its slab; what another module is tied to is not among them. */
  readonly parameters: readonly ParameterSpec[]
  readonly slabBytes: number
}

/** The elements of the ring, in their order. */
export function offloadedModules({ config, calls, replacements }: Placeable): OffloadedModule[] {
  const { groupSize, numInGroup } = config
  const tied = tieTargets(calls.flat())
  const chosen: (OffloadedModule & { readonly order: number })[] = []
  let before = 0
  for (const call of calls) {
    const layers = call.filter(({ role }) => role === 'layer').sort((a, b) => a.order - b.order)
    for (const [i, layer] of layers.entries()) {
      if ((before + i) % groupSize < groupSize - numInGroup) continue
      const own = finalParameters(layer, replacements)
      const parameters = own.filter(({ name }) => !tied.has(`${layer.name}.${name}`))
      if (parameters.length === 0) continue
      chosen.push({ name: layer.name, order: layer.order, parameters, slabBytes: slabBytes(parameters) })
    }
    before += layers.length
  }
  return chosen.sort((a, b) => a.order - b.order)
}

export function bytesOf({ dtype, shape }: Pick<ParameterSpec, 'dtype' | 'shape'>): number {
  const width = { u8: 1, bf16: 2, f32: 4 }[dtype as 'u8' | 'bf16' | 'f32']
  return width * (shape[0] as number)
}

/** Every parameter begins at a multiple of 256; no slab is empty. */
function slabBytes(parameters: readonly ParameterSpec[]): number {
  const end = parameters.reduce((bytes, parameter) => Math.ceil(bytes / 256) * 256 + bytesOf(parameter), 0)
  return Math.max(end, 1)
}
