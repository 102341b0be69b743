// The page in a real browser. Nightly: npm run test:nightly, or SPILLWAY_NIGHTLY=1.
import { spawn } from 'node:child_process'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { MemoryTrace } from '@spillway/device'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MemoryHistory } from '../../packages/cli/src/memory-page/memory-history.js'
import { type MemoryMoment, memoryMoment } from '../../packages/cli/src/memory-page/memory-moment.js'
import { MiB } from '../allocator/allocator-rig.js'
import { nightly } from '../nightly.js'
import { Random } from '../order/random.js'
import { Chromium } from './chromium.js'
import { decoderTrace, modelLoadTrace, randomTrace } from './one-stream-traces.js'
import { record } from './recorded-trace.js'

const cli = fileURLToPath(new URL('../../packages/cli/dist/cli.js', import.meta.url))
/** `SPILLWAY_MEMORY_PICTURE=docs/memory.webp` draws the picture of docs/MEMORY.md anew. */
const picturePath = process.env.SPILLWAY_MEMORY_PICTURE

describe.skipIf(!nightly)('the memory page', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-memory-'))
  let browser: Chromium
  beforeAll(async () => {
    browser = await Chromium.start()
  })
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true, force: true })
  })

  const load = record(modelLoadTrace(new Random(1), 48), { limitBytes: 24 * 1024 * MiB })

  async function pageOf(name: string, trace: MemoryTrace): Promise<string> {
    const [json, html] = [join(folder, `${name}.json`), join(folder, `${name}.html`)]
    writeFileSync(json, JSON.stringify(trace))
    const child = spawn(process.execPath, [cli, 'memory', json, '--html', html], { stdio: 'inherit' })
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0)
    return pathToFileURL(html).href
  }

  const moveTo = (moment: number): Promise<void> =>
    browser.evaluate(`{
      const cursor = document.getElementById('cursor')
      cursor.value = ${moment}
      cursor.dispatchEvent(new Event('input'))
    }`)
  const text = (id: string): Promise<string> => browser.evaluate(`document.getElementById('${id}').innerText`)
  const cursor = (): Promise<number> => browser.evaluate(`Number(document.getElementById('cursor').value)`)

  /** All that the page says in exact numbers. */
  async function shown(): Promise<{
    figures: Record<string, number>
    fragmentation: string
    tags: [string, number][]
  }> {
    return browser.evaluate(`(() => {
      const exact = (element) => Number(element.title.replace(/[^0-9]/g, ''))
      const names = ['reserved', 'live', 'requested', 'cached', 'largest-free', 'rounding']
      return {
        figures: Object.fromEntries(names.map((name) => [name, exact(document.getElementById('figure-' + name))])),
        fragmentation: document.getElementById('figure-fragmentation').textContent,
        tags: [...document.querySelectorAll('#tags button')].map((row) =>
          [row.getAttribute('data-tag'), exact(row.querySelector('.bytes'))]),
      }
    })()`)
  }
  function expected(moment: MemoryMoment): Awaited<ReturnType<typeof shown>> {
    const { reservedBytes, liveBytes, requestedBytes, cachedBytes, largestFreeBytes, roundingBytes } = moment
    return {
      figures: {
        reserved: reservedBytes,
        live: liveBytes,
        requested: requestedBytes,
        cached: cachedBytes,
        'largest-free': largestFreeBytes,
        rounding: roundingBytes,
      },
      fragmentation: `${(100 * moment.fragmentation).toFixed(1)} %`,
      tags: [...moment.liveBytesByTag],
    }
  }

  test('shows the figures of every moment, by keyboard, mouse and buttons, and asks for nothing', async () => {
    const url = await pageOf('load', load)
    await browser.open(url)
    const history = new MemoryHistory(load)
    const count = load.events.length
    // The last event is the allocation that failed: the place to begin.
    expect(await cursor()).toBe(count)
    expect(await text('event')).toMatch(/OUT OF MEMORY: no room for 265 MiB \(loading, stream 1\)/)
    for (const moment of [count, 0, 1, 2, 700, 1234, count - 1, count]) {
      await moveTo(moment)
      expect([moment, await shown()]).toEqual([moment, expected(memoryMoment(history, moment))])
    }
    await browser.press('ArrowLeft')
    await browser.press('ArrowLeft')
    expect(await cursor()).toBe(count - 2)
    await browser.press('ArrowLeft', true)
    expect(await cursor()).toBe(count - 102)
    expect(await shown()).toEqual(expected(memoryMoment(history, count - 102)))
    await browser.press('o')
    expect(await cursor()).toBe(count)
    await browser.press('Home')
    expect(await cursor()).toBe(0)
    await browser.evaluate(`document.getElementById('forward').click()`)
    expect(await cursor()).toBe(1)

    const box = `document.getElementById('timeline').getBoundingClientRect()`
    const [left, top, width] = await browser.evaluate<number[]>(
      `(({ left, top, width }) => [left, top, width])(${box})`,
    )
    await browser.mouse('mousePressed', left! + width! / 3, top! + 60)
    const pressed = await cursor()
    await browser.mouse('mouseMoved', left! + width! / 2, top! + 60)
    await browser.mouse('mouseReleased', left! + width! / 2, top! + 60)
    const dragged = await cursor()
    expect([pressed > count / 4, dragged > pressed, dragged < (2 * count) / 3]).toEqual([true, true, true])
    expect(await shown()).toEqual(expected(memoryMoment(history, dragged)))

    await browser.evaluate(`document.getElementById('play').click()`)
    await browser.until(`Number(document.getElementById('cursor').value) > ${dragged + 20}`)
    await browser.evaluate(`document.getElementById('play').click()`)
    const axis = `document.getElementById('axis')`
    await browser.evaluate(`${axis}.value = 'time'; ${axis}.dispatchEvent(new Event('change'))`)
    expect(browser.errors).toEqual([])
    expect([...new Set(browser.requests)].filter((one) => one !== 'about:blank')).toEqual([url])
  })

  test('a block is pointed at, clicked, and found by keyboard', async () => {
    await browser.open(`${await pageOf('load', load)}#event=${load.events.at(-1)!.number}`)
    await browser.evaluate(`document.getElementById('map').scrollIntoView()`)
    const box = `document.getElementById('map').getBoundingClientRect()`
    const [left, top] = await browser.evaluate<number[]>(`(({ left, top }) => [left, top])(${box})`)
    // Below the pool's heading: the first block of the first segment.
    await browser.mouse('mouseMoved', left! + 20, top! + 34)
    const first = load.snapshot.segments
      .toSorted((a, b) => a.address - b.address)
      .find(({ bytes }) => bytes > 20 * MiB)!
    expect(await text('tip')).toContain(`bytes: 270 MiB (${first.blocks[0]!.bytes.toLocaleString('en')} bytes)`)
    expect(await text('tip')).toMatch(/tag: weights\n.*\nrequested: .*\nstream: 1\nage: [\d,]+ events, .*\nat: 0x/)
    await browser.mouse('mousePressed', left! + 20, top! + 34)
    await browser.mouse('mouseReleased', left! + 20, top! + 34)
    expect(await text('block')).toContain('270 MiB')
    await browser.evaluate(`document.getElementById('map').focus()`)
    await browser.press('ArrowRight')
    expect(await text('block')).toContain('135 MiB')
    const moment = await cursor()
    await browser.press('ArrowDown')
    expect(await text('block')).toContain('tag')
    expect(await cursor()).toBe(moment)
    expect(browser.errors).toEqual([])
  })

  test('names are text, whatever they are; what was lost or contradicts itself is told', async () => {
    const hostile = `</script><img src=x onerror="window.taken=1"><script>window.taken=1</script>`
    const renamed = JSON.parse(
      JSON.stringify(load).replaceAll('weights', JSON.stringify(hostile).slice(1, -1)),
    ) as MemoryTrace
    const events = renamed.events.filter(({ number }) => number !== 2000).slice(-1500)
    const pools = { ...renamed.snapshot.stats.pools, [hostile]: renamed.snapshot.stats }
    await browser.open(
      await pageOf('hostile', {
        ...renamed,
        device: hostile,
        lostEvents: events[0]!.number,
        events,
        snapshot: { ...renamed.snapshot, stats: { ...renamed.snapshot.stats, pools } },
      }),
    )
    expect(await browser.evaluate('window.taken')).toBeUndefined()
    expect(await text('about')).toContain(hostile)
    expect(await text('tags')).toContain(hostile)
    expect(await text('statistics')).toContain(hostile)
    expect(await text('notices')).toMatch(/1,68\d earlier events were lost.*\n.*(allocates|frees|creates|destroys)/)
    expect(browser.errors).toEqual([])
  })

  test('--watch: what is written anew is shown, at the same event, and Ctrl-C ends it', async () => {
    const [json, html] = [join(folder, 'watched.json'), join(folder, 'watched.html')]
    const write = (trace: MemoryTrace): void => {
      writeFileSync(`${json}.new`, JSON.stringify(trace))
      renameSync(`${json}.new`, json)
    }
    const child = spawn(process.execPath, [cli, 'memory', json, '--html', html, '--watch'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const lines: string[] = []
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (part: string) => lines.push(part))
    const written = (times: number): Promise<void> =>
      expect.poll(() => lines.join('').split('events of').length - 1, { timeout: 20_000 }).toBe(times)
    await expect.poll(() => lines.join(''), { timeout: 20_000 }).toContain('waiting for')
    const early = record(randomTrace(new Random(2), 300))
    const late = record(randomTrace(new Random(2), 600), { events: 900 })
    expect(late.lostEvents).toBeGreaterThan(0)
    write(early)
    await written(1)
    await browser.open(pathToFileURL(html).href)
    await moveTo(500)
    expect(await text('event')).toMatch(/^Event 500 of/)
    write(late)
    await written(2)
    await browser.until(
      `document.getElementById('about').textContent.includes('${late.events.length.toLocaleString('en')} events')`,
    )
    expect(await cursor()).toBe(500 - late.lostEvents)
    expect(await shown()).toEqual(expected(memoryMoment(new MemoryHistory(late), 500 - late.lostEvents)))
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGINT')
    expect(await ended).toBe(130)
    expect(browser.errors).toEqual([])
  })

  test('100,000 events open, in both themes', async () => {
    const url = await pageOf('long', record(randomTrace(new Random(1), 50_000)))
    for (const dark of [false, true]) {
      await browser.open(url, { dark })
      expect(await text('about')).toMatch(/99,\d{3} events/)
    }
    expect(browser.errors).toEqual([])
  })

  test('the picture of the docs', async () => {
    await browser.open(await pageOf('picture', { ...load, device: 'a model load, replayed' }), { width: 1280 })
    // Drawn last, a few columns at a time.
    await new Promise((resolve) => setTimeout(resolve, 3000))
    const picture = await browser.screenshot('webp', 82)
    expect(picture.length).toBeLessThan(200 * 1024)
    expect(picture.length).toBeGreaterThan(20 * 1024)
    if (picturePath !== undefined) writeFileSync(picturePath, picture)
    await browser.open(await pageOf('decoder', record(decoderTrace(new Random(1), 2))), { width: 420, height: 800 })
    const wide = 'document.documentElement.scrollWidth <= document.documentElement.clientWidth'
    expect(await browser.evaluate(wide)).toBe(true)
  })
})
