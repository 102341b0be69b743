// The harness itself, on the host device with small sizes: that everything runs, and that its arithmetic is right. How
// fast anything is, no test asks.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { benchmarks } from '../../bench/benchmarks/index.mjs'
import type { RunResult } from '../../bench/lib/result.js'
import { resultProblems } from '../../bench/lib/result-check.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'spillway-bench-test-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const names = Object.keys(benchmarks)
const main = join(root, 'bench/main.mjs')
const bench = (...words: string[]) => spawnSync(process.execPath, [main, ...words], { cwd: folder, encoding: 'utf8' })
const readResult = (file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as RunResult

describe('a quick run of everything on the host device', () => {
  const run = bench('--quick', '--device', 'host', '--out', `${folder}/`)
  const [file = ''] = readdirSync(folder)
  const result = readResult(file)
  const benchmark = (name: string) => result.benchmarks.find((one) => one.name === name)!

  test('ends well, and says where the result is', () => {
    expect(run.stdout).toContain(`written: ${file}`)
    expect(result.benchmarks.map(({ error }) => error)).toEqual(result.benchmarks.map(() => undefined))
    expect(run.status).toBe(0)
  })

  test('the file is named after date, machine and what ran', () => {
    expect(file).toBe(`${result.date.slice(0, 10)}-host-all-quick.json`)
  })

  test('says what it was measured on', () => {
    expect(result).toMatchObject({ schemaVersion: 1, quick: true, versions: { node: process.version } })
    expect(result.hardware).toMatchObject({ device: 'host', gpu: null, cpu: { threads: expect.any(Number) } })
    expect(result.hardware.memoryBytes).toBeGreaterThan(2 ** 28)
    expect(new Date(result.date).toISOString()).toBe(result.date)
  })

  test('every figure follows from its samples, every ratio from what it is held against', () => {
    expect(resultProblems(result)).toEqual([])
    const ratios = result.benchmarks.flatMap(({ figures }) => figures.filter(({ ratio }) => ratio !== undefined))
    expect(ratios.length).toBeGreaterThan(8)
  })

  test('every benchmark proved what it did', () => {
    for (const name of ['device', 'allocator', 'products', 'offload', 'decode', 'prefill', 'schedule', 'load']) {
      const { checks } = benchmark(name)
      expect(checks.length).toBeGreaterThan(2)
      expect(checks.filter(({ passed }) => !passed)).toEqual([])
    }
  })

  test('what a token moves over the link is what was offloaded', () => {
    const { figures, parameters } = benchmark('decode')
    const { against } = figures.find(({ name }) => name === 'decode, prefetch')!
    const offloaded = parameters['decode, prefetch, offloaded bytes'] as number
    // 6 layers of 256 × (512 + 256 + 3 · 512) + 2 · 256 elements.
    expect(offloaded).toBe(2 * 6 * (256 * (512 + 256 + 3 * 512) + 2 * 256))
    // Copies run ahead of the tokens, by two slots a sample at most.
    expect(Math.abs(against!.per / offloaded - 1)).toBeLessThan(0.1)
  })

  test('what a token reads of the device is all but the embedding, and the cache', () => {
    const { figures } = benchmark('decode')
    const { against } = figures.find(({ name }) => name === 'decode, resident')!
    const weights = 2 * (6 * (256 * (512 + 256 + 3 * 512) + 2 * 256) + 256 + 1024 * 256 + 256)
    const cacheRow = 2 * 2 * 6 * 2 * 64
    expect(against!.per).toBeGreaterThan(weights + 8 * cacheRow)
    expect(against!.per).toBeLessThan(weights + 256 * cacheRow)
  })

  test('the table has every figure', () => {
    for (const { figures } of result.benchmarks) for (const { name } of figures) expect(run.stdout).toContain(name)
  })
})

describe('the check of results finds', () => {
  const against = { kind: 'limit', figure: 'link', per: 2, value: 5 } as const
  const link = { name: 'link', unit: 'bytes/s', samples: [12, 8], median: 10, min: 8, max: 12 } as const
  const decode = {
    ...{ name: 'decode', unit: 'tokens/s', samples: [4, 4, 5], median: 4, min: 4, max: 5, against, ratio: 0.8 },
  } as const
  const problems = (...figures: object[]) => {
    const benchmark = { name: 'b', parameters: {}, figures, checks: [], notes: [] }
    return resultProblems({ schemaVersion: 1, benchmarks: [benchmark] } as unknown as RunResult)
  }

  test('nothing where nothing is wrong', () => expect(problems(link, decode)).toEqual([]))

  test.each([
    ['a mean for a median', [link, { ...decode, median: 13 / 3 }], /median 4.333/],
    ['a wrong ratio', [link, { ...decode, ratio: 0.9 }], /ratio 0.9, but its samples give 0.8/],
    ['a ratio of nothing', [link, { ...decode, against: undefined }], /ratio 0.8/],
    ['a limit of another run', [{ ...link, samples: [20], median: 20, min: 20, max: 20 }, decode], /held against 5/],
    ['a limit that is not there', [decode], /held against 'link', which is not there/],
    [
      'apples and pears',
      [link, { ...decode, against: { ...against, per: 1, value: 10 }, ratio: 0.4 }],
      /tokens\/s held/,
    ],
    ['a time of zero', [{ ...link, samples: [0, 10] }], /no positive number/],
    ['no samples', [{ ...link, samples: [] }], /no samples/],
  ])('%s', (_, figures, expected) => {
    expect(problems(...figures).join('\n')).toMatch(expected)
  })
})

describe('the command line', () => {
  test.each([
    [['decod'], new RegExp(`there is no benchmark 'decod': there are ${names.join(', ')}`)],
    [['--device', 'tpu'], /--device is cuda or host, not 'tpu'/],
    [['--fast'], /--fast/],
    [['--out', ''], /--out needs a path/],
  ])('refuses %j', (words, expected) => {
    const { status, stderr, stdout } = bench(...words)
    expect(stderr).toMatch(expected)
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })

  test('refuses a file that cannot be written before anything is measured', () => {
    const { status, stderr, stdout } = bench('--device', 'host', '--out', `${main}/under-a-file.json`)
    expect(stderr).toMatch(/^The result cannot be written: E/)
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })

  test('lists, helps', () => {
    const listed = bench('--list').stdout.trim().split('\n')
    expect(listed.map((line) => line.split(' ')[0])).toEqual(names)
    expect(bench('--help').stdout).toContain('--quick')
  })

  test('Ctrl-C ends it, and what was measured is written', async () => {
    const child = spawn(process.execPath, [main, '--device', 'host', '--out', 'interrupted.json'], { cwd: folder })
    child.stderr.once('data', () => child.kill('SIGINT'))
    const status = await new Promise((resolve) => child.once('exit', resolve))
    expect(status).toBe(130)
    expect(readResult('interrupted.json').benchmarks).toMatchObject([{ name: 'device', error: 'interrupted' }])
  })
})

describe('the report', () => {
  const report = (results: string) => spawnSync(process.execPath, [join(root, 'bench/report.mjs'), results])
  const file = 'run.json'

  test('shows the newest figures and the shares of their limits', () => {
    const results = mkdtempSync(join(folder, 'results-'))
    const [made = ''] = readdirSync(folder)
    const run = { ...readResult(made), quick: false }
    const older = { ...run, date: '2020-01-01T00:00:00.000Z' }
    const quick = { ...run, quick: true, date: '2999-01-01T00:00:00.000Z' }
    for (const [name, one] of Object.entries({ [file]: run, 'a-older.json': older, 'quick.json': quick })) {
      writeFileSync(join(results, name), JSON.stringify(one))
    }
    expect(report(results).status).toBe(0)
    const page = readFileSync(join(results, 'README.md'), 'utf8')
    const chart = readFileSync(join(results, 'ratios.svg'), 'utf8')
    expect(page.match(/^## /gm)).toHaveLength(run.benchmarks.filter(({ figures }) => figures.length > 0).length)
    expect(page).toContain(`[${file}](${file})`)
    expect(page).not.toMatch(/a-older|quick/)
    const { figures } = run.benchmarks.find(({ name }) => name === 'decode')!
    for (const { name, ratio } of figures) {
      expect(page).toContain(`| ${name} |`)
      if (name === 'decode, prefetch')
        expect(chart).toMatch(new RegExp(`${name}</text>.*>${(100 * ratio!).toFixed(1)} %<`))
    }
  })

  test('refuses a file whose numbers do not follow', () => {
    const results = mkdtempSync(join(folder, 'results-'))
    const [made = ''] = readdirSync(folder)
    writeFileSync(join(results, file), readFileSync(join(folder, made), 'utf8').replace('"ratio": 0.', '"ratio": 1.'))
    expect(report(results)).toMatchObject({ status: 1 })
    expect(readdirSync(results)).toEqual([file])
  })
})
