import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MemoryTrace, type TracedDevice, writeMemoryTrace } from '@spillway/device'
import { afterAll, expect, test } from 'vitest'
import { readMemoryTrace } from '../../packages/cli/src/memory-trace.js'
import { probe } from '../allocator/allocator-probe.js'
import { AllocatorRig } from '../allocator/allocator-rig.js'
import { memoryTraceOf } from './recorded-trace.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-trace-file-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** The allocator of a device, by itself. */
class RigDevice implements TracedDevice {
  readonly rig = new AllocatorRig()
  traces = 0
  failure: Error | undefined

  startMemoryTrace({ events = 1000 }: { events?: number }): void {
    probe.startTrace(this.rig.handle, events)
  }

  memoryTrace(): MemoryTrace {
    this.traces++
    if (this.failure !== undefined) throw this.failure
    return memoryTraceOf(this.rig, 2 ** 40)
  }
}

const read = (path: string): MemoryTrace => readMemoryTrace(readFileSync(path, 'utf8'))
function folder(name: string): string {
  const path = join(scratch, name)
  mkdirSync(path)
  return path
}

test('the file is there at once, follows, is whole whenever it is read, and has the end', async () => {
  const device = new RigDevice()
  const path = join(folder('follows'), 'trace.json')
  const file = await writeMemoryTrace(device, path, { everyMs: 1, events: 500 })
  expect(read(path).events).toEqual([])
  let last = 0
  let inode = statSync(path).ino
  let renames = 0
  for (let i = 0; i < 60 || renames < 5; i++) {
    device.rig.free(device.rig.allocate(1000 + i, { tag: `tag ${i}` }))
    await new Promise((resolve) => setTimeout(resolve, 2))
    const { events } = read(path)
    expect(events.length).toBeGreaterThanOrEqual(Math.min(last, 500))
    last = events.length
    if (statSync(path).ino !== inode) renames++
    inode = statSync(path).ino
  }
  device.rig.allocate(5, { tag: 'the last' })
  await file.close()
  await file.close()
  expect(read(path).events.at(-1)).toMatchObject({ kind: 'allocate', tag: 'the last' })
  expect(readdirSync(join(scratch, 'follows'))).toEqual(['trace.json'])
  const { traces } = device
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(device.traces, 'nothing is written after close').toBe(traces)
  device.rig.allocate(5)
  expect(probe.trace(device.rig.handle).events, 'tracing has ended').toEqual([])
})

test('an abort writes a last time; so does leaving the scope', async () => {
  const device = new RigDevice()
  const path = join(folder('abort'), 'trace.json')
  const abort = new AbortController()
  const file = await writeMemoryTrace(device, path, { signal: abort.signal })
  device.rig.allocate(7, { tag: 'before the abort' })
  abort.abort()
  await file.close()
  expect(read(path).events.at(-1)!.tag).toBe('before the abort')
  {
    await using _ = await writeMemoryTrace(device, path)
    device.rig.allocate(7, { tag: 'in the scope' })
  }
  expect(read(path).events.at(-1)!.tag).toBe('in the scope')
})

test('what cannot be written is an error with a code, and nothing is left behind', async () => {
  const device = new RigDevice()
  const nowhere = writeMemoryTrace(device, join(scratch, 'nowhere', 'trace.json'))
  await expect(nowhere).rejects.toMatchObject({
    code: 'SPILLWAY_MEMORY_TRACE_FILE',
    // And no file of a name that nobody has given.
    message: expect.stringMatching(/nowhere\/trace\.json.?: there is no directory \S*nowhere \(ENOENT\)$/) as string,
  })
  const here = folder('is-a-folder')
  mkdirSync(join(here, 'trace.json'))
  await expect(writeMemoryTrace(device, join(here, 'trace.json'))).rejects.toMatchObject({
    code: 'SPILLWAY_MEMORY_TRACE_FILE',
  })
  expect(readdirSync(here)).toEqual(['trace.json'])

  // Gone while it was written: the last write says so.
  const gone = folder('gone')
  const file = await writeMemoryTrace(device, join(gone, 'trace.json'), { everyMs: 1 })
  rmSync(gone, { recursive: true })
  await new Promise((resolve) => setTimeout(resolve, 20))
  await expect(file.close()).rejects.toMatchObject({ code: 'SPILLWAY_MEMORY_TRACE_FILE' })
})

test('a device that gives no trace any more leaves the file as it was', async () => {
  const device = new RigDevice()
  const path = join(folder('device'), 'trace.json')
  const file = await writeMemoryTrace(device, path)
  device.failure = Object.assign(new Error('disposed'), { code: 'SPILLWAY_DISPOSED' })
  await expect(file.close()).rejects.toMatchObject({ code: 'SPILLWAY_DISPOSED' })
  expect(read(path).events).toEqual([])
  expect(readdirSync(join(scratch, 'device'))).toEqual(['trace.json'])
})

test.each([
  ['', {}],
  ['a\0b', {}],
  [7 as unknown as string, {}],
  ['trace.json', { everyMs: 0 }],
  ['trace.json', { everyMs: Number.NaN }],
  ['trace.json', { signal: 1 as unknown as AbortSignal }],
])('%j, %j is an argument it does not take', async (path, options) => {
  await expect(writeMemoryTrace(new RigDevice(), path, options)).rejects.toMatchObject({
    code: 'SPILLWAY_INVALID_ARGUMENT',
  })
})
