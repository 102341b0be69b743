// What only a GPU has: its driver's memory, streams and pointers of other libraries, kernels brought at run time, and
// the ways it fails.
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cudaStatus, handleOf, type NativeDeviceBuffer, type NativeStream } from '@spillway/device'
import { expect, test } from 'vitest'
import { expectCode, MiB, readBack } from '../../packages/device/test/device-rig.js'
import { probe } from '../abi/abi-probe.js'
import { addKernel, describeOnCuda, onCuda, openCuda } from './on-cuda.js'

const GiB = 1024 * MiB
const child = fileURLToPath(new URL('./gpu-process.mjs', import.meta.url))

function launchAdd(
  stream: NativeStream,
  kernel: Parameters<NativeStream['launchKernel']>[0],
  data: NativeDeviceBuffer,
) {
  const launchArguments = new Uint8Array(12)
  const view = new DataView(launchArguments.buffer)
  view.setBigUint64(0, data.pointer, true)
  view.setUint32(8, data.bytes / 4, true)
  stream.launchKernel(kernel, {
    grid: [Math.ceil(data.bytes / 4 / 128)],
    block: [128],
    arguments: launchArguments,
    accesses: [{ buffer: data, mode: 'read-write' }],
  })
}

const words = (bytes: Uint8Array): number[] => [...new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)]

describeOnCuda('memory', () => {
  test('is what the driver has, and the budget’s rest where that is less', () =>
    onCuda(async (device) => {
      const [gpu] = cudaStatus().gpus
      expect(device.budget.limitBytes).toBe(gpu!.totalBytes)
      expect(device.budget.availableBytes).toBeLessThanOrEqual(gpu!.totalBytes)
      expect(device.budget.availableBytes).toBeGreaterThan(GiB)
      const capped = await openCuda({ memoryLimitBytes: 64 * MiB })
      expect(capped.budget.availableBytes).toBe(64 * MiB)
      await capped.dispose()
    }))

  test('of another process is not ours to promise', () =>
    onCuda(async (device) => {
      const before = device.budget.availableBytes
      const other = spawn(process.execPath, [child, 'hold', String(20 * GiB)], { stdio: ['pipe', 'pipe', 'inherit'] })
      await new Promise<void>((resolve, reject) => {
        other.stdout.once('data', () => resolve())
        other.once('exit', () => reject(new Error('the other process ended')))
      })
      expect(device.budget.usedBytes).toBe(0)
      // Tests in yet other processes free memory meanwhile.
      expect(before - device.budget.availableBytes).toBeGreaterThan(18 * GiB)
      expect(cudaStatus().gpus[0]!.freeBytes).toBeLessThan(before - 18 * GiB)
      const ended = new Promise((resolve) => other.once('exit', resolve))
      other.stdin.end()
      expect(await ended).toBe(0)
    }))

  test('that the driver does not have is an error with its numbers, and the device goes on', () =>
    onCuda(async (device) => {
      const other = await openCuda()
      const taken = other.allocate(Math.floor(other.budget.availableBytes * 0.9), { tag: 'taken' })
      const wanted = Math.floor(device.budget.limitBytes * 0.8)
      const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocate(wanted, { tag: 'weights' }))
      expect(error.message).toMatch(/the system has none left/)
      expect(device.budget.usedBytes).toBe(0)
      const stream = device.createStream()
      const small = device.allocate(MiB, { tag: 'weights' })
      stream.fill(small, 9)
      expect(new Set(await readBack(device, small, stream))).toEqual(new Set([9]))
      await Promise.all([small, stream, taken].map((handle) => handle.dispose()))
      await other.dispose()
    }))
})

describeOnCuda('what other libraries made', () => {
  test('a stream is used in place: its work and ours are one order', () =>
    onCuda(async (device) => {
      const [own, data] = [device.createStream(), device.allocate(MiB, { tag: 'data' })]
      const pointer = probe.rawStream(handleOf(own), handleOf(data))
      const other = await openCuda()
      const wrapped = other.wrapStream(pointer)
      const memory = other.wrapMemory(data.pointer, data.bytes)
      expect([memory.pointer, memory.bytes, other.budget.usedBytes]).toEqual([data.pointer, data.bytes, 0])
      for (let value = 0; value < 50; value++) {
        wrapped.fill(memory, value)
        own.fill(data, 100 + value, { bytes: MiB / 2 })
      }
      await wrapped.synchronize()
      const bytes = await readBack(device, data, own)
      expect([bytes[0], bytes[MiB - 1]]).toEqual([149, 49])
      await wrapped.dispose()
      own.fill(data, 1)
      expect((await readBack(device, data, own))[MiB - 1]).toBe(1)
      await Promise.all([memory.dispose(), own.dispose(), data.dispose()])
      await other.dispose()
    }))

  test('pointers to other memory, or to less of it, are refused', () =>
    onCuda(async (device) => {
      const data = device.allocate(MiB, { tag: 'data' })
      const wrap = (pointer: bigint, bytes: number) => () => device.wrapMemory(pointer, bytes)
      const wrong: [bigint, number][] = [
        [0n, 1],
        [0x1234n, 4],
        [2n ** 64n - 1n, 1],
        [data.pointer + BigInt(2 * MiB), 1],
        [data.pointer, 4 * GiB],
        [data.pointer, 0],
        [data.pointer, -1],
        [-1n, 1],
      ]
      for (const [pointer, bytes] of wrong) await expectCode('SPILLWAY_INVALID_ARGUMENT', wrap(pointer, bytes))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', wrap(5 as never, 1))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.wrapStream('0' as never))
      await data.dispose()
    }))
})

describeOnCuda('a kernel of the program’s own', () => {
  test('runs, in a graph too, and is kept by the work that uses it', () =>
    onCuda(async (device) => {
      const kernel = await device.loadKernel(new TextEncoder().encode(addKernel), 'add_one')
      const [stream, data] = [device.createStream(), device.allocate(4000, { tag: 'data' })]
      stream.fill(data, 0)
      launchAdd(stream, kernel, data)
      stream.beginCapture()
      launchAdd(stream, kernel, data)
      launchAdd(stream, kernel, data)
      const graph = stream.endCapture()
      await kernel.dispose()
      for (let i = 0; i < 3; i++) stream.launch(graph)
      expect(new Set(words(await readBack(device, data, stream)))).toEqual(new Set([7]))
      expect(device.counters()).toMatchObject({ launches: 1 + 3 * 2, graphLaunches: 3 })
      await Promise.all([graph, data, stream].map((handle) => handle.dispose()))
    }))

  test('what is none, or has no such kernel, is refused', () =>
    onCuda(async (device) => {
      const ptx = new TextEncoder().encode(addKernel)
      const load = (image: Uint8Array, name: string) => () => device.loadKernel(image, name)
      await expectCode('SPILLWAY_INVALID_ARGUMENT', load(new Uint8Array(100), 'add_one'))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', load(ptx.subarray(0, ptx.length - 40), 'add_one'))
      await expectCode('SPILLWAY_NO_KERNELS', load(ptx, 'add_two'))
      await expectCode('SPILLWAY_INVALID_ARGUMENT', load('x' as never, 'add_one'))
    }))

  test('launches that cannot be are refused, and the next one runs', () =>
    onCuda(async (device) => {
      const kernel = await device.loadKernel(new TextEncoder().encode(addKernel), 'add_one')
      const [stream, data] = [device.createStream(), device.allocate(64, { tag: 'data' })]
      const good = { grid: [1], block: [1], arguments: new Uint8Array(12), accesses: [] }
      const wrong: object[] = [
        { grid: [] },
        { grid: [1, 1, 1, 1] },
        { grid: [0] },
        { block: [2048] },
        { block: [-1] },
        { arguments: new Uint8Array(13) },
        { arguments: new Uint8Array(5000) },
        { arguments: [1] },
        { sharedBytes: 2 ** 31 },
        { accesses: [{ buffer: data, mode: 'neither' }] },
        { accesses: [{ buffer: data, mode: 'read', bytes: 65 }] },
        { accesses: data },
      ]
      for (const change of wrong) {
        const launch = { ...good, ...change } as never
        await expectCode('SPILLWAY_INVALID_ARGUMENT', () => stream.launchKernel(kernel, launch))
      }
      stream.fill(data, 0)
      launchAdd(stream, kernel, data)
      expect(words(await readBack(device, data, stream))).toEqual(Array(16).fill(1))
      await Promise.all([kernel, data, stream].map((handle) => handle.dispose()))
    }))
})

// A GPU that was lost is lost for its process.
describeOnCuda('in a process of its own', () => {
  const run = (mode: string, environment: NodeJS.ProcessEnv = {}) => {
    const options = { encoding: 'utf8', env: { ...process.env, ...environment }, timeout: 60_000 } as const
    const { stdout, stderr, status } = spawnSync(process.execPath, [child, mode], options)
    expect([status, stderr]).toEqual([0, ''])
    return JSON.parse(stdout) as unknown
  }

  test('a kernel that writes where there is nothing loses the device; every promise settles, the process lives', () => {
    expect(run('lose')).toEqual({
      waiting: Array(3).fill('SPILLWAY_DEVICE_LOST'),
      afterwards: Array(4).fill('SPILLWAY_DEVICE_LOST'),
      hostBytes: [7, 7, 7],
      liveHandles: 0,
      reopened: 'SPILLWAY_DEVICE_LOST',
    })
  })

  test('CUDA_VISIBLE_DEVICES hides GPUs', () => {
    expect(run('status', { CUDA_VISIBLE_DEVICES: '' })).toMatchObject({
      available: false,
      reason: expect.stringMatching(/CUDA_VISIBLE_DEVICES/),
      open: 'SPILLWAY_DEVICE_UNAVAILABLE',
    })
    expect(run('status', { CUDA_VISIBLE_DEVICES: '0' })).toMatchObject({ available: true, gpus: 1, open: 'opened' })
  })
})
