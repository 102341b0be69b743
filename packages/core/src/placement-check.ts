import { isSpillwayError, messageOf, type SpillwayError } from './errors.js'
import {
  type ModuleSpec,
  ownParameters,
  type Parameter,
  type ParameterSpec,
  parameterAlignmentBytes,
} from './module.js'
import type { PinDecision } from './pin-memory.js'
import { printable, printableName } from './printable.js'
import { misbehaved } from './steps-check.js'
import { extentBytes, type TensorView } from './tensor.js'
import { formatLayout, sameLayout, viewProblem } from './tensor-check.js'

/** Parameters a backend placed, by module and name; tied ones are not among them. */
export type OwnParameters = ReadonlyMap<string, ReadonlyMap<string, Parameter>>

export interface PlacementRules {
  readonly backend: string
  /** The call that is checked, for the error text. */
  readonly call: string
  /** `loading`: tensors are where loaders write. `ready`: tensors are what kernels read. */
  readonly phase: 'loading' | 'ready'
  readonly pin: PinDecision
  /** The device reads ordinary host memory, not only mapped memory. */
  readonly unifiedMemory: boolean
  /** Modules placed by earlier calls, which nothing new may overlap. */
  readonly others: OwnParameters
}

/**
 * Checks what a backend returned for `specs`: every module once, every own parameter once and no other, with the layout
 * that was asked for, inside of its buffer, overlapping nothing, its storage telling the truth. Returns the parameters
 * with core's own specs. Throws SPILLWAY_BACKEND_MISBEHAVED naming module and parameter.
 */
export function checkPlacement(specs: readonly ModuleSpec[], result: unknown, rules: PlacementRules): OwnParameters {
  const wrong = (problem: string, details = {}): SpillwayError =>
    misbehaved(rules.backend, `${rules.call}: ${problem}`, details)
  try {
    return readPlacement(specs, result, rules, wrong)
  } catch (error) {
    if (isSpillwayError(error, 'SPILLWAY_BACKEND_MISBEHAVED')) throw error
    throw misbehaved(rules.backend, `${rules.call}: reading its result failed: ${messageOf(error)}`, {}, error)
  }
}

type Wrong = (problem: string, details?: Readonly<Record<string, unknown>>) => SpillwayError

function readPlacement(
  specs: readonly ModuleSpec[],
  result: unknown,
  rules: PlacementRules,
  wrong: Wrong,
): OwnParameters {
  if (!Array.isArray(result)) throw wrong(`it returned ${printable(result)} instead of a list of placed modules`)
  const returned = new Map<string, ReadonlyMap<string, unknown>>()
  for (const module of result as unknown[]) {
    const { spec, parameters } = (module ?? {}) as { spec?: { name?: unknown }; parameters?: unknown }
    const name = spec?.name
    if (typeof name !== 'string' || !(parameters instanceof Map)) throw wrong('it returned something that is no module')
    if (returned.has(name)) throw wrong(`it returned module ${printableName(name)} twice`, { module: name })
    returned.set(name, parameters)
  }
  const own = new Map<string, ReadonlyMap<string, Parameter>>()
  for (const spec of specs) {
    const parameters = returned.get(spec.name)
    if (parameters === undefined) throw wrong(`module ${spec.name} is missing`, { module: spec.name })
    returned.delete(spec.name)
    own.set(spec.name, readModule(spec, parameters, rules, wrong))
  }
  const [extra] = returned.keys()
  if (extra !== undefined) throw wrong(`module ${printableName(extra)} was not asked for`, { module: extra })
  checkOverlaps(new Map([...rules.others, ...own]), rules.phase, wrong)
  return own
}

function readModule(
  spec: ModuleSpec,
  parameters: ReadonlyMap<string, unknown>,
  rules: PlacementRules,
  wrong: Wrong,
): ReadonlyMap<string, Parameter> {
  const own = new Map<string, Parameter>()
  for (const parameter of ownParameters(spec)) {
    const details = { module: spec.name, parameter: parameter.name }
    const what = `${spec.name}, parameter ${parameter.name}`
    const placed = parameters.get(parameter.name) as Partial<Parameter> | null | undefined
    if (placed == null) throw wrong(`${what}, was not placed`, details)
    const problem = viewProblem(placed.tensor) ?? placementProblem(parameter, placed as Parameter, rules)
    if (problem !== undefined) throw wrong(`${what}: ${problem}`, details)
    const { buffer, offset } = placed.tensor as TensorView
    const { dtype, shape, stride } = parameter
    const tensor = Object.freeze({ buffer, offset, dtype, shape, stride })
    own.set(parameter.name, Object.freeze({ ...parameter, storage: placed.storage!, tensor }))
  }
  for (const name of parameters.keys()) {
    if (own.has(name)) continue
    const tied = spec.parameters.some((parameter) => parameter.name === name)
    const problem = tied ? 'is tied and owns nothing, but was placed' : 'was placed, but is not in the spec'
    throw wrong(`${spec.name}, parameter ${printableName(String(name))}, ${problem}`, {
      module: spec.name,
      parameter: name,
    })
  }
  return own
}

function placementProblem(
  spec: ParameterSpec,
  { storage, tensor }: Parameter,
  rules: PlacementRules,
): string | undefined {
  const { buffer } = tensor
  if (!sameLayout(spec, tensor)) return `its layout is ${formatLayout(tensor)}, asked for was ${formatLayout(spec)}`
  if (tensor.offset % parameterAlignmentBytes !== 0) {
    return `it starts at byte ${tensor.offset}, which is no multiple of ${parameterAlignmentBytes}`
  }
  if (!['device', 'mapped', 'pinned', 'pageable'].includes(storage)) return `its storage is ${printable(storage)}`
  if (storage === 'pinned' && !rules.pin.pin)
    return `its storage is pinned, and memory is not pinned here: ${rules.pin.reason}`
  if (storage === 'device') {
    return buffer.kind === 'device-buffer'
      ? undefined
      : `its storage is device, its buffer is ${buffer.storage} host memory`
  }
  if (rules.phase === 'loading') {
    return buffer.storage === storage ? undefined : `its storage is ${storage}, its buffer is ${buffer.storage} memory`
  }
  const readable = buffer.kind === 'device-buffer' || buffer.storage === 'mapped' || rules.unifiedMemory
  return readable ? undefined : `its tensor is in ${buffer.storage} host memory, which kernels cannot read`
}

interface Range {
  readonly start: number
  readonly end: number
  readonly module: string
  readonly parameter: string
  /** In a slot: other modules pass through the same bytes. */
  readonly slot: boolean
}

function checkOverlaps(modules: OwnParameters, phase: PlacementRules['phase'], wrong: Wrong): void {
  const byBuffer = new Map<TensorView['buffer'], Range[]>()
  for (const [module, parameters] of modules) {
    for (const { name, storage, tensor } of parameters.values()) {
      const bytes = extentBytes(tensor)
      if (bytes === 0) continue
      const slot = phase === 'ready' && storage !== 'device' && tensor.buffer.kind === 'device-buffer'
      const range = { start: tensor.offset, end: tensor.offset + bytes, module, parameter: name, slot }
      const ranges = byBuffer.get(tensor.buffer)
      if (ranges === undefined) byBuffer.set(tensor.buffer, [range])
      else ranges.push(range)
    }
  }
  for (const ranges of byBuffer.values()) {
    ranges.sort((a, b) => a.start - b.start)
    for (let i = 0; i < ranges.length; i++) {
      const a = ranges[i]!
      for (let j = i + 1; j < ranges.length && ranges[j]!.start < a.end; j++) {
        const b = ranges[j]!
        if (a.slot && b.slot && a.module !== b.module) continue
        throw wrong(`${a.module}, parameter ${a.parameter}, overlaps ${b.module}, parameter ${b.parameter}`, {
          module: a.module,
          parameter: a.parameter,
        })
      }
    }
  }
}
