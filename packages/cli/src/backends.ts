import { existsSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  BackendRegistry,
  type ConfiguredBackend,
  checkFlagCollisions,
  configure,
  createAutoBackend,
  flagsOf,
  none,
  type OffloadBackend,
  type OptionSpecs,
  parseBackendNames,
} from '@spillway/core'
import { resolve } from 'import-meta-resolve'
import type { GivenOptions } from './arguments.js'

const installPrefetch = 'npm install @spillway/prefetch'

/** The chosen backends, and the options that may be given with them. */
export interface ChosenBackends {
  readonly backends: readonly OffloadBackend[]
  /** Of the chosen ones. */
  readonly options: OptionSpecs
  /** Of built-in backends that were not chosen: given all the same, they are ignored with a warning. */
  readonly ignoredOptions: OptionSpecs
}

/** What the command line knows by name. Packages are imported when they are chosen, not before. */
export async function createRegistry(): Promise<BackendRegistry> {
  const loadPrefetch = async (): Promise<OffloadBackend<never>> => (await import('@spillway/prefetch')).default
  return new BackendRegistry()
    .register(none)
    .register(createAutoBackend({ loadPrefetch, options: await prefetchSpecs() }))
    .register({ name: 'prefetch', load: loadPrefetch, package: '@spillway/prefetch', install: installPrefetch })
}

/** Without the addon; empty when the package is not installed. */
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
  let options: OptionSpecs = {}
  const taken = new Set(flagsOf(reserved).map(({ flag }) => flag))
  for (const name of parseBackendNames(names)) {
    const backend = await registry.resolve(name, { importModule })
    checkFlagCollisions(backend.name, backend.options, taken)
    for (const { flag } of flagsOf(backend.options)) taken.add(flag)
    options = { ...options, ...backend.options }
    backends.push(backend)
  }
  const others = flagsOf(await prefetchSpecs()).filter(({ flag }) => !taken.has(flag))
  return { backends, options, ignoredOptions: Object.fromEntries(others.map(({ key, spec }) => [key, spec])) }
}

/** Each backend with the options that are its own. */
export function configureBackends({ backends }: ChosenBackends, given: GivenOptions): readonly ConfiguredBackend[] {
  return backends.map((backend) => {
    const own = Object.entries(given).filter(([key]) => key in backend.options)
    return configure(backend, Object.fromEntries(own))
  })
}

/** Options given for a backend that was not chosen, as flags. */
export function ignoredFlags({ ignoredOptions }: ChosenBackends, given: GivenOptions): readonly string[] {
  return flagsOf(ignoredOptions)
    .filter(({ key }) => key in given)
    .map(({ flag }) => `--${flag}`)
}

/** A module as the user's directory sees it, else as this package does; undefined when it is in neither. */
async function importModule(specifier: string): Promise<unknown> {
  for (const from of [pathToFileURL(`${process.cwd()}/`).href, import.meta.url]) {
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
