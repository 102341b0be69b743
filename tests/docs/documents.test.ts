import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { brokenLinks, type CodeBlock, documents, programs } from './documents.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const pages = documents(root)
mkdirSync(join(root, '.cache'), { recursive: true })
// Inside of the checkout: types of Node are found from there.
const folder = mkdtempSync(join(root, '.cache/documents-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('no link leads nowhere', () => {
  expect(pages.length).toBeGreaterThan(12)
  const files = {
    exists: (path: string) => existsSync(join(root, path)),
    read: (path: string) => readFileSync(join(root, path), 'utf8'),
  }
  expect(pages.flatMap((page) => brokenLinks(page, files))).toEqual([])
})

test('the programs are correct TypeScript against the packages as they are built', () => {
  const all = pages.flatMap(programs)
  expect(all.length).toBeGreaterThan(7)
  expect(typeErrors(all)).toEqual([])
})

/** Messages of the compiler, each with page and line. */
function typeErrors(blocks: readonly CodeBlock[]): string[] {
  const scratch = mkdtempSync(join(folder, 'programs-'))
  const names = new Map(blocks.map((block, i) => [`block${i}.ts`, block]))
  for (const [name, { code }] of names) writeFileSync(join(scratch, name), code)
  // What a reader has to bring: a backend.
  writeFileSync(join(scratch, 'index.ts'), "export { none as default } from '@spillway/core'\n")
  const compilerOptions = {
    noEmit: true,
    declaration: false,
    declarationMap: false,
    isolatedDeclarations: false,
    noUnusedLocals: false,
    types: ['node'],
    paths: { '@spillway/*': [`${root}packages/*/dist/index.d.ts`] },
  }
  const config = { extends: join(root, 'tsconfig.base.json'), compilerOptions, include: ['*.ts'] }
  writeFileSync(join(scratch, 'tsconfig.json'), JSON.stringify(config))
  const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', '.', '--pretty', 'false'], {
    cwd: scratch,
    encoding: 'utf8',
  })
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name = '', row = ''] = /^(\w+\.ts)\((\d+),/.exec(line) ?? []
      const block = names.get(name)
      return block === undefined ? line : `${block.path}:${block.line + Number(row)}: ${line.replace(/^[^:]*: /, '')}`
    })
}

describe('the checkers', () => {
  const page = (text: string) => ({ path: 'docs/A.md', text })
  const files = {
    exists: (path: string) => ['docs/A.md', 'README.md'].includes(path),
    read: () => '# One\n\n## Two words: `A_b`\n',
  }

  test('a file or a heading that is not there', () => {
    expect(
      brokenLinks(page('[a](../README.md), [b](#one), [c](../README.md#two-words-a_b), [d](https://a.b/c)'), files),
    ).toEqual([])
    expect(brokenLinks(page('`[a](b.md)`\n\n```js\nf[0](x)\n```\n'), files)).toEqual([])
    expect(brokenLinks(page('[a](B.md) [b](#three) ![c](c.svg)'), files)).toEqual([
      'docs/A.md: B.md',
      'docs/A.md: #three',
      'docs/A.md: c.svg',
    ])
  })

  test('programs, not pieces of them', () => {
    const text = "text\n\n```js\nimport 'a'\n```\n\n```ts\nopen()\n```\n\n```sh\nimport a\n```\n"
    expect(programs(page(text))).toEqual([{ path: 'docs/A.md', line: 3, code: "import 'a'\n" }])
  })

  test('a name that is gone, at its line', () => {
    const code = "import { openDevice } from '@spillway/device'\n\nawait openDevices('host')\n"
    expect(typeErrors([{ path: 'docs/A.md', line: 7, code }])).toEqual([
      expect.stringMatching(/^docs\/A\.md:10: .*openDevices/),
    ])
  })
})
