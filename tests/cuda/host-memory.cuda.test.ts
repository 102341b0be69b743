// Pinned memory of our own making, registered with the driver: what the host device cannot prove.
import { readFileSync } from 'node:fs'
import type { NativeHostBuffer } from '@spillway/device'
import { expect, test } from 'vitest'
import { expectCode, KiB, MiB, PAGE } from '../../packages/device/test/device-rig.js'
import { expectOneRegistrationABuffer } from '../../packages/device/test/memory-limits.js'
import { launchTouch } from '../abi/abi-probe.js'
import { touched } from '../abi/touch-model.js'
import { describeOnCuda, onCuda } from './on-cuda.js'

const noise = 48 * MiB
const large = 512 * MiB

function residentBytes(): number {
  return Number(/^Anonymous:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))![1]) * 1024
}

/** Different in every page, and at both ends of each. */
function pattern(bytes: number, seed: number): Uint8Array {
  const result = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at += PAGE) {
    new DataView(result.buffer).setUint32(Math.min(at, bytes - 4), (at / PAGE) * 2654435761 + seed, true)
  }
  result[bytes - 1] = seed
  return result
}

describeOnCuda('host memory', () => {
  // Below and above what the driver allocates itself; whole pages and not; huge ones and not.
  test.each([1, 12_345, MiB - 1, MiB, MiB + 1, 3 * MiB + 5, 64 * MiB, 64 * MiB + 4097, large + 4097])(
    '%i pinned bytes reach the GPU and come back, the last one too',
    (bytes) =>
      onCuda(async (device) => {
        const [source, back] = [
          await device.allocateHost(bytes, { storage: 'pinned' }),
          await device.allocateHost(bytes, { storage: 'mapped' }),
        ]
        const target = device.allocate(bytes, { tag: 'test' })
        const stream = device.createStream()
        const sent = bytes < 4 ? Uint8Array.of(77) : pattern(bytes, 77)
        source.write(sent)
        stream.copy(target, source)
        stream.copy(back, target)
        await stream.synchronize()
        expect(Buffer.compare(back.read(), sent)).toBe(0)
        await Promise.all([source, back, target, stream].map((handle) => handle.dispose()))
      }),
  )

  test('a buffer is one registration, of at most 64 GiB', () => onCuda(expectOneRegistrationABuffer))

  test('large mapped memory is read and written in place, to its end', () =>
    onCuda(async (device) => {
      const bytes = 32 * MiB + 8
      const buffer = await device.allocateHost(bytes, { storage: 'mapped' })
      const stream = device.createStream()
      const [near, far] = [pattern(5000, 5), pattern(5000, 6)]
      buffer.write(near)
      buffer.write(far, bytes - 5000)
      const ranges = [
        { at: 0, expected: near, mode: 'read' },
        { at: bytes - 5000, expected: far, mode: 'read-write' },
        { at: 0, expected: near, mode: 'write' },
      ] as const
      launchTouch(stream, { touch: ranges.map(({ at, mode }) => ({ buffer, offset: at, bytes: 5000, mode })) })
      touched(ranges.map(({ expected, mode }) => ({ bytes: expected, mode })))
      await stream.synchronize()
      expect(Buffer.compare(buffer.read(0, 5000), near)).toBe(0)
      expect(Buffer.compare(buffer.read(bytes - 5000), far)).toBe(0)
      await Promise.all([buffer.dispose(), stream.dispose()])
    }))

  test('large pinned memory is there at once, exactly, and goes back at once', () =>
    onCuda(async (device) => {
      await (await device.allocateHost(4 * MiB, { storage: 'pinned' })).dispose()
      const before = residentBytes()
      const buffer = await device.allocateHost(large + 5, { storage: 'pinned' })
      expect(Math.abs(residentBytes() - before - large)).toBeLessThan(noise)
      expect(device.counters().pinnedBytes).toBe(large + 5)
      await buffer.dispose()
      expect(residentBytes() - before).toBeLessThan(noise)
    }))

  test('an abort at any time gives everything back', () =>
    onCuda(async (device) => {
      const before = residentBytes()
      for (let delayMs = 0; delayMs < 40; delayMs += 3) {
        const abort = new AbortController()
        const allocation = device.allocateHost(2 * large, { storage: 'pinned', signal: abort.signal })
        setTimeout(() => abort.abort(), delayMs)
        // A GPU machine may be done by then.
        await allocation.then(
          (buffer) => buffer.dispose(),
          (error) => expect(error).toMatchObject({ code: 'SPILLWAY_ABORTED' }),
        )
        expect(residentBytes() - before).toBeLessThan(noise)
        expect(device.counters()).toMatchObject({ pinnedBytes: 0, liveHandles: { 'host-buffer': 0 } })
        expect(device.hostMemory().reservedBytes).toBe(0)
      }
      const abort = new AbortController()
      const parts = device.allocateHostParts([large, large], { storage: 'pinned', signal: abort.signal })
      const first = (await parts.next()).value!
      abort.abort()
      await expectCode('SPILLWAY_ABORTED', () => parts.next())
      await first.dispose()
    }))

  test('an abort on the way gives everything back, and the next allocation is whole', () =>
    onCuda(async (device) => {
      const before = residentBytes()
      const bytes = 8 * large
      // Progress is told now and then: until it is told in between, or while the driver registers.
      const abortedAt: number[] = []
      while (abortedAt.length < 3) {
        const abort = new AbortController()
        const result = await device
          .allocateHost(bytes, {
            storage: 'pinned',
            signal: abort.signal,
            onProgress: ({ touchedBytes }) => {
              if (touchedBytes <= 0.3 * bytes || abort.signal.aborted) return
              abortedAt.push(touchedBytes / bytes)
              abort.abort()
            },
          })
          .catch((error: unknown) => error)
        if (abort.signal.aborted) expect(result).toMatchObject({ code: 'SPILLWAY_ABORTED' })
        else await (result as NativeHostBuffer).dispose()
        expect(residentBytes() - before).toBeLessThan(noise)
        expect(device.counters()).toMatchObject({ pinnedBytes: 0, liveHandles: { 'host-buffer': 0 } })
        expect(device.hostMemory().reservedBytes).toBe(0)
      }
      const [buffer, target] = [
        await device.allocateHost(large, { storage: 'pinned' }),
        device.allocate(large, { tag: 'test' }),
      ]
      const stream = device.createStream()
      const sent = pattern(large, 9)
      buffer.write(sent)
      stream.copy(target, buffer)
      await stream.synchronize()
      buffer.write(new Uint8Array(large))
      stream.copy(buffer, target)
      await stream.synchronize()
      expect(Buffer.compare(buffer.read(), sent)).toBe(0)
      await Promise.all([buffer, target, stream].map((handle) => handle.dispose()))
    }))

  test('parts are used while others are pinned, and while a stream is captured', () =>
    onCuda(async (device) => {
      const stream = device.createStream()
      const target = device.allocate(KiB, { tag: 'test' })
      const parts = device.allocateHostParts([64 * KiB, 8 * MiB, large], { storage: 'pinned' })
      const small = (await parts.next()).value!
      small.write(new Uint8Array(64 * KiB).fill(3))
      stream.beginCapture()
      stream.copy(target, small, { bytes: KiB })
      const middle = (await parts.next()).value!
      const last = (await parts.next()).value!
      const graph = stream.endCapture()
      stream.launch(graph)
      stream.copy(last, target, { toOffset: large - KiB, bytes: KiB })
      await stream.synchronize()
      expect(last.read(large - KiB)).toEqual(new Uint8Array(KiB).fill(3))
      await Promise.all([graph, small, middle, last, target, stream].map((handle) => handle.dispose()))
    }))
})
