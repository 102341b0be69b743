import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'

const packages = fileURLToPath(new URL('../../packages', import.meta.url))
const probeFrom = new URL('./abi-probe.ts', import.meta.url).href
const folder = mkdtempSync(join(tmpdir(), 'spillway-copies-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A second installation of the device's package, as a dependency of another version would be. */
function secondCopy(): string {
  const copy = join(folder, 'node_modules/@spillway/device')
  mkdirSync(copy, { recursive: true })
  cpSync(join(packages, 'device/dist'), join(copy, 'dist'), { recursive: true })
  cpSync(join(packages, 'device/package.json'), join(copy, 'package.json'))
  symlinkSync(join(packages, 'core'), join(folder, 'node_modules/@spillway/core'), 'dir')
  return copy
}
const copy = secondCopy()

/** Child processes load what was built: vitest's transformation does not reach them. */
async function run(code: string, env: NodeJS.ProcessEnv = {}): Promise<unknown> {
  const file = join(folder, 'program.mjs')
  const device = (path: string) => JSON.stringify(join(path, 'dist/index.js'))
  writeFileSync(
    file,
    `const here = ${device(join(packages, 'device'))}
    const there = ${device(copy)}
    const core = ${JSON.stringify(join(packages, 'core/dist/index.js'))}
    const probeFrom = ${JSON.stringify(probeFrom)}
    const code = async (action) => {
      try {
        await action()
        return 'nothing was thrown'
      } catch ({ name, code, message }) {
        return [name, code, message]
      }
    }
    const say = (value) => console.log(JSON.stringify(value))
    ${code}`,
  )
  const { stdout } = await promisify(execFile)(process.execPath, [file], {
    env: { ...process.env, ...env },
    timeout: 50_000,
  })
  return JSON.parse(stdout)
}

test('a second copy of the device in the process is refused, with both paths, and the first goes on', async () => {
  const [refused, again, handles] = (await run(`
    const first = await import(here)
    const second = await import(there)
    const device = await first.openDevice('host', { memoryLimitBytes: 2 ** 20, threads: 1 })
    const refused = await code(() => second.openDevice('host'))
    const again = await code(() => second.attach())
    const event = device.createEvent()
    const { event: handles } = device.counters().liveHandles
    await event.dispose()
    await device.dispose()
    say([refused, again, handles])`)) as [string[], string[], number]
  expect(refused.slice(0, 2)).toEqual(['SpillwayError', 'SPILLWAY_DUPLICATE_DEVICE'])
  expect(refused[2]).toContain(copy)
  expect(refused[2]).toContain(join(packages, 'device'))
  expect(again.slice(0, 2)).toEqual(['SpillwayError', 'SPILLWAY_DUPLICATE_DEVICE'])
  expect(handles).toBe(1)
})

test('an object of another copy of the device is foreign, whichever of the two has the addon', async () => {
  const codes = (await run(`
    const first = await import(here)
    const second = await import(there)
    const device = await first.openDevice('host', { memoryLimitBytes: 2 ** 20, threads: 1 })
    const stream = device.createStream()
    const event = device.createEvent()
    // What the second copy makes of the first one's handle: it has no addon, so no object of it comes alive.
    const codes = [
      await code(() => second.handleOf(stream)),
      await code(() => new second.NativeGraph(first.handleOf(event))),
      await code(() => stream.record(Object.create(second.NativeEvent.prototype))),
      await code(() => second.NativeStream.prototype.record.call(stream, event)),
    ]
    stream.record(event)
    await stream.synchronize()
    await Promise.all([stream.dispose(), event.dispose()])
    await device.dispose()
    say(codes.map(([, code]) => code))`)) as string[]
  expect(codes).toEqual([
    'SPILLWAY_FOREIGN_HANDLE',
    'SPILLWAY_DUPLICATE_DEVICE',
    'SPILLWAY_FOREIGN_HANDLE',
    'SPILLWAY_DUPLICATE_DEVICE',
  ])
})

test('without a GPU every package imports, loads no addon and no driver, and says why CUDA is not there', async () => {
  const names = ['core', 'device', 'prefetch', 'decoder', 'checkpoint', 'demo-model']
  const result = (await run(
    `for (const name of ${JSON.stringify(names)}) await import(${JSON.stringify(packages)} + '/' + name + '/dist/index.js')
    const loaded = () => process.report.getReport().sharedObjects.filter((file) => /\\.node$|libcuda/.test(file))
    const before = loaded()
    const { cudaStatus, openDevice } = await import(here)
    const { available, reason } = cudaStatus()
    const refused = await code(() => openDevice('cuda'))
    const auto = await openDevice('auto', { memoryLimitBytes: 2 ** 20 })
    const { type } = auto
    await auto.dispose()
    say({ before, available, reason, refused, type })`,
    // Where there is a GPU, its driver shows none.
    { CUDA_VISIBLE_DEVICES: '' },
  )) as { before: string[]; available: boolean; reason: string; refused: string[]; type: string }
  expect(result).toMatchObject({ before: [], available: false, type: 'host' })
  expect(result.reason).toMatch(/\w+ \w+/)
  expect(result.refused.slice(0, 2)).toEqual(['SpillwayError', 'SPILLWAY_DEVICE_UNAVAILABLE'])
  expect(result.refused[2]).toContain(result.reason)
})
