import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { mostTracedTokens } from '../src/step-trace.js'
import { spillway, startSpillway } from './command.js'
import type { ExplainedRun, Span } from './explained-run.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-explain-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const base = ['run', '--device', 'host', '--context-length', '128', '--seed', '5']
const linkRate = 200 * 2 ** 20
const offloaded = ['--offload-backend', 'prefetch', '--offload-group-size', '1', '--link-rate', String(linkRate)]

/** By lane, in the order of time. */
function lanesOf(path: string): Readonly<Record<string, readonly Span[]>> {
  const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as { traceEvents: (Span & { name: string })[] }
  const names = traceEvents.filter(({ name }) => name === 'thread_name') as unknown as {
    tid: number
    args: { name: string }
  }[]
  const spansOf = (tid: number) => traceEvents.filter((event) => event.ph === 'X' && event.tid === tid)
  return Object.fromEntries(names.map(({ tid, args }) => [args.name, spansOf(tid)]))
}

test('run --explain --trace: the plan, what was measured beside it, and a trace of the same tokens', async () => {
  const path = join(scratch, 'run.json')
  const maxTokens = mostTracedTokens + 4
  const words = [...base, ...offloaded, '--json', '--max-tokens', String(maxTokens)]
  const plain = JSON.parse((await spillway(words)).stdout) as ExplainedRun
  const { status, stdout } = await spillway([...words, '--explain', '--trace', path])
  expect(status).toBe(0)
  const { tokens, stats, explanation, trace } = JSON.parse(stdout) as ExplainedRun
  expect(tokens).toEqual(plain.tokens)
  expect(tokens).toHaveLength(maxTokens)
  expect(trace).toBe(path)

  const { limits, before, after, measuredTokens } = explanation
  const onloads = stats.onloads!.modules
  const layers = onloads.map(({ module }) => module)
  expect(layers).toHaveLength(16)
  const linkMs = (bytes: number): number => (1000 * bytes) / linkRate
  expect(limits.linkBytesPerSecond).toBeLessThan(1.01 * linkRate)
  expect(before.memory.hostBytes).toBe(stats.offloadedBytes)
  expect(before.modules.filter(({ storage }) => storage === 'pinned').map(({ module }) => module)).toEqual(layers)
  expect(before.predictedStepMs).toBeGreaterThan(0.99 * linkMs(stats.offloadedBytes))
  expect(before.measuredStepMs).toBeUndefined()

  // What no link and no kernel can do faster. Two slots may have been filled ahead of what was measured.
  expect(measuredTokens).toBe(mostTracedTokens - 1)
  expect(after!.predictedStepMs).toBeGreaterThan(0.99 * linkMs(stats.offloadedBytes))
  expect(after!.measuredStepMs! * measuredTokens!).toBeGreaterThan(
    0.99 * linkMs(stats.offloadedBytes * measuredTokens! - stats.slotBytes),
  )
  for (const { module, predicted, measured } of after!.modules) {
    expect(measured!.computeMs, module).toBeGreaterThan(0)
    expect(predicted!.computeMs).toBe(measured!.computeMs)
    const bytes = onloads.find((one) => one.module === module)?.bytes ?? 0
    expect(measured!.linkMs > 0, module).toBe(bytes > 0)
    expect(measured!.linkMs).toBeGreaterThanOrEqual(0.99 * linkMs(bytes))
  }
  // Measuring the limits took none of the run's memory.
  expect(after!.measuredPeakDeviceBytes).toBe(plain.stats.peakDeviceBytes)

  const lanes = lanesOf(path)
  expect(Object.keys(lanes)).toEqual(['compute', 'copy', 'wait'])
  // The prompt's forward and the tokens'; each copies everything once.
  const forwards = 1 + mostTracedTokens
  for (const { module, bytes } of onloads) {
    const copies = lanes.copy!.filter(({ args }) => args.module === module)
    expect(copies.map(({ args }) => args.bytes)).toEqual(new Array(forwards).fill(bytes))
  }
  expect(lanes.copy!.reduce((sum, { args }) => sum + args.bytes!, 0)).toBe(forwards * stats.offloadedBytes)
  for (const { module } of before.modules) {
    expect(lanes.compute!.filter(({ args }) => args.module === module)).toHaveLength(forwards)
  }
  expect(lanes.wait!.length).toBeGreaterThan(0)
  // Two traces on one clock: what a lane does, it does one after another.
  for (const spans of [lanes.compute!, lanes.copy!]) {
    for (const [i, { ts }] of spans.slice(1).entries()) expect(ts).toBeGreaterThan(spans[i]!.ts + spans[i]!.dur - 1)
  }
})

test('for people: a table before the weights are loaded, one after the text, and stdout has the text alone', async () => {
  const { status, stdout, stderr } = await spillway([...base, ...offloaded, '--max-tokens', '6', '--explain'])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^The captain/)
  expect(stdout).not.toMatch(/module|MiB/)
  const lines = stderr.split('\n')
  const at = (pattern: RegExp): number => {
    const found = lines.findIndex((line) => pattern.test(line))
    expect(found, String(pattern)).toBeGreaterThanOrEqual(0)
    return found
  }
  const before = at(/^module +device +host +storage +slot +predicted compute +predicted link +wait +hidden$/)
  const after = at(/^module +host +measured compute +predicted link +wait +hidden +measured link +wait +hidden$/)
  const loaded = at(/, loaded in /)
  expect(before).toBeLessThan(loaded)
  expect(loaded).toBeLessThan(after)
  expect(lines[before + 2]).toMatch(/^model\.layers\.0 +- +\S+ KiB +pinned +0( +\S+ ms){3} +\d+ %$/)
  expect(lines[after + 2]).toMatch(/^model\.layers\.0 +\S+ KiB( +\S+ ms){3} +\d+ %( +\S+ ms){2} +\d+ %$/)
  expect(at(/^on the device: /)).toBeLessThan(loaded)
  expect(lines.filter((line) => line.startsWith('on the device: '))).toHaveLength(1)
  expect(at(/^at most .* planned, .* measured$/)).toBeGreaterThan(after)
  expect(at(/^a step: .* predicted, .* measured$/)).toBeGreaterThan(after)
})

test('--max-tokens 0: the plan alone', async () => {
  const { status, stdout, stderr } = await spillway([...base, ...offloaded, '--json', '--explain', '--max-tokens', '0'])
  expect(stderr).not.toMatch(/loaded|SPILLWAY/)
  expect(status).toBe(0)
  const { explanation, ...rest } = JSON.parse(stdout) as ExplainedRun
  expect(rest).toEqual({})
  expect(explanation.after).toBeUndefined()
  expect(explanation.before.modules.filter(({ hostBytes }) => hostBytes > 0)).toHaveLength(16)
})

test('a text of one token measures nothing, and says so', async () => {
  const path = join(scratch, 'one.json')
  const words = [...base, ...offloaded, '--max-tokens', '1', '--explain', '--trace', path]
  const { status, stderr } = await spillway(words)
  expect(status).toBe(0)
  expect(stderr).toMatch(/no token was measured/)
  expect(stderr).not.toMatch(/NaN|Infinity/)
  expect(lanesOf(path).copy).toHaveLength(16)
})

test('auto that keeps everything on the device: the step by the clock, no trace, and a note about it', async () => {
  const path = join(scratch, 'resident.json')
  const { status, stdout, stderr } = await spillway([
    ...base,
    '--json',
    '--max-tokens',
    '6',
    '--explain',
    '--trace',
    path,
  ])
  expect(status).toBe(0)
  expect(stderr).toMatch(/note: .*resident\.json is not written: /)
  const { explanation, trace, tokens } = JSON.parse(stdout) as ExplainedRun
  expect([trace, tokens.length, existsSync(path)]).toEqual([null, 6, false])
  expect(explanation.measuredTokens).toBe(5)
  // Every byte of the weights is read once, from memory this fast.
  const { before, after, limits } = explanation
  expect(before.predictedStepMs).toBeGreaterThan(0)
  expect(after!.measuredStepMs).toBeGreaterThan(0)
  expect(limits.deviceBytesPerSecond).toBeGreaterThan(0)
  expect(after!.modules.every(({ measured }) => measured === undefined)).toBe(true)
})

test('Ctrl-C while tokens are traced: no file, and nothing beside it', async () => {
  const directory = join(scratch, 'interrupted')
  mkdirSync(directory)
  const slow = ['--offload-backend', 'prefetch', '--offload-group-size', '1', '--link-rate', '20MiB']
  const words = [...base, ...slow, '--max-tokens', '100', '--trace', join(directory, 'trace.json')]
  const { child, result } = startSpillway(words)
  child.stdout?.once('data', () => child.kill('SIGINT'))
  const { status, stderr } = await result
  expect(stderr).toMatch(/interrupted/)
  expect(status).toBe(130)
  expect(readdirSync(directory)).toEqual([])
})

test('a trace that cannot be written any more fails the run with its code', async () => {
  const directory = join(scratch, 'removed')
  mkdirSync(directory)
  const words = [...base, ...offloaded, '--max-tokens', '40', '--trace', join(directory, 'trace.json')]
  const { child, result } = startSpillway(words)
  child.stdout?.once('data', () => rmSync(directory, { recursive: true }))
  const { status, stderr } = await result
  expect(stderr).toMatch(/^SPILLWAY_TRACE_FILE: .*removed\/trace\.json/m)
  expect(status).toBe(1)
})

test.each([
  ['cannot be written', ['--trace', '/nowhere/trace.json'], 1, /^SPILLWAY_TRACE_FILE: .*\/nowhere\/trace\.json/m],
  ['is a directory', ['--trace', scratch], 1, /^SPILLWAY_TRACE_FILE: .*directory/m],
  ['has no name', ['--trace', ''], 2, /SPILLWAY_USAGE.*--trace/],
  ['is the memory trace', ['--trace', './a.json', '--memory-trace', 'a.json'], 2, /SPILLWAY_USAGE.*--trace/],
  [
    'is of a backend that copies nothing',
    ['--trace', join(scratch, 'none.json'), '--offload-backend', 'none'],
    1,
    /^SPILLWAY_NOT_SUPPORTED: --trace.*none/m,
  ],
  ['is of no tokens', ['--trace', join(scratch, 'none.json'), '--explain', '--max-tokens', '0'], 2, /SPILLWAY_USAGE/],
])('a trace that %s is refused before anything is loaded', async (_, words, status, message) => {
  const result = await spillway([...base, ...words], { cwd: scratch })
  expect(result.stderr).toMatch(message)
  expect(result.stderr).not.toMatch(/loaded in/)
  expect([result.status, result.stdout]).toEqual([status, ''])
  expect(readdirSync(scratch).filter((name) => /^\.|none|a\.json/.test(name))).toEqual([])
})

test('--max-tokens 0 without --explain is a mistake', async () => {
  const { status, stderr } = await spillway([...base, '--max-tokens', '0'])
  expect([status, stderr]).toEqual([2, expect.stringMatching(/SPILLWAY_USAGE.*--explain/)])
})
