// Checks a checkout against rules.ts: package.json, imports, #includes, environment variables.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { scanModule } from './module-scan.js'
import { checkNative } from './native-includes.js'
import { CHOOSES_HOST_STORAGE, ENVIRONMENT_FILE, NATIVE, RULES, type Rule } from './rules.js'

interface Manifest {
  readonly name: string
  readonly exports?: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

/** Every violation in the checkout at `root`, each as `file: what is wrong`. */
export function findViolations(root: string, rules: Readonly<Record<string, Rule>> = RULES): string[] {
  const out: string[] = []
  const folders = readdirSync(join(root, 'packages'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  const packages = folders.flatMap(({ name }) => {
    const file = join(root, 'packages', name, 'package.json')
    return existsSync(file)
      ? [{ folder: dirname(file), manifest: JSON.parse(readFileSync(file, 'utf8')) as Manifest }]
      : []
  })
  const manifests = new Map(packages.map(({ manifest }) => [manifest.name, manifest]))
  for (const { folder, manifest } of packages) {
    const rule = rules[manifest.name]
    const place = relative(root, join(folder, 'package.json'))
    if (!rule) {
      out.push(`${place}: ${manifest.name} has no entry in tests/layering/rules.ts`)
      continue
    }
    const isOurs = (name: string) => name in rules || name === NATIVE
    out.push(...checkManifest(manifest, rule, isOurs).map((what) => `${place}: ${what}`))
    for (const file of filesBelow(join(folder, 'src'), /\.[cm]?tsx?$/)) {
      const where = relative(root, file).split(sep).join('/')
      const scan = scanModule(readFileSync(file, 'utf8'))
      if (scan.readsEnvironment && where !== ENVIRONMENT_FILE) {
        out.push(`${where}: reads environment variables, which only ${ENVIRONMENT_FILE} may do`)
      }
      if (scan.choosesHostStorage && !CHOOSES_HOST_STORAGE.some((place) => isAt(where, place))) {
        out.push(`${where}: chooses a kind of host memory; a HostArena gives what was decided once`)
      }
      for (const { specifier, dynamic } of scan.imports) {
        const what = checkImport({ specifier, dynamic, file, folder, manifest, rule, isOurs, manifests })
        if (what) out.push(`${where}: ${what}`)
      }
    }
    out.push(...checkNative(root, folder, manifest.name))
  }
  out.push(...checkNative(root, join(root, 'native'), NATIVE))
  return out
}

function isAt(file: string, place: string): boolean {
  return place.endsWith('/') ? file.startsWith(place) : file === place
}

function checkManifest(manifest: Manifest, rule: Rule, isOurs: (name: string) => boolean): string[] {
  const out: string[] = []
  const optional = rule.optional ?? []
  const { dependencies = {}, devDependencies = {}, peerDependencies = {}, optionalDependencies = {} } = manifest
  if (Object.hasOwn(manifest, 'name') && manifest.name === '@spillway/core') {
    for (const name of Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies })) {
      out.push(`core depends on ${name}, but stays free of dependencies`)
    }
  }
  for (const name of Object.keys(dependencies).filter(isOurs)) {
    if (!rule.uses.includes(name)) out.push(`may not depend on ${name}`)
    else if (rule.backend) out.push(`depends on ${name}, which a backend has as a peer`)
  }
  for (const name of Object.keys(optionalDependencies).filter(isOurs)) out.push(`may not optionally depend on ${name}`)
  for (const [name, range] of Object.entries(peerDependencies).filter(([name]) => isOurs(name))) {
    const isOptional = manifest.peerDependenciesMeta?.[name]?.optional === true
    if (!(isOptional ? optional : rule.uses).includes(name)) out.push(`may not peer-depend on ${name}`)
    // With workspace:^, a minor of the peer would publish this package as 1.0.0.
    if (range.startsWith('workspace:')) out.push(`peer range of ${name} must be literal, not ${range}`)
  }
  for (const name of Object.keys(devDependencies).filter(isOurs)) {
    if (![...rule.uses, ...optional, ...(rule.testedOn ?? []), NATIVE].includes(name)) {
      out.push(`may not develop against ${name}: tests that span packages belong in tests/`)
    }
  }
  return out
}

interface ImportCheck {
  readonly specifier: string | null
  readonly dynamic: boolean
  readonly file: string
  readonly folder: string
  readonly manifest: Manifest
  readonly rule: Rule
  readonly isOurs: (name: string) => boolean
  readonly manifests: ReadonlyMap<string, Manifest>
}

function checkImport(check: ImportCheck): string | null {
  const { specifier, dynamic, file, folder, manifest, rule, isOurs, manifests } = check
  if (specifier === null) return rule.loadsPlugins ? null : 'import() of a value that is not a literal'
  if (/^(\.|\/|file:)/.test(specifier)) {
    const target = resolve(dirname(file), specifier)
    return target.startsWith(folder + sep) ? null : `imports ${specifier}, which is outside of the package`
  }
  if (isBuiltin(specifier)) return null
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
  if (name === NATIVE) return `imports ${NATIVE}, which is for building addons only`
  if (isOurs(name)) {
    if (name === manifest.name) return `imports its own package by name (${specifier})`
    if (rule.optional?.includes(name))
      return dynamic ? null : `imports ${name} statically; only import() by name is allowed`
    if (!rule.uses.includes(name)) return `may not import ${name}`
    const subpath = `.${specifier.slice(name.length)}`
    const known = manifests.get(name)?.exports ?? {}
    return subpath in known ? null : `imports ${specifier}, which ${name} does not export`
  }
  const declared = { ...manifest.dependencies, ...manifest.peerDependencies }
  return name in declared ? null : `imports ${name}, which is not among its dependencies`
}

/** Files below `folder` (which may be missing) whose names match. */
export function filesBelow(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder, { recursive: true }) as string[]
  return names.filter((name) => pattern.test(name)).map((name) => join(folder, name))
}
