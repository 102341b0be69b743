import { ensure, ensureBytes, ensureCode, ensureSame } from '../assert.js'
import { pattern } from '../model.js'
import type { Rig } from '../rig.js'
import type { RigTest } from '../subject.js'
import { bytesOf, deviceBuffer, uniform } from './bytes.js'

const size = 16 * 1024

/** What is captured, and what a replay does. */
export const deviceGraphTests: readonly RigTest<undefined>[] = [
  graphTest('a capture records and does nothing; a replay reads what is there by then', async (rig) => {
    const { compute, device } = rig
    const input = rig.keep(await rig.staging(size))
    const [slot, seen] = [deviceBuffer(rig, size), rig.keep(await rig.staging(size))]
    const before = device.counters()
    ensure(!compute.capturing, 'the stream is not capturing yet')
    compute.beginCapture()
    ensure(compute.capturing, 'the stream is capturing')
    compute.copy(slot, input)
    compute.fill(slot, 7, { offset: 10, bytes: 5 })
    compute.copy(seen, slot)
    const graph = rig.keep(compute.endCapture())
    ensure(!compute.capturing, 'the stream is no longer capturing')
    ensureSame(graph.nodeCount, 3, 'nodeCount of two copies and a fill')
    await compute.synchronize()
    ensureSame(device.counters().hostToDeviceBytes, before.hostToDeviceBytes, 'hostToDeviceBytes after a capture')
    for (let replay = 1; replay <= 3; replay++) {
      const bytes = pattern(replay, size)
      input.write(bytes)
      compute.launch(graph)
      await compute.synchronize()
      bytes.fill(7, 10, 15)
      ensureBytes(seen.read(), bytes, `what replay ${replay} read`)
    }
    const { hostToDeviceBytes, graphLaunches } = device.counters()
    ensureSame(hostToDeviceBytes - before.hostToDeviceBytes, 3 * size, 'bytes that three replays copied')
    ensureSame(graphLaunches - before.graphLaunches, 3, 'graphLaunches')
  }),
  graphTest('a fork that is joined is part of the graph, in its order', async (rig) => {
    const { compute, device } = rig
    const side = rig.keep(device.createStream())
    const [fork, join] = [rig.keep(device.createEvent()), rig.keep(device.createEvent())]
    const [left, right, both] = [deviceBuffer(rig, size), deviceBuffer(rig, size), deviceBuffer(rig, 2 * size)]
    compute.beginCapture()
    compute.fill(right, 1)
    compute.record(fork)
    side.wait(fork)
    ensure(side.capturing, 'a stream that waits for an event of a capture joins it')
    side.fill(right, 2)
    side.record(join)
    compute.fill(left, 3)
    compute.wait(join)
    compute.copy(both, left)
    compute.copy(both, right, { toOffset: size })
    const graph = rig.keep(compute.endCapture())
    ensure(!side.capturing, 'the joined stream is no longer capturing')
    for (let replay = 1; replay <= 2; replay++) {
      compute.fill(both, 0)
      compute.launch(graph)
      const bytes = await bytesOf(rig, both)
      const halves = [bytes.subarray(0, size), bytes.subarray(size)].map((half) => uniform(half, `replay ${replay}`))
      ensureSame(halves, [3, 2], `what replay ${replay} left`)
    }
  }),
  graphTest('a fork that is not joined ends the capture with SPILLWAY_CAPTURE, and the streams go on', async (rig) => {
    const { compute, device } = rig
    const side = rig.keep(device.createStream())
    const fork = rig.keep(device.createEvent())
    const buffer = deviceBuffer(rig, size)
    compute.beginCapture()
    compute.record(fork)
    side.wait(fork)
    side.fill(buffer, 1)
    await ensureCode('SPILLWAY_CAPTURE', 'endCapture with a fork that is not joined', () => compute.endCapture())
    ensureSame([compute.capturing, side.capturing], [false, false], 'capturing')
    await side.synchronize()
    compute.fill(buffer, 4)
    ensureSame(uniform(await bytesOf(rig, buffer), 'the buffer'), 4, 'every byte')
  }),
  graphTest('what cannot be recorded is refused, and the capture goes on', async (rig) => {
    const { compute, device } = rig
    const other = rig.keep(device.createStream())
    const outside = rig.keep(device.createEvent())
    const pageable = rig.keep(await device.allocateHost(size, { storage: 'pageable' }))
    const buffer = deviceBuffer(rig, size)
    other.record(outside)
    compute.beginCapture()
    compute.fill(buffer, 1)
    const refused: [string, () => unknown][] = [
      ['a capture within a capture', () => compute.beginCapture()],
      ['synchronize', () => compute.synchronize()],
      ['allocating on the stream', () => device.allocate(1, { tag: 'test', stream: compute })],
      ['a copy from pageable memory', () => compute.copy(buffer, pageable)],
      ['a wait for an event of no capture', () => compute.wait(outside)],
      ['endCapture of a stream that is not capturing', () => other.endCapture()],
    ]
    for (const [what, action] of refused) await ensureCode('SPILLWAY_CAPTURE', `${what}, in a capture`, action)
    compute.wait(outside, { external: true })
    compute.fill(buffer, 2, { bytes: 1 })
    const graph = rig.keep(compute.endCapture())
    await ensureCode('SPILLWAY_CAPTURE', 'endCapture twice', () => compute.endCapture())
    compute.launch(graph)
    const bytes = await bytesOf(rig, buffer)
    ensureSame([bytes[0], uniform(bytes.subarray(1), 'the rest')], [2, 1], 'the first byte and the rest')
  }),
  graphTest('an external wait is done again at every replay', async (rig) => {
    const { compute, device } = rig
    const writer = rig.keep(device.createStream())
    const [written, read] = [rig.keep(device.createEvent()), rig.keep(device.createEvent())]
    const [slot, seen] = [rig.keep(device.allocate(size, { tag: 'test', stream: writer })), deviceBuffer(rig, size)]
    compute.beginCapture()
    compute.wait(written, { external: true })
    compute.copy(seen, slot)
    const graph = rig.keep(compute.endCapture())
    for (let round = 1; round <= 4; round++) {
      writer.wait(read)
      writer.fill(slot, round)
      writer.record(written)
      compute.launch(graph)
      compute.record(read)
      ensureSame(uniform(await bytesOf(rig, seen), `replay ${round}`), round, `what replay ${round} saw`)
    }
    await writer.synchronize()
  }),
  graphTest('an external record is made at every replay', async (rig) => {
    const { compute, device } = rig
    const reader = rig.keep(device.createStream())
    const [ready, done] = [rig.keep(device.createEvent()), rig.keep(device.createEvent())]
    const input = rig.keep(await rig.staging(size))
    const [slot, seen] = [deviceBuffer(rig, size), rig.keep(await rig.staging(size))]
    compute.beginCapture()
    compute.copy(slot, input)
    compute.record(ready, { external: true })
    await ensureCode('SPILLWAY_CAPTURE', 'an external wait for it in the same capture', () =>
      compute.wait(ready, { external: true }),
    )
    await ensureCode('SPILLWAY_CAPTURE', 'a wait for it in the same capture', () => compute.wait(ready))
    const graph = rig.keep(compute.endCapture())
    // Recorded by no replay yet: no wait.
    reader.wait(ready)
    await reader.synchronize()
    for (let replay = 1; replay <= 4; replay++) {
      const bytes = pattern(replay, size)
      input.write(bytes)
      compute.wait(done)
      compute.launch(graph)
      reader.wait(ready)
      reader.copy(seen, slot)
      reader.record(done)
      await reader.synchronize()
      ensureBytes(seen.read(), bytes, `what was read after replay ${replay}`)
    }
  }),
  graphTest('a graph keeps what it uses, until it is disposed', async (rig) => {
    const { compute, device } = rig
    const before = rig.held()
    const input = await rig.staging(size)
    const seen = await rig.staging(size)
    const slot = device.allocate(size, { tag: 'test' })
    const bytes = pattern(9, size)
    input.write(bytes)
    compute.beginCapture()
    compute.copy(slot, input)
    compute.copy(seen, slot)
    const graph = compute.endCapture()
    await Promise.all([input.dispose(), slot.dispose()])
    compute.launch(graph)
    await graph.dispose()
    await ensureCode('SPILLWAY_DISPOSED', 'launching a disposed graph', () => compute.launch(graph))
    await compute.synchronize()
    ensureBytes(seen.read(), bytes, 'what the graph copied')
    await seen.dispose()
    await rig.ensureHeld(before, 'handles and bytes afterwards')
  }),
]

/** On a device that has no graphs: that a capture is refused. */
function graphTest(name: string, run: (rig: Rig) => Promise<void>): RigTest<undefined> {
  return {
    name,
    level: 1,
    rig: { allow: ['unjoined-fork'] },
    async run(rig) {
      if (rig.device.capabilities.graphs) return run(rig)
      await ensureCode('SPILLWAY_NOT_SUPPORTED', 'a capture, since capabilities.graphs is false', () =>
        rig.compute.beginCapture(),
      )
    },
  }
}
