import { expect, test } from 'vitest'
import { disposeAll, expectCode, onDevice, readBack } from '../../packages/device/test/device-rig.js'
import { addressOf, launchTouch, type TouchMode } from './abi-probe.js'
import { touched } from './touch-model.js'

const pattern = (bytes: number, factor: number) => Uint8Array.from({ length: bytes }, (_, i) => i * factor)

test.each([false, true])('touch reads and writes what it is told, in that order (parallel: %s)', (parallel) =>
  onDevice({ threads: 3 }, async (device) => {
    const stream = device.createStream()
    const [a, b] = [pattern(9000, 7), pattern(5000, 3)]
    const onHost = await device.allocateHost(b.length, { storage: 'mapped' })
    onHost.write(b)
    const source = await device.allocateHost(a.length, { storage: 'pinned' })
    source.write(a)
    const onDevice = device.allocate(a.length, { tag: 'a' })
    stream.copy(onDevice, source)
    const steps: [buffer: 'a' | 'b', offset: number, bytes: number, mode: TouchMode][] = [
      ['a', 10, 4500, 'read'],
      ['b', 0, 100, 'write'],
      ['b', 50, 4950, 'read-write'],
      ['a', 8999, 1, 'write'],
      ['a', 0, 9000, 'read-write'],
      ['b', 4000, 0, 'read'],
    ]
    launchTouch(stream, {
      touch: steps.map(([name, offset, bytes, mode]) => ({
        buffer: name === 'a' ? onDevice : onHost,
        offset,
        bytes,
        mode,
      })),
      declare: [
        { buffer: onDevice, mode: 'read-write' },
        { buffer: onHost, mode: 'read-write' },
      ],
      parallel,
      seed: 5,
    })
    touched(
      steps.map(([name, offset, bytes, mode]) => ({
        bytes: (name === 'a' ? a : b).subarray(offset, offset + bytes),
        mode,
      })),
      5,
    )
    expect(Buffer.compare(await readBack(device, onDevice, stream), a)).toBe(0)
    expect(Buffer.compare(onHost.read(), b)).toBe(0)
    await disposeAll(stream, onHost, source, onDevice)
  }),
)

test.each([false, true])('where memory is unified, kernels read any host memory in place (check: %s)', (check) =>
  onDevice({ check, capabilities: { unifiedMemory: true } }, async (device) => {
    const stream = device.createStream()
    for (const storage of ['pageable', 'pinned', 'mapped'] as const) {
      const buffer = await device.allocateHost(300, { storage })
      const expected = pattern(300, 5)
      buffer.write(expected)
      launchTouch(stream, {
        touch: [{ buffer, bytes: 300, mode: 'read-write' }],
        declare: [{ buffer, mode: 'read-write' }],
        seed: 3,
      })
      touched([{ bytes: expected, mode: 'read-write' }], 3)
      await stream.synchronize()
      expect(Buffer.compare(buffer.read(), expected), storage).toBe(0)
      await buffer.dispose()
    }
    await stream.dispose()
  }),
)

test('touch declares what it is told, no more; an address is enough to touch', () =>
  onDevice({}, async (device) => {
    const stream = device.createStream()
    const buffer = await device.allocateHost(64, { storage: 'mapped' })
    const expected = new Uint8Array(64)
    launchTouch(stream, { touch: [{ address: addressOf(buffer) + 8n, bytes: 8, mode: 'write' }], declare: [] })
    launchTouch(stream, {
      touch: [],
      declare: [{ buffer, offset: 8, bytes: 56, mode: 'read' }],
    })
    touched([{ bytes: expected.subarray(8, 16), mode: 'write' }])
    await stream.synchronize()
    expect([...buffer.read()]).toEqual([...expected])
    await expectCode('SPILLWAY_INVALID_ARGUMENT', () =>
      launchTouch(stream, { touch: [], declare: [{ buffer, offset: 8, bytes: 57, mode: 'read' }] }),
    )
    await disposeAll(stream, buffer)
  }))
