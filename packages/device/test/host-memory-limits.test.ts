import { expect, test } from 'vitest'
import { expectCode, MiB, onDevice } from './device-rig.js'
import { expectOneRegistrationABuffer, meminfo, withSystemFiles } from './memory-limits.js'

const roomy = meminfo({ available: 2 ** 39 })
const group = (path: string, files: Record<string, string | number>): Record<string, string | number> =>
  Object.fromEntries(Object.entries(files).map(([name, value]) => [`sys/fs/cgroup${path}/${name}`, value]))

interface Row {
  readonly machine: string
  readonly files: Readonly<Record<string, string | number>>
  /** Of the limit that refuses 64 MiB. */
  readonly limit: string
  readonly limitBytes: number
  readonly freeBytes: number
  readonly remedy: RegExp
}

const limited: Row[] = [
  {
    machine: 'with little memory left',
    files: meminfo({ total: 512 * MiB, available: 10 * MiB }),
    limit: 'MemAvailable',
    limitBytes: 512 * MiB,
    freeBytes: 10 * MiB,
    remedy: /close other programs/,
  },
  {
    machine: 'whose group, in a namespace of its own, has a limit',
    files: {
      ...roomy,
      'proc/self/cgroup': '0::/',
      ...group('', {
        'memory.max': 100 * MiB,
        'memory.current': 90 * MiB,
        'memory.stat': 'anon 1\ninactive_file 1048576',
      }),
    },
    limit: 'memory.max',
    limitBytes: 100 * MiB,
    freeBytes: 11 * MiB,
    remedy: /MemoryMax=/,
  },
  {
    machine: 'where a group far above has the limit',
    files: {
      ...roomy,
      'proc/self/cgroup': '0::/system.slice/model.service/worker',
      ...group('/system.slice/model.service/worker', { 'memory.max': 'max', 'memory.current': 1 }),
      ...group('/system.slice/model.service', { 'memory.max': 'max', 'memory.high': 'max', 'memory.current': 1 }),
      ...group('/system.slice', { 'memory.max': 70 * MiB, 'memory.current': 20 * MiB }),
    },
    limit: 'memory.max of /system.slice',
    limitBytes: 70 * MiB,
    freeBytes: 50 * MiB,
    remedy: /docker run --memory/,
  },
  {
    machine: 'where the kernel would slow the group down for ever',
    files: {
      ...roomy,
      'proc/self/cgroup': '0::/a',
      ...group('/a', { 'memory.max': 2 ** 38, 'memory.high': 32 * MiB, 'memory.current': MiB }),
    },
    limit: 'memory.high of /a',
    limitBytes: 32 * MiB,
    freeBytes: 31 * MiB,
    remedy: /Kubernetes/,
  },
  {
    machine: 'with control groups of version 1, seen from within a container',
    files: {
      ...roomy,
      'proc/self/cgroup': '9:name=systemd:/docker/1\n4:cpu,memory:/docker/1\n0::/',
      ...group('/memory', {
        'memory.limit_in_bytes': 64 * MiB,
        'memory.usage_in_bytes': 40 * MiB,
        'memory.stat': `total_inactive_file ${8 * MiB}\ntotal_active_file ${8 * MiB}\ninactive_file 999`,
      }),
    },
    limit: 'memory.limit_in_bytes',
    limitBytes: 64 * MiB,
    freeBytes: 40 * MiB,
    remedy: /higher memory limit/,
  },
  {
    machine: 'whose group has passed its limit already',
    files: {
      ...roomy,
      'proc/self/cgroup': '0::/',
      ...group('', { 'memory.max': 10 * MiB, 'memory.current': 11 * MiB }),
    },
    limit: 'memory.max',
    limitBytes: 10 * MiB,
    freeBytes: 0,
    remedy: /smaller model/,
  },
]

test.each(limited)('a machine $machine refuses before anything is touched, and says which limit', (row) =>
  withSystemFiles(row.files, () =>
    onDevice({}, async (device) => {
      for (const storage of ['pinned', 'mapped', 'pageable'] as const) {
        const touched: number[] = []
        const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () =>
          device.allocateHost(64 * MiB, { storage, onProgress: ({ touchedBytes }) => touched.push(touchedBytes) }),
        )
        expect(error.details).toMatchObject({
          requestedBytes: 64 * MiB,
          freeBytes: row.freeBytes,
          limit: row.limit,
          limitBytes: row.limitBytes,
        })
        expect(error.message).toContain(`the limit ${row.limit}.`)
        expect(error.message).toMatch(row.remedy)
        expect(touched.filter((bytes) => bytes > 0)).toEqual([])
      }
      // One that fits is granted, to the byte.
      if (row.freeBytes > 0) await (await device.allocateHost(row.freeBytes, { storage: 'pageable' })).dispose()
      await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocateHost(row.freeBytes + 1, { storage: 'pageable' }))
      expect(device.hostMemory().reservedBytes).toBe(0)
    }),
  ),
)

test.each<[string, Record<string, string | number>]>([
  ['says nothing', {}],
  [
    'writes no limit',
    { ...roomy, 'proc/self/cgroup': '0::/', ...group('', { 'memory.max': 'max', 'memory.current': 5 }) },
  ],
  [
    'writes no limit in version 1',
    {
      ...roomy,
      'proc/self/cgroup': '4:memory:/x',
      ...group('/memory/x', { 'memory.limit_in_bytes': '9223372036854771712', 'memory.usage_in_bytes': 5 }),
    },
  ],
  [
    'writes what nobody can read',
    {
      'proc/meminfo': 'MemAvailable: many\n\0:::',
      'proc/self/cgroup': '0\n::\n:\n0::relative\n7:memory\n',
      ...group('', { 'memory.max': '-' }),
    },
  ],
])('a machine that %s limits nothing', (_, files) =>
  withSystemFiles(files, () =>
    onDevice({}, async (device) => {
      await (await device.allocateHost(MiB, { storage: 'pinned' })).dispose()
    }),
  ),
)

test('memory that may be swapped out can have the swap that machine and group leave', () =>
  withSystemFiles(
    {
      ...meminfo({ available: 8 * MiB, swapFree: 100 * MiB }),
      'proc/self/cgroup': '0::/g',
      ...group('/g', {
        'memory.max': 16 * MiB,
        'memory.current': 0,
        'memory.swap.max': 40 * MiB,
        'memory.swap.current': 10 * MiB,
      }),
    },
    () =>
      onDevice({}, async (device) => {
        await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocateHost(9 * MiB, { storage: 'pinned' }))
        await (await device.allocateHost(46 * MiB, { storage: 'pageable' })).dispose()
        const { details } = await expectCode('SPILLWAY_OUT_OF_MEMORY', () =>
          device.allocateHost(47 * MiB, { storage: 'pageable' }),
        )
        expect(details).toMatchObject({ limit: 'memory.max of /g', freeBytes: 46 * MiB })
      }),
  ))

test('two large allocations at once are not both told that there is room', () =>
  withSystemFiles(meminfo({ available: 600 * MiB }), () =>
    onDevice({}, async (device) => {
      const first = device.allocateHostParts([4096, 512 * MiB], { storage: 'pinned' })
      const part = (await first.next()).value!
      // Its first page is there, the rest on its way.
      const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () =>
        device.allocateHost(512 * MiB, { storage: 'pinned' }),
      )
      expect(error.message).toContain('more is being allocated at this moment')
      expect(error.details.freeBytes).toBeLessThan(600 * MiB)
      await first.return()
      await part.dispose()
      expect(device.hostMemory().reservedBytes).toBe(0)
      await (await device.allocateHost(512 * MiB, { storage: 'pageable' })).dispose()
    }),
  ))

test('a buffer is one registration, of at most 64 GiB', () => onDevice({}, expectOneRegistrationABuffer))

test('the sum of all parts is asked for before the first is made', () =>
  withSystemFiles(meminfo({ available: 10 * MiB }), () =>
    onDevice({}, async (device) => {
      const parts = device.allocateHostParts([4 * MiB, 4 * MiB, 4 * MiB], { storage: 'pinned' })
      const error = await expectCode('SPILLWAY_OUT_OF_MEMORY', () => parts.next())
      expect(error.details).toMatchObject({ requestedBytes: 12 * MiB, freeBytes: 10 * MiB })
      expect(device.failures.passed().allocation).toBe(0)
    }),
  ))

test('this machine has limits, and they are told', () =>
  onDevice({}, async (device) => {
    const { limits, reservedBytes } = device.hostMemory()
    expect(limits.map(({ name }) => name)).toContain('MemAvailable')
    for (const { limitBytes, availableBytes } of limits) expect(availableBytes).toBeLessThanOrEqual(limitBytes)
    expect(reservedBytes).toBe(0)
  }))
