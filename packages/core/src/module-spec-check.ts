import { reading } from './call-options.js'
import { SpillwayError } from './errors.js'
import type { ModuleRole, ModuleSpec, ParameterSpec, ParameterUse, Replacement } from './module.js'
import { printable, printableName } from './printable.js'
import { layoutProblem, viewProblem } from './tensor-check.js'

const roles: readonly ModuleRole[] = ['embedding', 'layer', 'norm', 'head', 'tower']
const uses: readonly ParameterUse[] = ['linear', 'gather', 'other']

/**
 * Checks each module by itself and returns frozen copies: an engine that changes its objects later changes nothing
 * here. What lies between modules (duplicates, ties) is checked where all of them are known. Throws
 * SPILLWAY_INVALID_SPEC naming module and parameter.
 */
export function checkModuleSpecs(specs: readonly ModuleSpec[]): readonly ModuleSpec[] {
  return reading('wrapModules', () => copyModuleSpecs(specs), 'SPILLWAY_INVALID_SPEC')
}

function copyModuleSpecs(specs: readonly ModuleSpec[]): readonly ModuleSpec[] {
  if (!Array.isArray(specs) || specs.length === 0) {
    throw new SpillwayError('SPILLWAY_INVALID_SPEC', 'wrapModules takes a list with at least one module')
  }
  return Object.freeze((specs as readonly ModuleSpec[]).map(checkModuleSpec))
}

function checkModuleSpec(spec: ModuleSpec): ModuleSpec {
  if (typeof spec !== 'object' || spec === null) throw invalidSpec('a module', `is ${printable(spec)}`)
  const { name, order, role, parameters } = spec
  if (!isDottedName(name)) throw invalidSpec('a module', `has the name ${printable(name)}; use dotted words`)
  const what = `module ${printableName(name)}`
  if (!Number.isSafeInteger(order)) throw invalidSpec(what, `has the order ${printable(order)}; use whole numbers`)
  if (!roles.includes(role)) throw invalidSpec(what, `has the role ${printable(role)}; use one of ${roles.join(', ')}`)
  if (!Array.isArray(parameters)) throw invalidSpec(what, 'has no list of parameters')
  const names = new Set<string>()
  const copies = (parameters as readonly ParameterSpec[]).map((parameter) => {
    const copy = checkParameterSpec(parameter, what)
    if (names.has(copy.name)) throw invalidSpec(what, `has two parameters named ${printableName(copy.name)}`)
    names.add(copy.name)
    return copy
  })
  return Object.freeze({ name, order, role, parameters: Object.freeze(copies) })
}

function checkParameterSpec(spec: ParameterSpec, module: string): ParameterSpec {
  if (typeof spec !== 'object' || spec === null) throw invalidSpec(module, `has the parameter ${printable(spec)}`)
  const { name, dtype, shape, stride, tiedTo, use } = spec
  if (!isDottedName(name)) throw invalidSpec(module, `has a parameter named ${printable(name)}; use dotted words`)
  const what = `${module}, parameter ${printableName(name)}`
  const problem = layoutProblem(spec)
  if (problem !== undefined) throw invalidSpec(what, `is no tensor: ${problem}`)
  if (!uses.includes(use)) throw invalidSpec(what, `has the use ${printable(use)}; use one of ${uses.join(', ')}`)
  if (tiedTo !== undefined && typeof tiedTo !== 'string') throw invalidSpec(what, `is tied to ${printable(tiedTo)}`)
  return freezeParameterSpec({ name, dtype, shape, stride, use, ...(tiedTo === undefined ? {} : { tiedTo }) })
}

/** A frozen copy, its lists included. */
export function freezeParameterSpec(spec: ParameterSpec): ParameterSpec {
  return Object.freeze({ ...spec, shape: Object.freeze([...spec.shape]), stride: Object.freeze([...spec.stride]) })
}

/** Checks each replacement by itself and returns copies. Throws SPILLWAY_INVALID_SPEC. */
export function checkReplacements(
  module: string,
  next: ReadonlyMap<string, Replacement | null>,
): ReadonlyMap<string, Replacement | null> {
  return reading(
    'replaceParameters',
    () => {
      if (typeof module !== 'string') throw invalidSpec('the module', `is named by text, not ${printable(module)}`)
      const what = `module ${printableName(module)}`
      if (!(next instanceof Map)) throw invalidSpec(what, 'gets its replacements as a Map from names')
      const copies = [...(next as ReadonlyMap<string, Replacement | null>)].map(
        ([name, replacement]) => [name, checkReplacement(what, name, replacement)] as const,
      )
      return new Map(copies)
    },
    'SPILLWAY_INVALID_SPEC',
  )
}

function checkReplacement(module: string, name: string, replacement: Replacement | null): Replacement | null {
  if (!isDottedName(name)) {
    throw invalidSpec(`a replacement in ${module}`, `has the name ${printable(name)}; use dotted words`)
  }
  const what = `the replacement of ${module}, parameter ${printableName(name)},`
  if (replacement === null) return null
  if (typeof replacement !== 'object') throw invalidSpec(what, `is ${printable(replacement)}; null deletes`)
  const { use } = replacement
  if (!uses.includes(use)) throw invalidSpec(what, `has the use ${printable(use)}; use one of ${uses.join(', ')}`)
  if ('tiedTo' in replacement) {
    const { tiedTo } = replacement
    if ('tensor' in replacement || typeof tiedTo !== 'string') {
      throw invalidSpec(what, 'is either a tensor or tied to a parameter')
    }
    return { tiedTo, use }
  }
  const { tensor } = replacement
  const problem = viewProblem(tensor)
  if (problem !== undefined) throw invalidSpec(what, `is no tensor: ${problem}`)
  const { buffer, offset, dtype, shape, stride } = tensor
  return { tensor: { buffer, offset, dtype, shape: [...shape], stride: [...stride] }, use }
}

export function invalidSpec(what: string, problem: string): SpillwayError {
  return new SpillwayError('SPILLWAY_INVALID_SPEC', `${what} ${problem}`)
}

// Names reach error texts, logs and dotted patterns.
function isDottedName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 512 && /^[^\s.\p{C}]+(\.[^\s.\p{C}]+)*$/u.test(value)
}
