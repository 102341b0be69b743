// The C and C++ side of the layering: a package includes its own headers, the SDK's and the system's, nothing else.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { DEVICE, NAPI_HEADER, NATIVE, OPENS_LIBRARIES } from './rules.js'

/** Violations in the native code of the package in `folder`, each as `file: what is wrong`. */
export function checkNative(root: string, folder: string, name: string): string[] {
  const sdk = join(root, 'native/include')
  const own = name === NATIVE ? sdk : join(folder, 'native')
  const out: string[] = []
  for (const file of sourcesBelow(own)) {
    const where = relative(root, file)
    const text = withoutComments(readFileSync(file, 'utf8'))
    for (const [, quote, path = ''] of text.matchAll(/^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]/gm)) {
      const what = checkInclude({ path, quoted: quote === '"', file, own, sdk })
      if (what) out.push(`${where}: ${what}`)
    }
    // A macro could name any header, unseen.
    if (/^[ \t]*#[ \t]*include[ \t]+[A-Za-z_]/m.test(text)) out.push(`${where}: includes a header named by a macro`)
    const code = text.replace(/"(?:[^"\\\n]|\\.)*"/g, '""')
    if (/\b(secure_)?getenv\s*\(|\benviron\b/.test(code)) out.push(`${where}: reads environment variables`)
    if (/\bbuffer_create\b/.test(code) && ![NATIVE, DEVICE].includes(name)) {
      out.push(`${where}: asks the device for memory, which core gives, as was decided and planned`)
    }
    if (/\bdlopen\s*\(/.test(code) && !OPENS_LIBRARIES.includes(name)) out.push(`${where}: opens libraries`)
  }
  const cmake = join(folder, 'CMakeLists.txt')
  if (
    existsSync(cmake) &&
    /\.\.\/|packages\/|@spillway\/(?!native\b)/.test(readFileSync(cmake, 'utf8').replace(/#.*$/gm, ''))
  ) {
    out.push(`${relative(root, cmake)}: reaches outside of the package`)
  }
  return out
}

interface IncludeCheck {
  readonly path: string
  readonly quoted: boolean
  readonly file: string
  readonly own: string
  readonly sdk: string
}

function checkInclude({ path, quoted, file, own, sdk }: IncludeCheck): string | null {
  const inside = (target: string, folder: string) => target.startsWith(folder + sep)
  if (path.startsWith('spillway/')) {
    const target = resolve(sdk, path)
    return inside(target, join(sdk, 'spillway')) && existsSync(target)
      ? null
      : `includes ${path}, which is not in native/include`
  }
  if (/^(napi|node_api|js_native_api|node)(-inl)?\.h$/.test(path)) {
    return file === join(sdk, NAPI_HEADER) ? null : `includes ${path}; ${NAPI_HEADER} is the only place that may`
  }
  if (!quoted) return /\.\.|packages\//.test(path) ? `includes <${path}>` : null
  const target = [resolve(dirname(file), path), resolve(own, path)].find(existsSync)
  if (!target) return `includes ${path}, which is neither its own header nor one of native/include`
  return inside(target, own) || inside(target, sdk) ? null : `includes ${path}, which belongs to another package`
}

function sourcesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder, { recursive: true }) as string[]
  return names.filter((name) => /\.(h|hh|hpp|inc|c|cc|cpp|cu|cuh)$/.test(name)).map((name) => join(folder, name))
}

function withoutComments(text: string): string {
  return text.replace(/"(?:[^"\\\n]|\\.)*"|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (match) =>
    match.startsWith('"') ? match : ' ',
  )
}
