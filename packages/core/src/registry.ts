import type { OffloadBackend } from './backend.js'
import { type CheckedBackend, checkBackend, isBackendName } from './backend-value.js'
import { SpillwayError, toSpillwayError } from './errors.js'
import { didYouMean } from './nearest-name.js'
import { none } from './none.js'
import { printable, printableName } from './printable.js'

/** A backend that is loaded only when it is asked for. */
export interface LazyBackend {
  readonly name: string
  /** Usually `async () => (await import('some-package')).default`. */
  load(): Promise<OffloadBackend<never>>
  /** The package that `load` imports: when that package is the one not found, it is not installed, not broken. */
  readonly package?: string
  /** The command that installs it. */
  readonly install?: string
}

export interface KnownBackend {
  readonly name: string
  readonly install: string | undefined
}

export interface ResolveOptions {
  /**
   * Imports a module by its specifier, with whatever rule the caller has for where to look. For a module that is not
   * there: resolves to undefined, or rejects as Node.js does (`ERR_MODULE_NOT_FOUND` naming that very package). Any
   * other rejection means that the module is there and is broken.
   */
  importModule?(specifier: string): Promise<unknown>
}

/**
 * Backends by name. Instances are independent; `defaultRegistry` is the one the command line uses.
 * A name is registered here, or is exactly the package `spillway-backend-<name>`; a text with `/` or `@`, or starting
 * with `.`, is a module specifier. Nothing is searched for, and nothing stands in for what was not found.
 */
export class BackendRegistry {
  readonly #entries = new Map<string, OffloadBackend<never> | LazyBackend>()

  /** Throws SPILLWAY_DUPLICATE_BACKEND for a name that is taken, and SPILLWAY_BACKEND_INVALID. */
  register(entry: OffloadBackend<never> | LazyBackend): this {
    const name = isLazy(entry) ? checkLazy(entry) : checkBackend(entry, 'register()').name
    if (this.#entries.has(name)) {
      throw new SpillwayError(
        'SPILLWAY_DUPLICATE_BACKEND',
        `a backend named ${name} is registered already; give the other one another name, or use a registry of its own`,
        { details: { name } },
      )
    }
    this.#entries.set(name, entry)
    return this
  }

  /** In the order of registration. */
  known(): readonly KnownBackend[] {
    return [...this.#entries].map(([name, entry]) => ({ name, install: isLazy(entry) ? entry.install : undefined }))
  }

  /**
   * Throws SPILLWAY_UNKNOWN_BACKEND when there is no such backend, SPILLWAY_BACKEND_FAILED with the reason as cause
   * when there is one and it fails to load, and what `checkBackend` throws.
   */
  async resolve(name: string, { importModule }: ResolveOptions = {}): Promise<OffloadBackend> {
    const entry = this.#entries.get(name)
    if (entry !== undefined) return this.#load(name, entry)
    if (isModuleSpecifier(name)) return (await this.#import(name, name, importModule)).backend
    if (!isBackendName(name)) {
      throw this.#unknown(
        name,
        'a name is lower-case letters, digits and hyphens; a module has a / or starts with a dot',
      )
    }
    const specifier = `spillway-backend-${name}`
    const checked = await this.#import(name, specifier, importModule)
    requireName(checked, name, `the package ${specifier}`)
    return checked.backend
  }

  async #load(name: string, entry: OffloadBackend<never> | LazyBackend): Promise<OffloadBackend> {
    if (!isLazy(entry)) return entry
    let value: unknown
    try {
      value = await entry.load()
    } catch (error) {
      if (entry.package !== undefined && isModuleNotFound(error, entry.package)) {
        throw this.#unknown(name, `it is in the package ${entry.package}, which is not installed`, entry.install, error)
      }
      throw loadFailure(`backend ${name}`, error)
    }
    const checked = checkBackend(value, `backend ${name}`)
    requireName(checked, name, `what is registered as ${name}`)
    return checked.backend
  }

  async #import(
    name: string,
    specifier: string,
    importModule: ResolveOptions['importModule'],
  ): Promise<CheckedBackend> {
    const install = /^\.|^\/|:/.test(specifier) ? undefined : `npm install ${packageOf(specifier)}`
    const missing = `the module ${printableName(specifier)} is not to be found`
    if (importModule === undefined)
      throw this.#unknown(name, 'it is not registered, and modules are not looked for here')
    let module: unknown
    try {
      module = await importModule(specifier)
    } catch (error) {
      if (isModuleNotFound(error, packageOf(specifier))) throw this.#unknown(name, missing, install, error)
      throw loadFailure(`the module ${printableName(specifier)}`, error)
    }
    if (module === undefined) throw this.#unknown(name, missing, install)
    return checkBackend(defaultExport(module, specifier), `the module ${printableName(specifier)}`)
  }

  #unknown(name: string, reason: string, install?: string, cause?: unknown): SpillwayError {
    const known = [...this.#entries.keys()]
    const hint = this.#entries.has(name) ? '' : didYouMean(name, known)
    // Whoever mistypes a name should not be told to install whatever package has the wrong one.
    const command = install === undefined || hint !== '' ? undefined : install
    const advice = command === undefined ? hint : `; install it with: ${command}`
    return new SpillwayError(
      'SPILLWAY_UNKNOWN_BACKEND',
      `no backend ${printableName(name)}: ${reason}${advice} (known here: ${known.join(', ') || 'none at all'})`,
      { cause, details: { name, known, ...(command === undefined ? {} : { install: command }) } },
    )
  }
}

/** Has `none`. The command line adds what it comes with. */
export const defaultRegistry: BackendRegistry = new BackendRegistry().register(none)

/** True for what is taken as a module specifier, not as a name. */
export function isModuleSpecifier(name: string): boolean {
  return name.startsWith('.') || name.includes('/') || name.includes('@')
}

function isLazy(entry: OffloadBackend<never> | LazyBackend): entry is LazyBackend {
  return typeof entry === 'object' && entry !== null && 'load' in entry && !('create' in entry)
}

function checkLazy(entry: LazyBackend): string {
  const { name, load } = entry
  if (typeof name !== 'string' || !isBackendName(name) || typeof load !== 'function') {
    throw new SpillwayError(
      'SPILLWAY_BACKEND_INVALID',
      `register(): needs a name in lower-case letters, digits and hyphens (not ${printable(name)}) and a load function`,
    )
  }
  return name
}

function requireName(checked: CheckedBackend, name: string, where: string): void {
  if (checked.name === name) return
  throw new SpillwayError(
    'SPILLWAY_BACKEND_INVALID',
    `${where} exports a backend that calls itself ${checked.name}; the two names must be the same`,
    { details: { name, actual: checked.name } },
  )
}

function defaultExport(module: unknown, specifier: string): unknown {
  try {
    const value = (module as { default?: unknown } | null)?.default
    if (value !== undefined) {
      // import() of CommonJS made by a compiler: exports.default is one level down.
      const inner = value as { __esModule?: unknown; default?: unknown } | null
      return inner?.__esModule === true && inner.default !== undefined ? inner.default : value
    }
  } catch (error) {
    throw loadFailure(`the module ${printableName(specifier)}`, error)
  }
  throw new SpillwayError(
    'SPILLWAY_BACKEND_INVALID',
    `the module ${printableName(specifier)} has no default export; a backend package exports its backend by default`,
    { details: { specifier } },
  )
}

function loadFailure(what: string, error: unknown): SpillwayError {
  return toSpillwayError(error, 'SPILLWAY_BACKEND_FAILED', `${what} was found, but failed while it was loaded`)
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('.') || specifier.startsWith('/')) return specifier
  const parts = specifier.split('/')
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
}

// Node's message quotes the package that was looked for. One that is found but lacks a file or a dependency of its own
// has another name there, and is a failure to show, not an unknown name.
function isModuleNotFound(error: unknown, packageName: string): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as { code?: unknown }
  if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') return false
  return error.message.includes(`'${packageName}'`) || error.message.includes(`"${packageName}"`)
}
