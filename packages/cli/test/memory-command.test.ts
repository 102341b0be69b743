import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, expect, test } from 'vitest'
import { type RunningCommand, spillway, startSpillway } from './command.js'
import { MiB, smallTrace } from './small-trace.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-memory-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const trace = join(scratch, 'trace.json')
writeFileSync(trace, JSON.stringify(smallTrace))

/** The trace in a page. */
function dataOf(page: string): unknown {
  const base64 = /id="trace">([A-Za-z0-9+/=]+)<\/script>/.exec(page)?.[1] ?? ''
  return JSON.parse(gunzipSync(Buffer.from(base64, 'base64')).toString()) as unknown
}

test('for people: figures where memory ran out, tags, free blocks, pools, and a bar for each segment', async () => {
  const { status, stdout, stderr } = await spillway(['memory', trace])
  expect([status, stderr]).toEqual([0, ''])
  expect(stdout).toContain('a device, limit 32 MiB; 5 events')
  expect(stdout).toContain('when 16 MiB (kv_cache) were not to be had, event 4')
  expect(stdout).toMatch(/reserved +20 MiB in 1 segment\n +live +8 MiB, 100 bytes of it lost to rounding/)
  expect(stdout).toMatch(/cached +12 MiB, the largest free block 12 MiB\n +fragmentation +0\.0 %/)
  expect(stdout).toMatch(/live, by tag:\n +weights +8 MiB/)
  expect(stdout).toMatch(/8 MiB to 16 MiB +1, together 12 MiB/)
  expect(stdout).toMatch(/all +reserved 20 MiB .* 2 allocations, 1 free, 1 out of memory/)
  // Two fifths of it are live.
  const bar = /20 MiB \|(.*)\|/.exec(stdout)![1]!
  expect(bar.replace(/[^█]/g, '').length / bar.length).toBeCloseTo(0.4, 1)
})

test('--json: one object', async () => {
  const { stdout } = await spillway(['memory', '--json', trace])
  expect(stdout.trimEnd().split('\n')).toHaveLength(1)
  expect(JSON.parse(stdout)).toMatchObject({
    trace,
    device: 'a device',
    events: 5,
    moment: 5,
    contradictions: 0,
    figures: {
      reservedBytes: 20 * MiB,
      largestFreeBytes: 12 * MiB,
      fragmentation: 0,
      liveBytesByTag: { weights: 8 * MiB },
    },
    stats: { outOfMemory: 1 },
  })
})

test('--html: one file with everything in it, and none of the trace as markup', async () => {
  const hostile = '</script><script>alert(1)</script>'
  const path = join(scratch, 'hostile.json')
  writeFileSync(path, JSON.stringify(smallTrace).replaceAll('weights', hostile.replaceAll('/', '\\/')))
  const html = join(scratch, 'page.html')
  const { status, stdout } = await spillway(['memory', '--html', html, path])
  expect([status, stdout]).toEqual([0, `${html}: 5 events of a device\n`])
  const page = readFileSync(html, 'utf8')
  expect(page).not.toContain('alert(1)')
  expect(JSON.stringify(dataOf(page))).toContain(hostile)
  expect(page.match(/<script/g)).toHaveLength(2)
  expect(/\s(src|href)=["']|@import|url\(|https?:/.exec(page)?.[0]).toBeUndefined()
  expect(page).toMatch(/default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-/)
})

test('what contradicts itself is told, and shown all the same', async () => {
  const path = join(scratch, 'contradicts.json')
  writeFileSync(
    path,
    JSON.stringify({ ...smallTrace, events: smallTrace.events.filter(({ kind }) => kind !== 'free') }),
  )
  const { status, stdout, stderr } = await spillway(['memory', path])
  expect(status).toBe(0)
  expect(stderr).toMatch(/^note: event 2 allocates 4194304 bytes at 10485760, where no block is live after it/)
  expect(stdout).toContain('4 events')
})

test('names cannot move the cursor of a terminal', async () => {
  const path = join(scratch, 'escape.json')
  writeFileSync(
    path,
    JSON.stringify({ ...smallTrace, device: '\u001b[2J\u009bx\u202e' }).replaceAll('weights', 'w\\u001b]0;'),
  )
  const { stdout } = await spillway(['memory', path])
  expect(stdout).toContain('?[2J?x?, limit')
  expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
})

test.each([
  [['memory'], 2, /SPILLWAY_USAGE: memory needs a trace/],
  [['memory', trace, 'another'], 2, /SPILLWAY_USAGE: 'another' is not an option/],
  [['memory', trace, '--watch'], 2, /SPILLWAY_USAGE: --watch .*--html FILE/],
  [['memory', trace, '--html', ''], 2, /SPILLWAY_USAGE: --html/],
  [
    ['memory', join(scratch, 'nowhere.json')],
    1,
    /SPILLWAY_MEMORY_TRACE_FILE: .*nowhere\.json.* cannot be read: ENOENT/,
  ],
  [['memory', scratch], 1, /SPILLWAY_MEMORY_TRACE_FILE: .* cannot be read: EISDIR/],
  [
    ['memory', join(import.meta.dirname, 'command.ts')],
    1,
    /SPILLWAY_INVALID_MEMORY_TRACE: .*command\.ts.* it is no JSON/,
  ],
  [
    ['memory', trace, '--html', '/nowhere/page.html'],
    1,
    /SPILLWAY_MEMORY_TRACE_FILE: .* cannot be written: there is no directory .nowhere/,
  ],
])('%j ends with %d', async (words, status, message) => {
  const result = await spillway(words)
  expect(result.stderr).toMatch(message)
  expect(result.stderr).not.toMatch(/\n\s+at /)
  expect([result.status, result.stdout]).toEqual([status, ''])
})

test('a page that cannot take its place leaves nothing beside it', async () => {
  const folder = join(scratch, 'folder')
  mkdirSync(join(folder, 'page.html'), { recursive: true })
  expect((await spillway(['memory', trace, '--html', join(folder, 'page.html')])).status).toBe(1)
  expect(readdirSync(folder)).toEqual(['page.html'])
})

test('--watch: waits for a trace, follows it, bears half of one, and ends on Ctrl-C', async () => {
  const [path, html] = [join(scratch, 'watched.json'), join(scratch, 'watched.html')]
  const running = startSpillway(['memory', path, '--html', html, '--watch'])
  const page = (): string => readFileSync(html, 'utf8')
  await says(running, `waiting for ${path}`)
  writeFileSync(path, JSON.stringify(smallTrace))
  await says(running, '5 events')
  expect(page()).toContain('data-watch')
  writeFileSync(path, '{"format":"spillway-mem')
  await says(running, 'it is no JSON')
  expect(dataOf(page())).toEqual(smallTrace)
  writeFileSync(path, JSON.stringify({ ...smallTrace, device: 'another', events: [] }))
  await says(running, '0 events of another')
  expect(dataOf(page())).toMatchObject({ device: 'another' })
  running.child.kill('SIGINT')
  const { status, stderr } = await running.result
  expect(stderr).toMatch(/interrupted/)
  expect(status).toBe(130)
})

function says({ child }: RunningCommand, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let all = ''
    const look = (part: string): void => {
      all += part
      if (!all.includes(text)) return
      child.stdout?.off('data', look)
      child.stderr?.off('data', look)
      resolve()
    }
    child.stdout?.on('data', look)
    child.stderr?.on('data', look)
    child.once('exit', () => reject(new Error(`ended without ${text}: ${all}`)))
  })
}
