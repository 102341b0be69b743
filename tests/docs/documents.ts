import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A page for people, by its path below the root. */
export interface Document {
  readonly path: string
  readonly text: string
}

/** README and docs, the packages' own and the SDK's. */
export function documents(root: string): Document[] {
  const pagesIn = (folder: string): string[] =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name))
  const packages = readdirSync(join(root, 'packages')).map((name) => join('packages', name))
  const folders = ['.', 'docs', 'native', 'bench/results', ...packages]
  return folders.flatMap(pagesIn).map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
}

export interface CodeBlock {
  readonly path: string
  /** Of the fence. */
  readonly line: number
  readonly code: string
}

/** Programs in JavaScript or TypeScript: blocks that import something. Others are pieces of what is around them. */
export function programs({ path, text }: Document): CodeBlock[] {
  return Array.from(text.matchAll(/^```(?:js|ts)\n(.*?)^```$/gms), (match) => ({
    path,
    line: text.slice(0, match.index).split('\n').length,
    code: match[1]!,
  })).filter(({ code }) => /^import /m.test(code))
}

/** Links to files and headings that are not there; `exists` and `read` take paths below the root. */
export function brokenLinks(
  { path, text }: Document,
  { exists, read }: { readonly exists: (path: string) => boolean; readonly read: (path: string) => string },
): string[] {
  const prose = text.replaceAll(/^```.*?^```$/gms, '').replaceAll(/`[^`\n]*`/g, '')
  return Array.from(prose.matchAll(/\]\(([^)\s]+)\)/g), ([, link]) => link!).flatMap((link) => {
    if (/^https?:/.test(link)) return []
    const [file = '', heading] = link.split('#')
    const target = file === '' ? path : join(path, '..', file)
    if (!exists(target)) return [`${path}: ${link}`]
    return heading === undefined || headings(read(target)).includes(heading) ? [] : [`${path}: ${link}`]
  })
}

/** As GitHub makes anchors of them. */
function headings(text: string): string[] {
  return Array.from(text.matchAll(/^#+ (.*)$/gm), ([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\-_ ]/gu, '')
      .replaceAll(' ', '-'),
  )
}
