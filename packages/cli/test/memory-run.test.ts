import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MemoryTrace } from '@spillway/device'
import { afterAll, expect, test } from 'vitest'
import { MemoryHistory } from '../src/memory-page/memory-history.js'
import { readMemoryTrace } from '../src/memory-trace.js'
import { spillway, startSpillway } from './command.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-memory-run-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const read = (path: string): MemoryTrace => readMemoryTrace(readFileSync(path, 'utf8'))
const small = ['--context-length', '128', '--max-tokens', '12', '--seed', '5', '--device', 'host']

test('run --memory-trace: all of the run, of a device that is given back', async () => {
  const path = join(scratch, 'run.json')
  const { status, stdout } = await spillway(['run', '--json', ...small, '--memory-trace', path])
  expect(status).toBe(0)
  const trace = read(path)
  const history = new MemoryHistory(trace)
  expect(history.problems).toEqual([])
  expect(trace.events[0]!.number).toBe(0)
  expect(trace.device).toMatch(/^host/)
  expect(history.reservedBytes[0]).toBe(0)
  // Bytes of weights, not only events: they were live at once, by their tag.
  const { stats } = JSON.parse(stdout) as { stats: { residentBytes: number } }
  const { live } = history.at(history.interestingMoment())
  const weights = [...live.values()].filter(({ tag }) => tag === 'weights')
  expect(weights.reduce((sum, { requestedBytes }) => sum + requestedBytes, 0)).toBeGreaterThanOrEqual(
    stats.residentBytes,
  )
  expect(trace.snapshot.stats.liveBytes).toBe(0)
  const shown = await spillway(['memory', '--json', path])
  expect(JSON.parse(shown.stdout)).toMatchObject({ events: trace.events.length, contradictions: 0 })
})

test('a run that does not fit leaves a trace whose failed allocation is where to look', async () => {
  const path = join(scratch, 'short.json')
  const words = ['run', ...small, '--device-memory', '4MiB', '--offload-backend', 'none', '--memory-trace', path]
  const { status, stderr } = await spillway(words)
  expect(status).toBe(1)
  expect(stderr).toMatch(/SPILLWAY_OUT_OF_MEMORY/)
  const history = new MemoryHistory(read(path))
  expect(history.outOfMemory.length).toBeGreaterThan(0)
  expect(history.events[history.interestingMoment() - 1]!.kind).toBe('outOfMemory')
  expect((await spillway(['memory', path])).stdout).toMatch(/were not to be had/)
})

test('Ctrl-C: the trace is whole, and nothing lies beside it', async () => {
  const path = join(scratch, 'interrupted.json')
  const slow = [
    '--device-memory',
    '6MiB',
    '--offload-backend',
    'prefetch',
    '--link-rate',
    '20MiB',
    '--max-tokens',
    '400',
  ]
  const { child, result } = startSpillway(['run', '--device', 'host', ...slow, '--seed', '5', '--memory-trace', path])
  child.stdout?.once('data', () => child.kill('SIGINT'))
  expect((await result).status).toBe(130)
  const { stats } = read(path).snapshot
  expect(stats.allocations).toBeGreaterThan(3)
  expect(stats.frees).toBe(stats.allocations)
  expect(readdirSync(scratch).filter((name) => name.startsWith('.'))).toEqual([])
})

test('a trace that cannot be written ends the run before it begins', async () => {
  const { status, stderr, stdout } = await spillway(['run', ...small, '--memory-trace', '/nowhere/trace.json'])
  expect(stderr).toMatch(/^SPILLWAY_MEMORY_TRACE_FILE: .*\/nowhere\/trace\.json/m)
  expect([status, stdout]).toEqual([1, ''])
})
