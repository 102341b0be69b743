import { existsSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  BackendRegistry,
  type ConfiguredBackend,
  checkFlagCollisions,
  composeBackends,
  configure,
  createAutoBackend,
  flagsOf,
  none,
  type OffloadBackend,
  type OptionFlag,
  type OptionSpec,
  type OptionSpecs,
  parseBackendNames,
} from '@spillway/core'
import { resolve } from 'import-meta-resolve'
import { type FlagValues, givenOf } from './arguments.js'

const installPrefetch = 'npm install @spillway/prefetch'

/** The chosen backends, and the options that may be given with them. */
export interface ChosenBackends {
  readonly backends: readonly OffloadBackend[]
  /** Of the chosen ones. */
  readonly flags: readonly OptionFlag[]
  /** Of built-in backends that were not chosen: given all the same, they are ignored with a warning. */
  readonly ignored: readonly OptionFlag[]
}

/** What the command line knows by name. Packages are imported when they are chosen, not before. */
export async function createRegistry(): Promise<BackendRegistry> {
  const loadPrefetch = async (): Promise<OffloadBackend<never>> => (await import('@spillway/prefetch')).default
  return new BackendRegistry()
    .register(none)
    .register(createAutoBackend({ loadPrefetch, options: await prefetchSpecs() }))
    .register({ name: 'prefetch', load: loadPrefetch, package: '@spillway/prefetch', install: installPrefetch })
}

/** Without the addon; empty when the package cannot be imported: why, it says when it is chosen. */
async function prefetchSpecs(): Promise<OptionSpecs> {
  try {
    return (await import('@spillway/prefetch/options')).prefetchOptions
  } catch {
    return {}
  }
}

/** `names`: what --offload-backend says. Flags that collide with the command's own are an error. */
export async function chooseBackends(names: string, reserved: OptionSpecs): Promise<ChosenBackends> {
  const registry = await createRegistry()
  const backends: OffloadBackend[] = []
  const flags: OptionFlag[] = []
  const taken = new Set(flagsOf(reserved).map(({ flag }) => flag))
  for (const name of parseBackendNames(names)) backends.push(await registry.resolve(name, { importModule }))
  // Two of one kind may well have flags in common: what is wrong with them is not that.
  composeBackends(backends.map((backend) => configure(backend, {})))
  for (const backend of backends) {
    checkFlagCollisions(backend.name, backend.options, taken)
    for (const flag of flagsOf(backend.options)) {
      taken.add(flag.flag)
      flags.push(flag)
    }
  }
  const ignored = flagsOf(await prefetchSpecs())
    .filter(({ flag }) => !taken.has(flag))
    .map((flag) => (flag.spec.type === 'integer' ? { ...flag, spec: anyText } : flag))
  return { backends, flags, ignored }
}

/** In place of a number that is ignored: it may be any. */
const anyText: OptionSpec = { type: 'string', help: 'ignored' }

/** Each backend with the options that are its own. */
export function configureBackends({ backends }: ChosenBackends, values: FlagValues): readonly ConfiguredBackend[] {
  return backends.map((backend) => configure(backend, givenOf(backend.options, values)))
}

/** Options given for a backend that was not chosen, as flags. */
export function ignoredFlags({ ignored }: ChosenBackends, values: FlagValues): readonly string[] {
  return ignored.filter(({ flag }) => values.has(flag)).map(({ flag }) => `--${flag}`)
}

/** A module as the user's directory sees it, else a package as this one does; undefined when it is in neither. */
async function importModule(specifier: string): Promise<unknown> {
  const here = pathToFileURL(`${process.cwd()}/`).href
  const isPath = specifier.startsWith('.') || specifier.startsWith('/')
  for (const from of isPath ? [here] : [here, import.meta.url]) {
    let url: string
    try {
      url = resolve(specifier, from)
    } catch {
      continue // not there: the next place may have it
    }
    if (url.startsWith('file:') && !existsSync(fileURLToPath(url))) continue
    return import(url)
  }
  return undefined
}
