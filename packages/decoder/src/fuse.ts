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
  PhysicalBytes,
  parameterBytes,
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
 * Device bytes that joining the layers of a resident model takes at its peak: a layer's new slab, and, where `idleBytes`,
 * what `idle` will have, are too few for the joined tensor, as much again: that tensor may get its memory out of the
 * slab that the layer before gave back, which then is no room for a slab.
 */
export function fusionBytes(specs: readonly ModuleSpec[], idleBytes: number, budget: DeviceBudget): number {
  const physical = new PhysicalBytes(budget)
  let most = 0
  for (const spec of specs) {
    for (const { from } of fusions) {
      const joined = parameterBytes(spec.parameters.filter(({ name }) => (from as readonly string[]).includes(name)))
      if (joined === 0) continue
      most = Math.max(most, physical.ofSlab(ownParameters(spec)) * (joined > idleBytes ? 2 : 1))
    }
  }
  return most
}

export interface FuseOptions {
  readonly offloader: Offloader
  readonly stream: Stream
  /** Device memory that nobody uses yet, taken before more is allocated. */
  readonly idle?: DeviceBuffer
  readonly signal?: AbortSignal | undefined
}

/**
 * Post-load processing of one layer: q, k, v and gate, up are joined by their rows, where the layer has them. The joined
 * tensor is made in memory of the kind its parts lie in, so nothing crosses the link. One tensor at a time: at its peak
 * the layer takes the scratch and what the backend needs to replace it.
 */
export async function fuseLayer(layer: string, options: FuseOptions): Promise<void> {
  for (const { from, to } of fusions) await fuse(layer, from, to, options)
}

async function fuse(layer: string, from: readonly string[], to: string, options: FuseOptions): Promise<void> {
  const { offloader, stream } = options
  const placed = offloader.modules.get(layer)
  const parts = from.flatMap((name) => placed?.parameters.get(name) ?? [])
  const [first] = parts
  if (first === undefined) return
  const rows = parts.reduce((sum, part) => sum + (part.shape[0] as number), 0)
  const shape = [rows, ...first.shape.slice(1)]
  const stride = contiguousStride(shape)
  const scratch = await allocateScratch(extentBytes({ dtype: first.dtype, shape, stride }), first, options)
  try {
    let offset = 0
    for (const { tensor } of parts) {
      const bytes = extentBytes(tensor)
      stream.copy(scratch.buffer, tensor.buffer, { toOffset: offset, fromOffset: tensor.offset, bytes })
      offset += bytes
    }
    // A backend may read host memory itself, outside the stream.
    await stream.synchronize()
    const tensor: TensorView = { buffer: scratch.buffer, offset: 0, dtype: first.dtype, shape, stride }
    const next = new Map<string, Replacement | null>(from.map((name) => [name, null]))
    await offloader.replaceParameters(layer, next.set(to, { tensor, use: first.use }))
  } finally {
    await scratch.release()
  }
}

interface Scratch {
  readonly buffer: DeviceBuffer | HostBuffer
  release(): Promise<void>
}

async function allocateScratch(bytes: number, part: Parameter, options: FuseOptions): Promise<Scratch> {
  const { offloader, stream, idle, signal } = options
  const owned = (buffer: DeviceBuffer | HostBuffer): Scratch => ({ buffer, release: () => buffer.dispose() })
  if (part.storage !== 'device')
    return owned(await offloader.host.allocate(bytes, signal === undefined ? {} : { signal }))
  if (idle !== undefined && idle.bytes >= bytes) return { buffer: idle, release: async () => {} }
  const recovery = { kind: 'rebuild', rebuild() {} } as const
  return owned(offloader.memory('workspace').allocate(bytes, { stream, recovery }))
}
