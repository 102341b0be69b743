import {
  contiguousStride,
  type DeviceBudget,
  type DeviceBuffer,
  extentBytes,
  type HostBuffer,
  type ModuleSpec,
  type Offloader,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  PhysicalBytes,
  parameterAlignmentBytes,
  type Replacement,
  type Stream,
  type TensorView,
} from '@spillway/core'

/**
 * Matrices that read the same input become one, and their biases: half as many launches, each with more rows to spread
 * over threads.
 */
const fusions = [
  {
    from: ['self_attn.q_proj.weight', 'self_attn.k_proj.weight', 'self_attn.v_proj.weight'],
    to: 'self_attn.qkv_proj.weight',
  },
  {
    from: ['self_attn.q_proj.bias', 'self_attn.k_proj.bias', 'self_attn.v_proj.bias'],
    to: 'self_attn.qkv_proj.bias',
  },
  { from: ['mlp.gate_proj.weight', 'mlp.up_proj.weight'], to: 'mlp.gate_up_proj.weight' },
] as const

/**
 * Device bytes that joining the parts of layers takes at its peak: what a layer's joined parameters take, since a backend
 * has them beside the old ones for a while.
 */
export function fusionBytes(specs: readonly ModuleSpec[], budget: DeviceBudget): number {
  const physical = new PhysicalBytes(budget)
  let most = 0
  for (const spec of specs) {
    const own = new Map(ownParameters(spec).map((parameter) => [parameter.name, parameter]))
    const joins = joinsOf(own)
    for (const { from, to, layout } of joins) {
      for (const name of from) own.delete(name)
      own.set(to, { ...layout, name: to, use: 'linear' })
    }
    if (joins.length > 0) most = Math.max(most, physical.ofSlab([...own.values()]))
  }
  return most
}

export interface FuseOptions {
  readonly offloader: Pick<Offloader, 'modules' | 'host' | 'replaceParameters'>
  readonly stream: Stream
  /** Device memory that nobody uses yet. */
  readonly idle?: DeviceBuffer
  readonly signal?: AbortSignal | undefined
}

/**
 * Post-load processing of one layer: q, k, v and gate, up are joined by their rows, where the layer has them, in one
 * replacement. Parts that lie one after another are joined already, and the backend is given them where they are; so it is
 * with parts whose bytes are a multiple of 256, when the backend lays them out as `slabLayout` does. Others are put
 * together in idle memory or, where that is too small, on the host: of device memory nothing more is taken here.
 */
export async function fuseLayer(layer: string, { offloader, stream, idle, signal }: FuseOptions): Promise<void> {
  const parameters = offloader.modules.get(layer)?.parameters ?? new Map<string, Parameter>()
  const joins = joinsOf(parameters)
  if (joins.length === 0) return
  const own: HostBuffer[] = []
  let idleUsed = 0
  const allocate = async (bytes: number): Promise<Place> => {
    if (idle !== undefined && idleUsed + bytes <= idle.bytes) {
      const offset = idleUsed
      idleUsed = Math.ceil((offset + bytes) / parameterAlignmentBytes) * parameterAlignmentBytes
      return { buffer: idle, offset }
    }
    const buffer = await offloader.host.allocate(bytes, signal === undefined ? {} : { signal })
    own.push(buffer)
    return { buffer, offset: 0 }
  }
  try {
    const next = new Map<string, Replacement | null>()
    for (const { from, to, layout } of joins) {
      const parts = from.map((name) => parameters.get(name)!.tensor)
      let place = placeOfNeighbours(parts)
      if (place === undefined) {
        place = await allocate(extentBytes(layout))
        copyParts(stream, parts, place)
      }
      for (const name of from) next.set(name, null)
      next.set(to, { tensor: { ...place, ...layout }, use: parameters.get(from[0]!)!.use })
    }
    // A backend may read host memory itself, outside the stream.
    if (own.length > 0) await stream.synchronize()
    await offloader.replaceParameters(layer, next)
  } finally {
    await Promise.all(own.map((buffer) => buffer.dispose()))
  }
}

type Place = Pick<TensorView, 'buffer' | 'offset'>

interface Join {
  readonly from: readonly string[]
  readonly to: string
  readonly layout: Pick<TensorView, 'dtype' | 'shape' | 'stride'>
}

/** What can be joined of these parameters, all parts of which are there. */
function joinsOf(parameters: ReadonlyMap<string, ParameterSpec>): Join[] {
  return fusions.flatMap(({ from, to }): Join[] => {
    const parts = from.flatMap((name) => parameters.get(name) ?? [])
    const [first] = parts
    if (first === undefined || parts.length < from.length) return []
    const shape = [parts.reduce((sum, part) => sum + part.shape[0]!, 0), ...first.shape.slice(1)]
    return [{ from, to, layout: { dtype: first.dtype, shape, stride: contiguousStride(shape) } }]
  })
}

/** Where parts lie that follow one another without a gap. */
function placeOfNeighbours(parts: readonly TensorView[]): Place | undefined {
  const [first] = parts
  let end = first!.offset
  for (const part of parts) {
    if (part.buffer !== first!.buffer || part.offset !== end) return undefined
    end += extentBytes(part)
  }
  return { buffer: first!.buffer, offset: first!.offset }
}

function copyParts(stream: Stream, parts: readonly TensorView[], { buffer, offset }: Place): void {
  let toOffset = offset
  for (const part of parts) {
    const bytes = extentBytes(part)
    stream.copy(buffer, part.buffer, { toOffset, fromOffset: part.offset, bytes })
    toOffset += bytes
  }
}
