import { expect, test } from 'vitest'
import { disposeAll, expectCode, MiB, onDevice, PAGE, pinned, readBack, uniform } from './device-rig.js'

test('a graph replays copies and fills over what the sources hold by then, without running the caller again', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const input = await pinned(device, PAGE, 1)
    const output = await pinned(device, PAGE)
    const slot = device.allocate(PAGE, { tag: 'slot' })
    let calls = 0
    const forward = () => {
      calls++
      stream.copy(slot, input)
      stream.fill(slot, 0x77, { offset: 10, bytes: 5 })
      stream.copy(output, slot)
    }
    expect(stream.capturing).toBe(false)
    stream.beginCapture()
    expect(stream.capturing).toBe(true)
    forward()
    const graph = stream.endCapture()
    expect(stream.capturing).toBe(false)
    expect(graph.nodeCount).toBe(3)
    await stream.synchronize()
    // Recorded, not done.
    expect(device.counters()).toMatchObject({ hostToDeviceBytes: 0, deviceToHostBytes: 0, graphLaunches: 0 })
    expect(uniform(output.read())).toBe(0)
    for (const value of [2, 3, 4]) {
      input.write(new Uint8Array(PAGE).fill(value))
      stream.launch(graph)
      await stream.synchronize()
      const bytes = output.read()
      expect([bytes[9], bytes[10], bytes[14], bytes[15], bytes[PAGE - 1]]).toEqual([value, 0x77, 0x77, value, value])
    }
    expect(calls).toBe(1)
    expect(device.counters()).toMatchObject({
      hostToDeviceBytes: 3 * PAGE,
      hostToDeviceCopies: 3,
      deviceToHostBytes: 3 * PAGE,
      graphLaunches: 3,
    })
    await disposeAll(stream, input, output, slot, graph)
  }))

test('fork and join over events: both branches are in the graph, and the join waits', () =>
  onDevice({ linkBytesPerSecond: 16 * MiB }, async (device) => {
    const [main, side] = [device.createStream(), device.createStream()]
    const [fork, join] = [device.createEvent(), device.createEvent()]
    const input = await pinned(device, MiB, 1)
    const slot = device.allocate(MiB, { tag: 'slot' })
    const local = device.allocate(MiB, { tag: 'local' })
    const result = device.allocate(2 * PAGE, { tag: 'result' })
    main.beginCapture()
    main.fill(slot, 0)
    main.record(fork)
    side.wait(fork)
    expect(side.capturing).toBe(true)
    side.copy(slot, input) // slow
    side.record(join)
    main.fill(local, 9)
    main.wait(join)
    main.copy(result, slot, { fromOffset: MiB - PAGE, bytes: PAGE })
    main.copy(result, local, { toOffset: PAGE, bytes: PAGE })
    const graph = main.endCapture()
    expect([main.capturing, side.capturing, graph.nodeCount]).toEqual([false, false, 5])
    for (const value of [4, 5]) {
      input.write(new Uint8Array(MiB).fill(value))
      main.launch(graph)
      const bytes = await readBack(device, result, main)
      expect(uniform(bytes.subarray(0, PAGE))).toBe(value)
      expect(uniform(bytes.subarray(PAGE))).toBe(9)
    }
    // Once recorded, the graph needs neither the streams nor the events of its capture.
    await disposeAll(side, fork, join)
    input.write(new Uint8Array(MiB).fill(6))
    main.launch(graph)
    expect((await readBack(device, result, main))[0]).toBe(6)
    await disposeAll(main, input, slot, local, result, graph)
  }))

test('a branch that is not joined drops the capture, and leaves the streams usable', () =>
  onDevice({ check: false }, async (device) => {
    const [main, side] = [device.createStream(), device.createStream()]
    const fork = device.createEvent()
    const slot = device.allocate(PAGE, { tag: 'slot' })
    main.beginCapture()
    main.record(fork)
    side.wait(fork)
    side.fill(slot, 1)
    const error = await expectCode('SPILLWAY_CAPTURE', () => main.endCapture())
    expect(error.message).toMatch(/nobody waits for.*Record an event/)
    expect([main.capturing, side.capturing]).toEqual([false, false])
    expect(device.counters().liveHandles.graph).toBe(0)
    side.fill(slot, 2)
    expect(uniform(await readBack(device, slot, side))).toBe(2)
    main.beginCapture()
    main.fill(slot, 3)
    const graph = main.endCapture()
    main.launch(graph)
    expect(uniform(await readBack(device, slot, main))).toBe(3)
    await disposeAll(main, side, fork, slot, graph)
  }))

test('when the stream that began a capture is disposed, the streams that joined it are free', () =>
  onDevice({}, async (device) => {
    const [main, side] = [device.createStream(), device.createStream()]
    const fork = device.createEvent()
    const slot = device.allocate(PAGE, { tag: 'slot' })
    main.beginCapture()
    main.record(fork)
    side.wait(fork)
    side.fill(slot, 1)
    await main.dispose()
    expect(side.capturing).toBe(false)
    await expectCode('SPILLWAY_CAPTURE', () => side.wait(fork))
    expect(uniform(await readBack(device, slot, side))).toBe(0xff)
    await disposeAll(side, fork, slot)
  }))

test('inside a capture, what cannot be recorded is refused and spoils nothing', () =>
  onDevice({}, async (device) => {
    const [main, other] = [device.createStream(), device.createStream()]
    const [outside, inside] = [device.createEvent(), device.createEvent()]
    const pageable = await device.allocateHost(PAGE, { storage: 'pageable' })
    const mapped = await device.allocateHost(PAGE, { storage: 'mapped' })
    const slot = device.allocate(PAGE, { tag: 'slot' })
    other.record(outside)
    main.beginCapture()
    main.fill(slot, 1)
    await expectCode('SPILLWAY_CAPTURE', () => main.beginCapture())
    await expectCode('SPILLWAY_CAPTURE', () => main.synchronize())
    await expectCode('SPILLWAY_CAPTURE', () => device.allocate(PAGE, { tag: 'slot', stream: main }))
    await expectCode('SPILLWAY_CAPTURE', () => main.copy(slot, pageable))
    await expectCode('SPILLWAY_CAPTURE', () => main.copy(pageable, slot))
    await expectCode('SPILLWAY_CAPTURE', () => main.wait(outside))
    await expectCode('SPILLWAY_CAPTURE', () => other.endCapture())
    main.record(inside)
    other.beginCapture()
    // An event of one capture means nothing in another.
    await expectCode('SPILLWAY_CAPTURE', () => other.wait(inside))
    const empty = other.endCapture()
    expect(empty.nodeCount).toBe(0)
    other.launch(empty)
    await other.synchronize()
    main.copy(slot, mapped)
    const graph = main.endCapture()
    expect(graph.nodeCount).toBe(2)
    main.beginCapture()
    await expectCode('SPILLWAY_CAPTURE', () => main.launch(graph))
    await main.endCapture().dispose()
    await expectCode('SPILLWAY_CAPTURE', () => main.endCapture())
    // Elsewhere, allocating while some stream is captured is no matter.
    await device.allocate(PAGE, { tag: 'slot', stream: other }).dispose()
    main.launch(graph)
    expect(uniform(await readBack(device, slot, main))).toBe(0)
    await disposeAll(main, other, outside, inside, pageable, mapped, slot, graph, empty)
  }))

test('an event recorded in a capture that has ended is refused outside, and may be recorded anew', () =>
  onDevice({}, async (device) => {
    const [main, other] = [device.createStream(), device.createStream()]
    const event = device.createEvent()
    const slot = device.allocate(PAGE, { tag: 'slot' })
    main.beginCapture()
    main.fill(slot, 1)
    main.record(event)
    const graph = main.endCapture()
    const error = await expectCode('SPILLWAY_CAPTURE', () => other.wait(event))
    expect(error.message).toMatch(/capture that has ended.*record it again/)
    await expectCode('SPILLWAY_CAPTURE', () => other.wait(event, { external: true }))
    main.record(event)
    other.wait(event)
    await other.synchronize()
    await disposeAll(main, other, event, slot, graph)
  }))

test('an external wait is done again at every replay, for the record made last before it', () =>
  onDevice({ linkBytesPerSecond: 8 * MiB }, async (device) => {
    const [main, writer] = [device.createStream(), device.createStream()]
    const ready = device.createEvent()
    const input = await pinned(device, MiB)
    const slot = device.allocate(MiB, { tag: 'slot' })
    const seen = device.allocate(PAGE, { tag: 'seen' })
    main.beginCapture()
    main.wait(ready, { external: true })
    main.copy(seen, slot, { fromOffset: MiB - PAGE, bytes: PAGE })
    const graph = main.endCapture()
    expect(graph.nodeCount).toBe(2)
    // Never recorded: no wait, and the slot still holds poison.
    main.launch(graph)
    expect(uniform(await readBack(device, seen, main))).toBe(0xff)
    for (const value of [1, 2, 3]) {
      input.write(new Uint8Array(MiB).fill(value))
      writer.copy(slot, input)
      writer.record(ready)
      main.launch(graph)
      expect(uniform(await readBack(device, seen, main))).toBe(value)
    }
    writer.beginCapture()
    writer.record(ready)
    await writer.endCapture().dispose()
    await expectCode('SPILLWAY_CAPTURE', () => main.launch(graph))
    writer.record(ready)
    // The graph keeps the event.
    await ready.dispose()
    main.launch(graph)
    await main.synchronize()
    await disposeAll(main, writer, input, slot, seen, graph)
    expect(device.counters().liveHandles.event).toBe(0)
  }))

test('an external record opens at its place in each replay, before the rest of the graph is done', () =>
  onDevice({ linkBytesPerSecond: 16 * MiB }, async (device) => {
    const [main, reader] = [device.createStream(), device.createStream()]
    const ready = device.createEvent()
    const input = await pinned(device, PAGE)
    const output = await pinned(device, PAGE)
    const large = await pinned(device, 2 * MiB)
    const [slot, rest] = [device.allocate(PAGE, { tag: 'slot' }), device.allocate(2 * MiB, { tag: 'rest' })]
    main.beginCapture()
    main.copy(slot, input)
    main.copy(output, slot)
    main.record(ready, { external: true })
    main.copy(rest, large) // slow
    const graph = main.endCapture()
    expect(graph.nodeCount).toBe(4)
    // The graph keeps the event too; a record in a capture that is dropped leaves the event as it was.
    main.beginCapture()
    main.record(ready, { external: true })
    await main.endCapture().dispose()
    const settled: string[] = []
    for (const value of [1, 2, 3]) {
      input.write(new Uint8Array(PAGE).fill(value))
      main.launch(graph)
      reader.wait(ready)
      const whole = main.synchronize().then(() => settled.push('graph'))
      await reader.synchronize()
      settled.push('record')
      expect(uniform(output.read())).toBe(value)
      if (value === 3) await ready.dispose()
      await whole
    }
    expect(settled).toEqual(['record', 'graph', 'record', 'graph', 'record', 'graph'])
    main.launch(graph)
    await main.synchronize()
    await disposeAll(main, reader, input, output, large, slot, rest, graph)
    expect(device.counters().liveHandles.event).toBe(0)
  }))

test('one event is not both recorded and waited for by a capture', () =>
  onDevice({}, async (device) => {
    const main = device.createStream()
    const event = device.createEvent()
    const slot = device.allocate(PAGE, { tag: 'slot' })
    for (const [first, second] of [
      ['record', 'wait'],
      ['wait', 'record'],
    ] as const) {
      main.beginCapture()
      main[first](event, { external: true })
      main[first](event, { external: true })
      const error = await expectCode('SPILLWAY_CAPTURE', () => main[second](event, { external: true }))
      expect(error.message).toMatch(/use two events/)
      main.fill(slot, 3)
      const graph = main.endCapture()
      expect(graph.nodeCount).toBe(3)
      main.launch(graph)
      expect(uniform(await readBack(device, slot, main))).toBe(3)
      await graph.dispose()
    }
    await disposeAll(main, event, slot)
  }))

test('a graph keeps its buffers, and work in flight keeps the graph', () =>
  onDevice({ linkBytesPerSecond: 8 * MiB }, async (device) => {
    const stream = device.createStream()
    const input = await pinned(device, MiB, 5)
    const slot = device.allocate(MiB, { tag: 'slot' })
    const output = await pinned(device, PAGE)
    stream.beginCapture()
    stream.copy(slot, input)
    stream.copy(output, slot, { fromOffset: MiB - PAGE, bytes: PAGE })
    const graph = stream.endCapture()
    await disposeAll(input, slot)
    expect(device.budget.usedBytesByTag).toEqual({ slot: MiB })
    expect(device.counters().liveHandles).toMatchObject({ 'device-buffer': 1, 'host-buffer': 2 })
    stream.launch(graph)
    await graph.dispose()
    await stream.synchronize()
    expect(uniform(output.read())).toBe(5)
    expect(device.budget.usedBytes).toBe(0)
    expect(device.counters().liveHandles).toMatchObject({ graph: 0, 'device-buffer': 0, 'host-buffer': 1 })
    await disposeAll(stream, output)
  }))

test('two graphs on two streams at once, and one graph on two streams, come out right', () =>
  onDevice({}, async (device) => {
    const rounds = 25
    const lanes = await Promise.all(
      [1, 2].map(async (lane) => {
        const [stream, side] = [device.createStream(), device.createStream()]
        const [fork, join] = [device.createEvent(), device.createEvent()]
        const input = await pinned(device, 8 * PAGE, lane)
        const [one, two] = [1, 2].map(() => device.allocate(8 * PAGE, { tag: 'slot' })) as [never, never]
        const output = await pinned(device, 8 * PAGE)
        stream.beginCapture()
        stream.fill(one, 0xee)
        stream.record(fork)
        side.wait(fork)
        side.copy(one, input)
        side.record(join)
        stream.wait(join)
        stream.copy(two, one)
        stream.copy(output, two)
        stream.fill(two, 0xdd)
        return { stream, side, fork, join, input, one, two, output, graph: stream.endCapture(), lane }
      }),
    )
    const [first, second] = lanes as [(typeof lanes)[number], (typeof lanes)[number]]
    for (let round = 0; round < rounds; round++) {
      for (const { stream, graph } of lanes) stream.launch(graph)
    }
    await Promise.all(lanes.map(({ stream }) => stream.synchronize()))
    for (const { output, lane } of lanes) expect(uniform(output.read())).toBe(lane)
    for (let round = 0; round < rounds; round++) {
      for (const { stream } of lanes) stream.launch(first.graph)
    }
    await Promise.all(lanes.map(({ stream }) => stream.synchronize()))
    expect(uniform(first.output.read())).toBe(1)
    expect(device.counters()).toMatchObject({
      graphLaunches: 4 * rounds,
      hostToDeviceBytes: 4 * rounds * 8 * PAGE,
      deviceToDeviceBytes: 4 * rounds * 8 * PAGE,
      deviceToHostBytes: 4 * rounds * 8 * PAGE,
    })
    for (const { stream, side, fork, join, input, one, two, output, graph } of [first, second]) {
      await disposeAll(stream, side, fork, join, input, one, two, output, graph)
    }
  }))

test('replaying over virtual memory that was unmapped since is refused', () =>
  onDevice({}, async (device) => {
    const bytes = device.virtualMemory.granularityBytes
    const range = device.virtualMemory.reserve(bytes)
    const memory = device.virtualMemory.createPhysical(bytes, 'pool')
    range.map(0, memory)
    const buffer = range.buffer(0, bytes)
    const stream = device.createStream()
    stream.beginCapture()
    stream.fill(buffer, 3)
    const graph = stream.endCapture()
    range.unmap(0, bytes)
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.launch(graph))
    range.map(0, memory)
    stream.launch(graph)
    expect(uniform(await readBack(device, buffer, stream))).toBe(3)
    await disposeAll(range, memory, buffer, stream, graph)
  }))
