import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Text of a source file, and its path for messages. */
export interface Source {
  readonly path: string
  readonly text: string
}

// The C++ side gives every status a text; that of success reaches nobody.
const success = 'SPILLWAY_OK'

/**
 * The codes in TypeScript and C++ sources: string literals that are nothing but SPILLWAY_ and a name. Macros and enum
 * names are not in quotes. Environment variables may be, but somewhere they are read from the environment, as no code is.
 */
export function codesInUse(sources: readonly Source[]): Map<string, string> {
  const variables = new Set(
    sources.flatMap(({ path, text }) => Array.from(text.matchAll(reads(path)), ([, name]) => name)),
  )
  const codes = new Map<string, string>()
  for (const { path, text } of sources) {
    for (const [, , code] of text.matchAll(/(['"])(SPILLWAY_[A-Z0-9_]+)\1/g)) {
      if (!variables.has(code) && code !== success && !codes.has(code!)) codes.set(code!, path)
    }
  }
  return codes
}

/** How a source of that name reads an environment variable. In addons `env` is Node-API's, not the system's. */
function reads(path: string): RegExp {
  return path.endsWith('.ts') ? /\benv(?:\.|\['|, ')(SPILLWAY_\w+)/g : /\bgetenv\("(SPILLWAY_\w+)"/g
}

/** Places where a code is put together, so that no search for it finds it. */
export function computedCodes(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) =>
    Array.from(text.matchAll(/`SPILLWAY_\w*\$\{|['"]SPILLWAY_\w*['"]\s*\+/g), ([found]) => `${path}: ${found}`),
  )
}

/** What is wrong between the page and the codes: nothing, for a page that is complete and has nothing else. */
export function pageProblems(page: string, codes: ReadonlyMap<string, string>): string[] {
  const [, ...sections] = page.split(/^## /m)
  const problems: string[] = []
  const described = new Set<string>()
  for (const section of sections) {
    const [heading = '', ...lines] = section.split('\n')
    // The next group's heading and text belong to nobody.
    const body = lines.join('\n').split(/^# /m)[0]!
    if (described.has(heading)) problems.push(`${heading} has two headings`)
    described.add(heading)
    if (!codes.has(heading)) problems.push(`${heading} has a heading, but no source uses it`)
    const [meaning = '', ...rest] = body.split(/\*\*(?:What to do|Details):\*\*/)
    if (meaning.trim() === '') problems.push(`${heading} does not say what it means`)
    if (rest.length !== 2 || rest.some((text) => text.trim() === '')) {
      problems.push(`${heading} does not say what to do and what the details are`)
    }
  }
  for (const [code, path] of codes) {
    if (!described.has(code)) problems.push(`${code} (${path}) has no heading in docs/ERRORS.md`)
  }
  return problems
}

/** Sources of what is shipped: every package's src and native folder, and the SDK. Tests and tools are not. */
export function shippedSources(root: string): Source[] {
  const packages = readdirSync(join(root, 'packages')).map((name) => join('packages', name))
  const folders = [...packages.flatMap((path) => [join(path, 'src'), join(path, 'native')]), 'native']
  return folders.flatMap((folder) => filesIn(root, folder))
}

function filesIn(root: string, folder: string): Source[] {
  let entries: string[]
  try {
    entries = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
  } catch (error) {
    // Not every package has both.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return entries
    .filter((name) => /\.(?:ts|cc|cpp|c|hpp|h|cu|cuh)$/.test(name))
    .map((name) => ({ path: join(folder, name), text: readFileSync(join(root, folder, name), 'utf8') }))
}
