import type { ModuleSpec, Parameter, ParameterSpec, PlacedModule, Replacement } from './module.js'
import { freezeParameterSpec, invalidSpec } from './module-spec-check.js'
import type { OwnParameters } from './placement-check.js'
import { printableName } from './printable.js'
import { extentBytes } from './tensor.js'
import { formatLayout, layoutOf, sameLayout } from './tensor-check.js'

/** What a replacement comes to: the specs after it, and the part of it that concerns the backend. */
export interface PlannedReplacement {
  readonly spec: ModuleSpec
  /** Ties turned into what they mean for who owns storage: nothing, or a deletion. Empty: the backend is not asked. */
  readonly forBackend: ReadonlyMap<string, Replacement | null>
}

/**
 * Core's own account of which modules there are, where their parameters lie and who is tied to whom. Backends place
 * only what a module owns; tied parameters are added here, sharing the tensor of their target, and follow it when it is
 * replaced. Statistics of a backend are held against this account.
 */
export class PlacementRecord {
  #specs: ReadonlyMap<string, ModuleSpec> = new Map()
  #own: OwnParameters = new Map()
  #placed: ReadonlyMap<string, PlacedModule> = new Map()

  /** Every module placed so far, tied parameters included. A new map after each change. */
  get modules(): ReadonlyMap<string, PlacedModule> {
    return this.#placed
  }

  get specs(): readonly ModuleSpec[] {
    return [...this.#specs.values()]
  }

  has(module: string): boolean {
    return this.#specs.has(module)
  }

  /** The parameters modules own, without `except`. */
  own(except: readonly ModuleSpec[] = []): OwnParameters {
    const names = new Set(except.map((spec) => spec.name))
    return new Map([...this.#own].filter(([name]) => !names.has(name)))
  }

  /** Bytes of parameters by where their authoritative bytes lie; tied ones counted once, padding not at all. */
  bytesByStorage(): Readonly<Record<Parameter['storage'], number>> {
    const bytes = { device: 0, mapped: 0, pinned: 0, pageable: 0 }
    for (const parameters of this.#own.values()) {
      for (const parameter of parameters.values()) bytes[parameter.storage] += extentBytes(parameter)
    }
    return bytes
  }

  /** Refuses new modules that clash with one another or with earlier ones. Throws SPILLWAY_INVALID_SPEC. */
  checkAdditions(specs: readonly ModuleSpec[]): void {
    const all = new Map(this.#specs)
    const byOrder = new Map([...all.values()].map((spec) => [spec.order, spec.name]))
    for (const spec of specs) {
      if (all.has(spec.name))
        throw invalidSpec(`module ${spec.name}`, 'is there twice; names are unique over all calls')
      const other = byOrder.get(spec.order)
      if (other !== undefined) throw invalidSpec(`module ${spec.name}`, `has the same order ${spec.order} as ${other}`)
      byOrder.set(spec.order, spec.name)
      all.set(spec.name, spec)
    }
    const index = indexParameters(all)
    for (const spec of specs) {
      for (const parameter of spec.parameters) {
        if (parameter.tiedTo === undefined) continue
        const target = tieTarget(index, spec.name, parameter)
        if (!sameLayout(parameter, target)) {
          throw invalidSpec(
            `module ${spec.name}, parameter ${parameter.name},`,
            `is ${formatLayout(parameter)}, but tied to ${parameter.tiedTo}, which is ${formatLayout(target)}`,
          )
        }
      }
    }
  }

  /** Works out a replacement without making it. Throws SPILLWAY_INVALID_SPEC. */
  planReplacement(module: string, next: ReadonlyMap<string, Replacement | null>): PlannedReplacement {
    const old = this.#specs.get(module)
    if (old === undefined)
      throw invalidSpec(`module ${printableName(String(module))}`, 'was never passed to wrapModules')
    const parameters: ParameterSpec[] = []
    const forBackend = new Map<string, Replacement | null>()
    const before = new Map(old.parameters.map((parameter) => [parameter.name, parameter]))
    for (const name of new Set([...before.keys(), ...next.keys()])) {
      const had = before.get(name)
      const replacement = next.get(name)
      const owned = had !== undefined && had.tiedTo === undefined
      if (replacement === undefined) {
        parameters.push(had!)
      } else if (replacement === null) {
        if (had === undefined) throw invalidSpec(`module ${module}`, `has no parameter ${name} to delete`)
        if (owned) forBackend.set(name, null)
      } else if ('tiedTo' in replacement) {
        this.#requireInPlace(module, name, replacement.tiedTo)
        // The layout is the target's: filled in below, when the target is known.
        parameters.push({ name, dtype: 'u8', shape: [], stride: [], use: replacement.use, tiedTo: replacement.tiedTo })
        if (owned) forBackend.set(name, null)
      } else {
        const { buffer, offset } = replacement.tensor
        const parameter = freezeParameterSpec({ name, ...layoutOf(replacement.tensor), use: replacement.use })
        parameters.push(parameter)
        forBackend.set(name, { tensor: { buffer, offset, ...layoutOf(parameter) }, use: replacement.use })
      }
    }
    const spec = { ...old, parameters }
    // Before anything moves: a tie that would be left without its target is refused here.
    return { spec: followTies(new Map(this.#specs).set(module, spec)).get(module)!, forBackend }
  }

  /** A tie made now is one its target's backend did not know of when it put the target on the host. */
  #requireInPlace(module: string, parameter: string, tiedTo: string): void {
    for (const [owner, parameters] of this.#own) {
      if (owner === module) continue
      for (const [name, { storage }] of parameters) {
        if (`${owner}.${name}` !== tiedTo || storage === 'device' || storage === 'mapped') continue
        throw invalidSpec(
          `module ${module}, parameter ${parameter},`,
          `is tied to ${tiedTo}, which is offloaded: when ${module} runs, its slot may hold another module. ` +
            'Declare the tie in the specs, before they are placed',
        )
      }
    }
  }

  /** Takes over new or changed modules and what the backend placed for them; tied parameters follow. */
  put(specs: readonly ModuleSpec[], own: OwnParameters): void {
    const all = new Map(this.#specs)
    for (const spec of specs) all.set(spec.name, spec)
    const followed = followTies(all)
    const placed = new Map([...this.#own, ...own])
    this.#placed = placeTies(followed, placed)
    this.#specs = followed
    this.#own = placed
  }
}

interface IndexedParameter extends ParameterSpec {
  readonly module: string
}

function indexParameters(specs: ReadonlyMap<string, ModuleSpec>): Map<string, IndexedParameter> {
  const index = new Map<string, IndexedParameter>()
  for (const spec of specs.values()) {
    for (const parameter of spec.parameters) {
      const full = `${spec.name}.${parameter.name}`
      // a + b.c and a.b + c: a tie could not tell them apart.
      if (index.has(full))
        throw invalidSpec(`module ${spec.name}`, `has a parameter that is also called ${full} elsewhere`)
      index.set(full, { ...parameter, module: spec.name })
    }
  }
  return index
}

function tieTarget(
  index: ReadonlyMap<string, IndexedParameter>,
  module: string,
  parameter: ParameterSpec,
): IndexedParameter {
  const what = `module ${module}, parameter ${parameter.name},`
  const target = index.get(parameter.tiedTo!)
  if (target === undefined) {
    throw invalidSpec(what, `is tied to ${printableName(parameter.tiedTo!)}, and there is no such parameter (any more)`)
  }
  if (target.tiedTo !== undefined) {
    throw invalidSpec(
      what,
      `is tied to ${parameter.tiedTo}, which is tied itself; tie it to ${printableName(target.tiedTo)}`,
    )
  }
  return target
}

/** Gives tied parameters the layout of their target. Throws where a tie has no target. */
function followTies(specs: ReadonlyMap<string, ModuleSpec>): ReadonlyMap<string, ModuleSpec> {
  const index = indexParameters(specs)
  const followed = new Map<string, ModuleSpec>()
  for (const spec of specs.values()) {
    const parameters = spec.parameters.map((parameter) => {
      if (parameter.tiedTo === undefined) return parameter
      return freezeParameterSpec({ ...parameter, ...layoutOf(tieTarget(index, spec.name, parameter)) })
    })
    followed.set(spec.name, Object.freeze({ ...spec, parameters: Object.freeze(parameters) }))
  }
  return followed
}

function placeTies(specs: ReadonlyMap<string, ModuleSpec>, own: OwnParameters): ReadonlyMap<string, PlacedModule> {
  const index = indexParameters(specs)
  const placed = new Map<string, PlacedModule>()
  for (const spec of specs.values()) {
    const parameters = new Map<string, Parameter>()
    for (const parameter of spec.parameters) {
      const owner = parameter.tiedTo === undefined ? undefined : index.get(parameter.tiedTo)!
      const { storage, tensor } = own.get(owner?.module ?? spec.name)!.get(owner?.name ?? parameter.name)!
      parameters.set(parameter.name, Object.freeze({ ...parameter, storage, tensor }))
    }
    placed.set(spec.name, Object.freeze({ spec, parameters }))
  }
  return placed
}
