import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openDevice } from '@spillway/device'
import { afterAll, describe, expect, test } from 'vitest'
import { Copy } from '../../bench/lib/copy.mjs'
import { against, figure, median } from '../../bench/lib/figure.mjs'
import { interleave } from '../../bench/lib/interleave.mjs'
import { Peer } from '../../bench/lib/peer.mjs'
import { fileName, outFile } from '../../bench/lib/result-file.mjs'
import { throughput } from '../../bench/lib/samplers.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'spillway-bench-parts-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const { signal } = new AbortController()
const quietly = { signal, progress: () => {} }
const MiB = 2 ** 20

test('medians', () => {
  expect(median([3])).toBe(3)
  expect(median([9, 1, 5])).toBe(5)
  expect(median([10, 1, 5, 4])).toBe(4.5)
})

test('a figure in another unit than its limit is held against the limit by what one of it needs', () => {
  const link = figure('link', 'bytes/s', [50e9, 60e9])
  expect(figure('decode', 'tokens/s', [5, 4], against('limit', link, 10e9))).toMatchObject({
    against: { kind: 'limit', figure: 'link', per: 10e9, value: 5.5 },
    ratio: 4.5 / 5.5,
  })
})

describe('subjects take turns', () => {
  test('forward, then backward', async () => {
    let order = ''
    const subject = (name: string, value: number) => async () => {
      order += name
      return value
    }
    const samples = await interleave({ a: subject('a', 1), b: subject('b', 2) }, { rounds: 2, ...quietly })
    expect(order).toBe('abbaabba')
    expect(samples('b')).toEqual([2, 2, 2, 2])
    expect(() => samples('c')).toThrow("no subject is called 'c'")
  })

  test('until interrupted', async () => {
    const interrupt = new AbortController()
    let taken = 0
    const sample = async () => {
      if (++taken === 3) interrupt.abort()
      return 1
    }
    const rounds = { rounds: 9, signal: interrupt.signal, progress: () => {} }
    await expect(interleave({ sample }, rounds)).rejects.toThrow('aborted')
    expect(taken).toBe(3)
  })
})

describe('a copy', () => {
  test.each([
    ['pinned', 'device'],
    ['pageable', 'device'],
    ['device', 'pinned'],
    ['device', 'device'],
  ] as const)('from %s to %s is seen in the target, and not before it is done', async (from, to) => {
    const device = await openDevice('host')
    const copy = await Copy.create(device, { from, to, bytes: 3 * MiB, signal })
    expect(await copy.check('before')).toMatchObject({ passed: false, detail: expect.stringMatching(/^0 of 6 /) })
    // All but the end of the last MiB, more than one byte of it: that could be the poison by chance.
    copy.enqueue({ bytes: 3 * MiB - 64 })
    await copy.stream.synchronize()
    expect(await copy.check('in part')).toMatchObject({ passed: false, detail: expect.stringMatching(/^5 of 6 /) })
    copy.enqueue()
    await copy.stream.synchronize()
    expect(await copy.check('whole')).toMatchObject({ passed: true })
    expect(copy.enqueuedBytes).toBe(6 * MiB - 64)
    await copy.dispose()
    expect(Object.values(device.counters().liveHandles).filter((live) => live !== 0)).toEqual([])
    await device.dispose()
  })

  test('into the wrong place is seen', async () => {
    const device = await openDevice('host')
    const copy = await Copy.create(device, { from: 'pinned', to: 'device', bytes: 2 * MiB, signal })
    copy.enqueue({ bytes: MiB })
    copy.enqueue({ toOffset: MiB, bytes: MiB })
    await copy.stream.synchronize()
    expect((await copy.check('twice the first')).passed).toBe(false)
    await copy.dispose()
    await device.dispose()
  })
})

test('a rate is that of all pieces of a sample, and each sample has as many', async () => {
  const device = await openDevice('host')
  const stream = device.createStream()
  let pieces = 0
  const enqueue = () => {
    pieces++
  }
  const sample = throughput({ enqueue, work: 10, streams: [stream], seconds: 0.002, signal })
  await sample()
  const first = pieces
  expect(await sample()).toBeGreaterThan(0)
  const each = pieces - first
  await sample()
  expect(pieces - first).toBe(2 * each)
  await stream.dispose()
  await device.dispose()
})

describe('a peer', () => {
  const start = (source: string) => {
    const script = join(folder, `${Math.random()}.mjs`)
    writeFileSync(script, source)
    return Peer.start(process.execPath, [script], signal)
  }
  const answers = `
    import { createInterface } from 'node:readline'
    console.log(JSON.stringify({ versions: { peer: '1' }, subjects: ['link', 'decode'], notes: ['no load'] }))
    for await (const line of createInterface({ input: process.stdin })) {
      console.log(JSON.stringify({ amount: line.length, seconds: 2 }))
    }`

  test('takes samples when told to, and ends when disposed', async () => {
    const peer = await start(answers)
    expect(peer).toMatchObject({ versions: { peer: '1' }, subjects: ['link', 'decode'], notes: ['no load'] })
    const { link, decode } = peer.samplers
    expect([await link!(), await decode!(), await link!()]).toEqual([2, 3, 2])
    await peer.dispose()
    await expect(link!()).rejects.toThrow('ended without an answer')
  })

  test('that lacks what it needs says so', async () => {
    const peer = await start(`console.log('{"unavailable":"no torch"}')`)
    expect(peer).toMatchObject({ subjects: [], notes: ['not measured: no torch'] })
    await peer.dispose()
  })

  test('that is not there says so', async () => {
    const peer = await Peer.start(join(folder, 'no-python'), [], signal)
    expect(peer).toMatchObject({ subjects: [], notes: [expect.stringMatching(/did not start: .*ENOENT/)] })
    await peer.dispose()
  })

  test.each([
    ['dies', 'console.error("out of memory"); process.exit(1)', /ended without an answer: out of memory/],
    ['talks', 'console.log("loading"); setInterval(() => {}, 1000)', /something else than JSON: loading/],
  ])('that %s at the start says so, and is gone', async (_, source, expected) => {
    const peer = await start(source)
    expect(peer).toMatchObject({ subjects: [], notes: [expect.stringMatching(expected)] })
    await peer.dispose()
  })

  const hasPython = spawnSync('python3', ['--version']).status === 0
  test.skipIf(!hasPython)('in Python goes on without what fails in it', async () => {
    const script = join(folder, 'peer_test.py')
    const subjects = "{'good': lambda: (6, 2), 'bad': lambda: 1 / 0}"
    const peers = JSON.stringify(join(root, 'bench/peers'))
    writeFileSync(
      script,
      `import sys\nsys.path[:0] = [${peers}]\nimport peer\nprint('hello')\npeer.serve([], ${subjects})`,
    )
    const peer = await Peer.start('python3', ['-B', script], signal)
    expect(peer).toMatchObject({ subjects: ['good'], notes: [expect.stringMatching(/^bad was .*ZeroDivisionError/)] })
    expect(peer.versions.python).toMatch(/^3\./)
    expect(await peer.samplers.good!()).toBe(3)
    await peer.dispose()
  })

  test('that dies later is an error', async () => {
    const peer = await start(
      'console.log(\'{"subjects":["link"]}\'); process.stdin.once("data", () => process.exit(3))',
    )
    await expect(peer.samplers.link!()).rejects.toThrow('ended without an answer')
    await peer.dispose()
  })

  test('is ended with what it takes part in', async () => {
    const interrupt = new AbortController()
    const script = join(folder, 'deaf.mjs')
    writeFileSync(script, 'console.log(\'{"subjects":["link"]}\'); setInterval(() => {}, 1000)')
    const peer = await Peer.start(process.execPath, [script], interrupt.signal)
    const sample = peer.samplers.link!()
    interrupt.abort()
    await expect(sample).rejects.toThrow('ended without an answer')
    await peer.dispose()
  })
})

test('where results go', () => {
  const hardware = { gpu: { name: 'NVIDIA H200' } }
  const run = { date: '2026-11-21T10:00:00.000Z', quick: false, hardware } as Parameters<typeof fileName>[0]
  expect(fileName(run, ['decode'])).toBe('2026-11-21-nvidia-h200-decode.json')
  expect(fileName({ ...run, quick: true }, ['device', 'offload'])).toBe(
    '2026-11-21-nvidia-h200-device-offload-quick.json',
  )
  expect(outFile(folder, 'a.json')).toBe(join(folder, 'a.json'))
  expect(outFile(`${folder}/new/`, 'a.json')).toBe(join(folder, 'new/a.json'))
  expect(outFile(`${folder}/b.json`, 'a.json')).toBe(join(folder, 'b.json'))
})
