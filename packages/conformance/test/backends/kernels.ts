import type {
  BackendContext,
  KernelOperation,
  KernelPlan,
  OffloaderSteps,
  PlacementBackend,
  Stream,
} from '@spillway/core'
import { Kernels } from '@spillway/decoder'

type Plan = (operation: KernelOperation, kernels: Kernels) => KernelPlan | null

/** A placement backend with the reference engine's kernels for its own. */
export function withKernels<C>(backend: PlacementBackend<C>, plan: Plan = planKernel): PlacementBackend<C> {
  return {
    ...backend,
    name: `${backend.name}-kernels`,
    supports: { ...backend.supports, kernels: true },
    async create(context: BackendContext, config: C): Promise<OffloaderSteps> {
      const kernels = new Kernels()
      const steps = await backend.create(context, config)
      return Object.assign(steps, { kernels: { plan: (operation: KernelOperation) => plan(operation, kernels) } })
    },
  }
}

type Io = Parameters<KernelPlan['enqueue']>[1]

/** For f32 activations and i32 tokens; null for anything else. */
function planKernel({ kind, weight, input, output }: KernelOperation, kernels: Kernels): KernelPlan | null {
  if (output !== 'f32' || input !== (kind === 'linear' ? 'f32' : 'i32')) return null
  const { tensor } = weight
  const linear = (stream: Stream, { x, y }: Io): void => kernels.linear(stream, { x, weight: tensor, y })
  if (kind === 'linear') return { name: kind, scratchBytes: 0, enqueue: linear }
  // It needs none, and shows that it gets what it asks for.
  const gather = (stream: Stream, { x, y, scratch }: Io): void => {
    stream.fill(scratch!, 1, { offset: 4095 })
    kernels.embedding(stream, { tokens: x, table: tensor, y })
  }
  return { name: kind, scratchBytes: 4096, enqueue: gather }
}

/** One row too many: behind the end of y, where somebody else's bytes may be. */
export const writesOneRowMore: Plan = (operation, kernels) => {
  const plan = planKernel(operation, kernels)
  if (plan === null || operation.kind !== 'linear') return plan
  return {
    ...plan,
    enqueue(stream, { x, y, rows }) {
      const longer = <T extends Io['x']>(view: T): T => ({ ...view, shape: [rows + 1, view.shape[1]!] })
      plan.enqueue(stream, { x: longer(x), y: longer(y), rows: rows + 1 })
    },
  }
}

/** Takes the first row for all. */
export const repeatsTheFirstRow: Plan = (operation, kernels) => {
  const plan = planKernel(operation, kernels)
  if (plan === null || operation.kind !== 'linear') return plan
  return {
    ...plan,
    enqueue(stream, { x, y, rows }) {
      const one = <T extends Io['x']>(view: T): T => ({ ...view, shape: [1, view.shape[1]!] })
      plan.enqueue(stream, { x: one(x), y: one(y), rows: 1 })
      const bytes = y.shape[1]! * 4
      for (let row = 1; row < rows; row++) stream.copy(y.buffer, y.buffer, { toOffset: row * bytes, bytes })
    },
  }
}

export const plansNothing: Plan = () => null
