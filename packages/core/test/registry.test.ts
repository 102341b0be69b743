import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  BackendRegistry,
  checkBackend,
  defaultRegistry,
  none,
  type OffloadBackend,
  parseBackendNames,
  SpillwayError,
} from '../src/index.js'
import { rejected, thrown } from './thrown.js'

/** The text of a module whose default export is a backend. */
const backendText = (name: string, more = ''): string => `export default {
  name: '${name}', apiVersion: 1, role: 'placement', options: {},
  supports: { offloads: true, graphs: true, unpinned: true, kernels: false, reload: false },
  async create() { throw new Error('not called here') }, ${more} }`

const backend = (name: string): OffloadBackend<never> => ({ ...none, name }) as OffloadBackend<never>

let folder = ''
let importModule: (specifier: string) => Promise<unknown>
// Real packages in a real node_modules, imported by Node.js itself: its errors are what the registry has to read.
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-registry-'))
  const files: Record<string, string> = {
    'node_modules/loader/index.js': 'export const load = (specifier) => import(specifier)',
    'node_modules/spillway-backend-good/index.js': backendText('good'),
    'node_modules/spillway-backend-other-name/index.js': backendText('good'),
    'node_modules/spillway-backend-throws/index.js': "throw new Error('out of luck')",
    'node_modules/spillway-backend-coded/index.js':
      "throw Object.assign(new Error('no addon'), { code: 'SPILLWAY_ADDON_NOT_FOUND' })",
    'node_modules/spillway-backend-needs-more/index.js': "import 'not-installed-at-all'\nexport default {}",
    'node_modules/spillway-backend-no-default/index.js': 'export const backend = 1',
    'node_modules/spillway-backend-future/index.js': backendText('future', 'apiVersion: 2'),
    'node_modules/spillway-backend-getter/index.js': `export default { get name() { throw new Error('ha') } }`,
    'node_modules/@mine/policy/index.js': backendText('policy'),
    'node_modules/@mine/policy/package.json': '{"name":"@mine/policy","type":"module","exports":"./index.js"}',
    'node_modules/@mine/common/package.json': '{"name":"@mine/common","exports":"./index.cjs"}',
    'node_modules/@mine/common/index.cjs': `Object.defineProperty(exports, '__esModule', { value: true })
      ${backendText('common').replace('export default', 'exports.default =')}`,
  }
  for (const [name, text] of Object.entries(files)) {
    const file = join(folder, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
    const bare = /^node_modules\/([^@/]+)\//.exec(name)?.[1]
    if (bare)
      writeFileSync(join(dirname(file), 'package.json'), `{"name":"${bare}","type":"module","exports":"./index.js"}`)
  }
  const loader = pathToFileURL(join(folder, 'node_modules/loader/index.js')).href
  const { load } = (await import(/* @vite-ignore */ loader)) as { load: typeof importModule }
  importModule = load
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('registering', () => {
  test('the default registry has none', async () => {
    expect(defaultRegistry.known()).toContainEqual({ name: 'none', install: undefined })
    expect(await defaultRegistry.resolve('none')).toBe(none)
  })

  test('registries are independent, names are unique in one', () => {
    const registry = new BackendRegistry().register(backend('mine'))
    expect(new BackendRegistry().known()).toEqual([])
    const error = thrown(() => registry.register(backend('mine')))
    expect(error.code).toBe('SPILLWAY_DUPLICATE_BACKEND')
    expect(thrown(() => registry.register({ name: 'mine', load: async () => none as never })).code).toBe(error.code)
    expect(registry.known()).toHaveLength(1)
  })

  test('what is neither a backend nor a lazy one is refused', () => {
    const registry = new BackendRegistry()
    for (const value of [null, 3, {}, { name: 'x' }, { name: 'Bad Name', load() {} }, { name: 'x', load: 3 }]) {
      expect(thrown(() => registry.register(value as never)).code).toBe('SPILLWAY_BACKEND_INVALID')
    }
    expect(registry.known()).toEqual([])
  })

  test('a lazy backend is loaded only when it is asked for', async () => {
    let loads = 0
    const registry = new BackendRegistry().register({
      name: 'lazy',
      install: 'npm install lazy-package',
      load: async () => {
        loads++
        return backend('lazy')
      },
    })
    expect(registry.known()).toEqual([{ name: 'lazy', install: 'npm install lazy-package' }])
    expect(loads).toBe(0)
    expect((await registry.resolve('lazy')).name).toBe('lazy')
    expect(loads).toBe(1)
  })

  test('a lazy backend whose package is not installed: the command that installs it', async () => {
    const registry = new BackendRegistry().register({
      name: 'lazy',
      package: '@not/installed',
      install: 'npm install @not/installed',
      load: async () => (await importModule('@not/installed')) as never,
    })
    const error = await rejected(registry.resolve('lazy'))
    expect(error.code).toBe('SPILLWAY_UNKNOWN_BACKEND')
    expect(error.message).toContain('npm install @not/installed')
    expect(error.cause).toMatchObject({ code: 'ERR_MODULE_NOT_FOUND' })
  })

  test('a lazy backend that fails otherwise, or calls itself something else', async () => {
    const registry = new BackendRegistry()
      .register({
        name: 'broken',
        package: '@not/installed',
        load: () => importModule('spillway-backend-throws') as never,
      })
      .register({ name: 'renamed', load: async () => backend('other') })
    expect(await rejected(registry.resolve('broken'))).toMatchObject({
      code: 'SPILLWAY_BACKEND_FAILED',
      cause: { message: 'out of luck' },
    })
    expect((await rejected(registry.resolve('renamed'))).message).toContain('calls itself other')
  })
})

describe('resolving', () => {
  const registry = new BackendRegistry()
    .register(none as OffloadBackend<never>)
    .register({ name: 'prefetch', install: 'npm install @spillway/prefetch', load: async () => backend('prefetch') })

  test('a bare name is exactly the package spillway-backend-<name>', async () => {
    const asked: string[] = []
    const spy = (specifier: string): Promise<unknown> => {
      asked.push(specifier)
      return importModule(specifier)
    }
    expect((await registry.resolve('good', { importModule: spy })).name).toBe('good')
    expect(asked).toEqual(['spillway-backend-good'])
  })

  test('a module specifier is passed on as it is', async () => {
    expect((await registry.resolve('@mine/policy', { importModule })).name).toBe('policy')
    expect((await registry.resolve('@mine/common', { importModule })).name).toBe('common')
    const good = join(folder, 'node_modules/spillway-backend-good/index.js')
    expect((await registry.resolve(good, { importModule })).name).toBe('good')
  })

  test('a registered name never asks for a module', async () => {
    const never = (): Promise<unknown> => Promise.reject(new Error('asked'))
    expect((await registry.resolve('prefetch', { importModule: never })).name).toBe('prefetch')
  })

  test.each<[string, RegExp]>([
    ['prefech', /did you mean prefetch\?.*known here: none, prefetch/],
    ['nonesuch', /npm install spillway-backend-nonesuch/],
    ['@not/there', /npm install @not\/there \(/],
    ['@not/there/deep', /npm install @not\/there \(/],
  ])('%s is unknown, and the error says what is known and what to do', async (name, text) => {
    const error = await rejected(registry.resolve(name, { importModule }))
    expect(error.code).toBe('SPILLWAY_UNKNOWN_BACKEND')
    expect(error.message).toMatch(text)
    expect(error.details.known).toEqual(['none', 'prefetch'])
  })

  test('whoever mistypes a name is not told to install the package of the wrong one', async () => {
    const error = await rejected(registry.resolve('prefech', { importModule }))
    expect(error.message).not.toContain('install')
    expect(error.details.install).toBeUndefined()
  })

  test('a path that the importer says is not there is unknown', async () => {
    const error = await rejected(registry.resolve('./nothing.js', { importModule: async () => undefined }))
    expect(error.code).toBe('SPILLWAY_UNKNOWN_BACKEND')
    expect(error.message).not.toContain('npm install')
  })

  test.each(['Upper', 'a b', '', 'a_b', '-a', 'a--b', 'x'.repeat(65), 'a\0b', '__proto__', 'C:\\x'])(
    'the name %j asks nobody',
    async (name) => {
      let asked = false
      const spy = async (): Promise<unknown> => {
        asked = true
        return undefined
      }
      const error = await rejected(registry.resolve(name, { importModule: spy }))
      expect(error.code).toBe('SPILLWAY_UNKNOWN_BACKEND')
      expect(asked).toBe(false)
    },
  )

  test.each<[string, string, RegExp]>([
    ['throws', 'SPILLWAY_BACKEND_FAILED', /was found, but failed.*out of luck/],
    ['needs-more', 'SPILLWAY_BACKEND_FAILED', /not-installed-at-all/],
    ['coded', 'SPILLWAY_ADDON_NOT_FOUND', /no addon/],
    ['no-default', 'SPILLWAY_BACKEND_INVALID', /no default export/],
    ['other-name', 'SPILLWAY_BACKEND_INVALID', /calls itself good/],
    ['future', 'SPILLWAY_BACKEND_API_VERSION', /version 2 .* version 1/],
    ['getter', 'SPILLWAY_BACKEND_INVALID', /reading what the backend says of itself failed/],
  ])('the package spillway-backend-%s ends in %s', async (name, code, text) => {
    const error = await rejected(registry.resolve(name, { importModule }))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(text)
  })

  test.each<[string, unknown]>([
    ['an error that only quotes the package', new Error("'spillway-backend-x' exploded")],
    ['null', null],
  ])('an import that rejects with %s is a failure, not an unknown name', async (_, reason) => {
    const error = await rejected(registry.resolve('x', { importModule: () => Promise.reject(reason) }))
    expect(error.code).toBe('SPILLWAY_BACKEND_FAILED')
    expect(error.cause).toBe(reason)
  })

  test('without an importer a name that is not registered is unknown', async () => {
    expect((await rejected(registry.resolve('good'))).code).toBe('SPILLWAY_UNKNOWN_BACKEND')
  })
})

describe('a value that should be a backend', () => {
  const good = { ...none }
  test.each<[string, unknown]>([
    ['null', null],
    ['a function', () => good],
    ['no name', { ...good, name: undefined }],
    ['a name with spaces', { ...good, name: 'a b' }],
    ['apiVersion as text', { ...good, apiVersion: '1' }],
    ['an unknown role', { ...good, role: 'both' }],
    ['no create', { ...good, create: undefined }],
    ['no supports', { ...good, supports: undefined }],
    ['a missing supports flag', { ...good, supports: { ...good.supports, graphs: undefined } }],
    ['a supports flag that is no boolean', { ...good, supports: { ...good.supports, reload: 'yes' } }],
    ['no options', { ...good, options: undefined }],
    ['malformed options', { ...good, options: { a: { type: 'x', help: 'y' } } }],
    [
      'a proxy that throws',
      new Proxy(
        {},
        {
          get() {
            throw new Error('no')
          },
        },
      ),
    ],
  ])('%s is refused', (_, value) => {
    expect(thrown(() => checkBackend(value, 'here')).code).toBe('SPILLWAY_BACKEND_INVALID')
  })

  test('the sentence says what it is instead', () => {
    expect(thrown(() => checkBackend(null, 'here')).message).toMatch(/^here: a backend is an object, not null/)
    expect(thrown(() => checkBackend({ ...good, supports: null }, 'here')).message).toMatch(
      /supports must be an object/,
    )
  })

  test.each([0, 2, 1.5, Number.NaN])('apiVersion %s is refused with both versions', (apiVersion) => {
    const error = thrown(() => checkBackend({ ...good, apiVersion }, 'here'))
    expect(error.code).toBe('SPILLWAY_BACKEND_API_VERSION')
    expect(error.details).toMatchObject({ backendApiVersion: apiVersion, coreApiVersion: 1 })
  })

  test('what is read is read once and frozen', () => {
    const checked = checkBackend(good, 'here')
    expect(checked.supports).toEqual(none.supports)
    expect(checked.supports).not.toBe(none.supports)
    expect(Object.isFrozen(checked.supports)).toBe(true)
  })
})

describe('parseBackendNames', () => {
  test.each<[string, string[]]>([
    ['prefetch', ['prefetch']],
    ['prefetch+cumem-pool', ['prefetch', 'cumem-pool']],
    ['cumem-pool + prefetch', ['cumem-pool', 'prefetch']],
    ['./mine.js+cumem-pool', ['./mine.js', 'cumem-pool']],
    ['@mine/policy', ['@mine/policy']],
  ])('%s', (text, names) => {
    expect(parseBackendNames(text)).toEqual(names)
  })

  test.each<[string, string]>([
    ['', 'SPILLWAY_INVALID_OPTION'],
    ['+', 'SPILLWAY_INVALID_OPTION'],
    ['prefetch+', 'SPILLWAY_INVALID_OPTION'],
    ['Prefetch', 'SPILLWAY_INVALID_OPTION'],
    ['./c++/mine.js', 'SPILLWAY_INVALID_OPTION'],
    ['prefetch,cumem-pool', 'SPILLWAY_INVALID_OPTION'],
    ['prefetch+prefetch', 'SPILLWAY_BACKEND_CONFLICT'],
    ['a+b+c', 'SPILLWAY_BACKEND_CONFLICT'],
  ])('%j is refused', (text, code) => {
    const error = thrown(() => parseBackendNames(text))
    expect(error).toBeInstanceOf(SpillwayError)
    expect(error.code).toBe(code)
  })

  test('what is no text is refused', () => {
    expect(thrown(() => parseBackendNames(3 as never)).code).toBe('SPILLWAY_INVALID_OPTION')
  })
})
