import { type DType, extentBytes, type TensorView } from './tensor.js'

/** Where a parameter's authoritative bytes lie. `mapped`: host memory the device reads in place. */
export type Storage = 'device' | 'mapped' | 'pinned' | 'pageable'
export type ParameterUse = 'linear' | 'gather' | 'other'
export type ModuleRole = 'embedding' | 'layer' | 'norm' | 'head' | 'tower'

/** Known before any byte is read; owns no memory. Fit, `auto`, selection and load plans use only this. */
export interface ParameterSpec {
  /** Relative to its module, dotted: `self_attn.q_proj.weight`. */
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  /** In elements. */
  readonly stride: readonly number[]
  /** `module.parameter` whose storage this one shares; then it has none of its own. */
  readonly tiedTo?: string
  readonly use: ParameterUse
}

export interface ModuleSpec {
  readonly name: string
  /** Position in the forward. */
  readonly order: number
  readonly role: ModuleRole
  readonly parameters: readonly ParameterSpec[]
}

/** `tensor` is where loaders write until postInit(); what postInit() returns is what kernels read, for good. */
export interface Parameter extends ParameterSpec {
  readonly storage: Storage
  readonly tensor: TensorView
}

export interface PlacedModule {
  readonly spec: ModuleSpec
  readonly parameters: ReadonlyMap<string, Parameter>
}

/** What post-load processing puts in place of a parameter, or adds under a new name; null deletes it. */
export type Replacement =
  | { readonly tensor: TensorView; readonly use: ParameterUse }
  | { readonly tiedTo: string; readonly use: ParameterUse }

/** Kernels read weights with 16-byte vector loads and copies like whole lines: every parameter starts at this. */
export const parameterAlignmentBytes = 256

export interface SlabLayout {
  readonly bytes: number
  readonly offsets: ReadonlyMap<string, number>
}

/** The parameters a module owns: those tied to another module's storage are left out. */
export function ownParameters(spec: ModuleSpec): ParameterSpec[] {
  return spec.parameters.filter((parameter) => parameter.tiedTo === undefined)
}

/** Lays parameters one after another, each at a multiple of `parameterAlignmentBytes`; no padding after the last. */
export function slabLayout(parameters: readonly ParameterSpec[]): SlabLayout {
  const offsets = new Map<string, number>()
  let end = 0
  for (const parameter of parameters) {
    const offset = Math.ceil(end / parameterAlignmentBytes) * parameterAlignmentBytes
    offsets.set(parameter.name, offset)
    end = offset + extentBytes(parameter)
  }
  return { bytes: end, offsets }
}

/** Bytes of the parameters themselves, padding not counted. */
export function parameterBytes(parameters: readonly ParameterSpec[]): number {
  return parameters.reduce((sum, parameter) => sum + extentBytes(parameter), 0)
}
